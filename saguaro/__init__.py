"""Saguaro: exact speculative speculative decoding on compiled engines.

    from saguaro import LLM, SamplingParams, build

    build("configs/demo.yaml", output="engines/demo")
    llm = LLM("engines/demo", mode="ssd")
    for output in llm.generate(["def f(", "class A"], SamplingParams(max_tokens=64, seed=7)):
        print(output.outputs[0].text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saguaro.api import build
    from saguaro.llm import LLM
    from saguaro.outputs import Chunk, CompletionOutput, RequestOutput
    from saguaro.runtime.sampling_params import SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "Chunk", "CompletionOutput", "RequestOutput", "SamplingParams", "build"]

# Found on first use: `saguaro --help` should not wait for torch.
_HOMES = {
    "LLM": "saguaro.llm",
    "SamplingParams": "saguaro.runtime.sampling_params",
    "build": "saguaro.api",
    "Chunk": "saguaro.outputs",
    "CompletionOutput": "saguaro.outputs",
    "RequestOutput": "saguaro.outputs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'saguaro' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
