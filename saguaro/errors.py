"""The errors that a user can cause or meet. Each carries one sentence that says what to do about it."""

from __future__ import annotations


class SaguaroError(Exception):
    """Base of every error that Saguaro raises on purpose. The command line exits with 1 on it."""


class InputError(SaguaroError, ValueError):
    """Bad usage or bad input: names the file, field and value, what was expected, and what to do.

    The command line prints the sentence and exits with 2.
    """


class CheckpointError(InputError):
    """A checkpoint that is missing, malformed, unsupported, or does not fit its partner."""


class EngineError(InputError):
    """An engine directory that is missing, damaged, half built, or made for something else."""


class ConfigError(InputError):
    """A deployment file or option with an unknown key, a wrong type or a value out of range."""


class RequestError(InputError):
    """A generation request that cannot be served: empty or too long a prompt, a parameter out of range."""
