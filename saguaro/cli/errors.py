"""Errors as a sentence on standard error and an exit code, in this one place."""

from __future__ import annotations

import atexit
import signal
from typing import Any

import click

from saguaro.errors import InputError, SaguaroError

INTERRUPTED = 130  # as a shell reports a program that SIGINT ended


class ErrorsAsSentences(click.Group):
    """A group whose commands exit with 2 on bad input, 1 on a failure while running, 130 on Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise _BadInput(str(error)) from error
        except (SaguaroError, OSError) as error:
            if isinstance(error, BrokenPipeError):  # `| head` has had enough; click ends quietly
                raise
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # pressed once more while Python ends
            ctx.exit(INTERRUPTED)


class _BadInput(click.ClickException):
    exit_code = 2
