"""The TensorRT libraries: found, too old, or missing, and what they log."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from saguaro.engine.tensorrt_library import library_log, load_library
from saguaro.errors import ConfigError


@pytest.mark.parametrize(("module", "extra"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")])
def test_a_missing_library_says_how_to_get_it(monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    advice = rf"pip install saguaro\[{extra}\]$"
    with pytest.raises(ConfigError, match=f"backend {extra} needs the library {module}, .*{advice}"):
        load_library(module)


@pytest.mark.parametrize(
    ("module", "version", "oldest"), [("tensorrt", "10.9.0.34", "10.15"), ("tensorrt_rtx", "1.6.9", "1.7")]
)
def test_a_library_that_is_too_old_is_refused(monkeypatch, module, version, oldest):
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(__version__=version))
    with pytest.raises(ConfigError, match=f"needs {module} {oldest} or newer, and {version} is installed"):
        load_library(module)


@pytest.mark.parametrize("version", ["10.15.0.1", "11.4.0.106"])
def test_a_library_that_is_new_enough_is_taken(monkeypatch, version):
    library = SimpleNamespace(__version__=version)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    assert load_library("tensorrt") is library


def test_the_log_keeps_the_first_and_the_last_error():
    class ILogger:
        Severity = SimpleNamespace(WARNING="warning", INFO="info", VERBOSE="verbose")

    trt = ModuleType("a_library")
    trt.ILogger = ILogger
    log = library_log(trt)
    log.log("error", "first")
    log.log("warning", "careful")
    log.log("error", "second")
    log.log("error", "CUDA driver version is insufficient for CUDA runtime version")
    assert (log.first_error, log.last_error) == ("first", "second")
    log.clear()
    assert (log.first_error, log.last_error) == ("", "")
