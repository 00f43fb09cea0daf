"""How long TensorRT builds take, and how much memory, for known models' shapes. Needs no GPU or checkpoint.

`python benchmarks/tensorrt_build.py` builds each shape in a process of its own, so that its peak memory is
its own, and writes benchmarks/results/tensorrt_build.json. With names of shapes: only those, not written.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from saguaro.builder.tensorrt import build_plan, load_library
from saguaro.models.config import ModelConfig, RopeScaling
from saguaro.models.weights import engine_weights

RESULTS = Path(__file__).parent / "results" / "tensorrt_build.json"


def llama(
    layers: int, hidden: int, heads: int, kv_heads: int, mlp: int, tied: bool, factor: float
) -> ModelConfig:
    return ModelConfig(
        architecture="LlamaForCausalLM", vocab_size=128256, hidden_size=hidden, intermediate_size=mlp,
        num_layers=layers, num_heads=heads, num_kv_heads=kv_heads, head_dim=hidden // heads,
        rms_norm_eps=1e-5, rope_theta=500000.0, rope_scaling=RopeScaling("llama3", factor),
        max_position_embeddings=131072, tie_word_embeddings=tied, attention_bias=False,
        attention_output_bias=False, mlp_bias=False, qk_norm=False,
    )  # fmt: skip


# name: the shape, whether its weights go into the plan, and what the build may take in seconds and in bytes
SHAPES = {
    "llama-3.2-1b": (llama(16, 2048, 32, 8, 8192, True, 32.0), True, 90, None),
    "llama-3.1-8b": (llama(32, 4096, 32, 8, 14336, False, 8.0), False, 60, 4e9),
    "llama-3.1-70b": (llama(80, 8192, 64, 8, 28672, False, 8.0), False, 180, 4e9),
}


def random_weight(config: ModelConfig):
    """Gives random bf16 checkpoint tensors by name, each made when it is asked for."""
    parts = {}
    for weight in engine_weights(config).values():
        sizes = [config.num_heads * config.head_dim] + [config.num_kv_heads * config.head_dim] * 2
        if len(weight.parts) != 3:
            sizes = [weight.shape[0] // len(weight.parts)] * len(weight.parts)
        for name, size in zip(weight.parts, sizes, strict=True):
            parts[name] = (size, *weight.shape[1:])
    return lambda name: torch.randn(parts[name], dtype=torch.bfloat16) * 0.02


def measure(name: str) -> dict:
    config, embedded, seconds_bar, memory_bar = SHAPES[name]
    library = load_library("tensorrt_rtx")
    load = os.getloadavg()[0]
    started, started_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryFile() as plan:
        build_plan(
            config, plan.write, tensorrt=library, precision="bf16", max_batch_size=4, max_step=512, rows=4096,
            load_weight=random_weight(config) if embedded else None, compute_capabilities=["8.9"],
        )  # fmt: skip
        plan_bytes = plan.tell()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "shape": name, "weights": "embedded" if embedded else "external", "precision": "bf16",
        "compute_capabilities": ["8.9"], "max_batch_size": 4, "max_step": 512, "rows": 4096,
        "seconds": round(seconds, 1), "seconds_bar": seconds_bar,
        "cpu_seconds": round(time.process_time() - started_cpu, 1), "load_before": round(load, 1),
        "plan_bytes": plan_bytes,
        "peak_rss_bytes": peak, "peak_rss_bar": memory_bar, "library": f"tensorrt_rtx {library.__version__}",
        "met": seconds <= seconds_bar and (memory_bar is None or peak <= memory_bar),
    }  # fmt: skip


def main(names: list[str]) -> None:
    results = []
    for name in names or list(SHAPES):
        done = subprocess.run(
            [sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True
        )
        results.append(json.loads(done.stdout))
        print(done.stdout, flush=True)  # noqa: T201
    if names:
        return
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "builds": results}, indent=1) + "\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))  # noqa: T201
    else:
        main(sys.argv[1:])
