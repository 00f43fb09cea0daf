"""The TensorRT library itself: finding it, and what it says while it works."""

from __future__ import annotations

import importlib
import logging
from functools import lru_cache
from typing import Any

from saguaro.errors import ConfigError

_log = logging.getLogger("saguaro.tensorrt")
_log.addHandler(logging.NullHandler())  # what matters is raised too: say nothing where nobody set up logging


def load_library(module: str) -> Any:
    """The TensorRT module `tensorrt_rtx` or `tensorrt`. Raises ConfigError when it cannot be imported."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        extra = module.replace("_", "-")
        raise ConfigError(
            f"the backend {extra} needs the library {module}, which cannot be imported ({error}); "
            f"install it with: pip install saguaro[{extra}]"
        ) from error


@lru_cache
def library_log(trt: Any) -> Any:
    """An `ILogger` that writes to the logger "saguaro.tensorrt" and keeps what went wrong in `last_error`.

    There is one for each library, since the library keeps to the first that it is given.
    """
    severity = trt.ILogger.Severity
    levels = {severity.WARNING: logging.WARNING, severity.INFO: logging.INFO, severity.VERBOSE: logging.DEBUG}

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.ERROR)
            # Without a driver each failure ends with a complaint about that; the reason came before it.
            if level == logging.ERROR and not (self.last_error and "CUDA driver version" in message):
                self.last_error = message
            _log.log(level, "%s", message)

    return Log()
