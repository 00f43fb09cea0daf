"""The TensorRT libraries themselves: finding one, and what it says while it works."""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from typing import Any

from saguaro.errors import ConfigError

OLDEST = {"tensorrt": (10, 15), "tensorrt_rtx": (1, 7)}  # the first that have all layers of our networks

_log = logging.getLogger("saguaro.tensorrt")
_log.addHandler(logging.NullHandler())  # what matters is raised too: say nothing where nobody set up logging


def library_name(backend: str) -> str:
    """The module of the backend "tensorrt" or "tensorrt-rtx"."""
    return backend.replace("-", "_")


def load_library(module: str) -> Any:
    """The module `tensorrt_rtx` or `tensorrt`. Raises ConfigError when it cannot be imported or is too old."""
    extra = module.replace("_", "-")
    advice = f"install it with: pip install saguaro[{extra}]"
    try:
        library = importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"the backend {extra} needs the library {module}, which cannot be imported ({error}); {advice}"
        ) from error
    oldest = OLDEST.get(module, (0,))
    if tuple(int(part) for part in library.__version__.split(".")[:2]) < oldest:
        least = ".".join(map(str, oldest))
        raise ConfigError(
            f"the backend {extra} needs {module} {least} or newer, and {library.__version__} is installed; {advice}"
        )
    return library


@lru_cache
def library_log(trt: Any) -> Any:
    """An `ILogger` that writes to the logger "saguaro.tensorrt" and keeps what went wrong.

    `first_error` and `last_error` are texts, empty since `clear()` where there was none. There is one log for each
    library, since the library keeps to the first that it is given.
    """
    severity = trt.ILogger.Severity
    levels = {severity.WARNING: logging.WARNING, severity.INFO: logging.INFO, severity.VERBOSE: logging.DEBUG}

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.clear()

        def clear(self) -> None:
            self.first_error = self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.ERROR)
            if level == logging.ERROR:
                self.first_error = self.first_error or message
                # Without a driver each failure ends with a complaint about that; the reason came before it.
                if not (self.last_error and "CUDA driver version" in message):
                    self.last_error = message
            _log.log(level, "%s", message)

    return Log()
