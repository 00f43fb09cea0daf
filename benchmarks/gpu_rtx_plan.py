"""Whether TensorRT for RTX plans that were built without a GPU load and run on the one at hand, and how fast.

    python benchmarks/gpu_rtx_plan.py --build DIR               # where there is a builder; needs no GPU
    python benchmarks/gpu_rtx_plan.py DIR [--site FOLDER]       # where there is a GPU; prints one JSON object

Plans of the demo pair, with their weights outside: "any" names no compute capability, "sm80" is for 8.0. Each
is run in a process of its own, so that one that crashes takes nothing with it. `torch` is the same pair in
the torch backend, whose greedy tokens the plans' are compared with. `--site` is where tensorrt_rtx lies.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from saguaro import SamplingParams
from saguaro.builder.checkpoint import load_tokenizer, open_checkpoint
from saguaro.builder.fused_weights import fused_weights
from saguaro.builder.progress import silent
from saguaro.cli.prompt_input import read_prompts
from saguaro.engine.precision import PRECISIONS
from saguaro.engine.rows import draft_rows, target_rows
from saguaro.runtime.pair import MODES, LoadedModel, Pair
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.cuda_session import CudaSession
from saguaro.runtime.sessions.session import Session
from saguaro.runtime.sessions.tensorrt_session import TensorRTSession

DEMO = Path(__file__).parent.parent / "examples/demo"
VARIANTS: dict[str, tuple[str, ...]] = {"any": (), "sm80": ("8.0",)}
SPECULATION = {"lookahead": 5, "budget": 24, "fan_out": "adaptive", "fallback": "draft"}
CHUNK, LENGTH = 128, 1024  # prompt tokens of one step, tokens of a sequence
ROWS = {"target": target_rows(LENGTH, 5), "draft": draft_rows(LENGTH, 5, 24)}
PROMPTS, TOKENS = 8, 64


def build(folder: Path, precision: str) -> None:
    """Write `folder/VARIANT/ROLE.plan`, and the precision beside them."""
    from saguaro.builder.tensorrt import build_plan, load_library

    library = load_library("tensorrt_rtx")
    for variant, capabilities in VARIANTS.items():
        (folder / variant).mkdir(parents=True, exist_ok=True)
        for role, rows in ROWS.items():
            start = perf_counter()
            with open(folder / variant / f"{role}.plan", "wb") as file:
                build_plan(
                    open_checkpoint(str(DEMO / role)).config, file.write, tensorrt=library,
                    precision=precision, max_batch_size=1, max_step=CHUNK, rows=rows,
                    compute_capabilities=capabilities,
                )  # fmt: skip
                size = file.tell()
            sys.stderr.write(f"{variant} {role}: {size / 1e6:.1f} MB in {perf_counter() - start:.1f} s\n")
    (folder / "precision").write_text(precision)


def load(folder: Path, variant: str, role: str, device: torch.device) -> Session:
    checkpoint, precision = open_checkpoint(str(DEMO / role)), (folder / "precision").read_text()
    limits: dict[str, Any] = {"rows": ROWS[role], "max_batch_size": 1, "device": device}
    if variant != "torch":
        return TensorRTSession(
            folder / variant / f"{role}.plan", checkpoint.config, library="tensorrt_rtx", precision=precision,
            load_weight=checkpoint.tensors.get, **limits,
        )  # fmt: skip
    dtype = PRECISIONS[precision]
    weights = fused_weights(checkpoint.config, checkpoint.tensors, dtype, silent, role)
    there = {name: tensor.to(device) for name, tensor in weights.items()}
    return CudaSession(checkpoint.config, there, dtype=dtype, **limits)


def measure(folder: Path, variant: str, device: torch.device) -> dict[str, Any]:
    """Load one variant and generate with it; what it came to is in the result even where it fails."""
    result: dict[str, Any] = {"deserialised": False, "ran": False}
    try:
        start = perf_counter()
        models = {
            role: LoadedModel(role, device, 1, lambda role=role: load(folder, variant, role, device))
            for role in ROWS
        }
        result |= {"deserialised": True, "load_seconds": perf_counter() - start}
        pair = Pair(models["target"], lambda: models["draft"], SPECULATION, CHUNK)
        tokenizer = load_tokenizer(DEMO / "target")
        prompts = [
            tokenizer.encode(str(line.prompt)) for line in read_prompts(DEMO / "prompts.jsonl")[:PROMPTS]
        ]
        for mode in MODES:
            generate(pair, prompts[0], mode)  # warms up
            start, tokens = perf_counter(), [generate(pair, prompt, mode) for prompt in prompts]
            speed = sum(map(len, tokens)) / (perf_counter() - start)
            result[mode] = {"tokens_per_second": speed, "token_ids": tokens}
        result["ran"] = True
        pair.close()
    except Exception as error:  # noqa: BLE001 - the reason is the result
        result["error"] = f"{type(error).__name__}: {error}"
    return result


def generate(pair: Pair, prompt: list[int], mode: str) -> list[int]:
    """Greedy, always `TOKENS` tokens."""
    sequence = Sequence(list(prompt), SamplingParams(max_tokens=TOKENS, temperature=0), 0, frozenset())
    for _ in pair.run([sequence], mode):
        pass
    return sequence.generated


def in_a_process(folder: Path, variant: str, device: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(folder), "--one", variant, "--device", device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": "did not end within 180 s"}
    except (IndexError, ValueError):
        return {"error": f"ended with code {done.returncode}", "stderr": done.stderr[-2000:]}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plans", type=Path, nargs="?")
    parser.add_argument("--build", type=Path, metavar="DIR")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="fp32", help="of the plans to build")
    parser.add_argument("--site", type=Path)
    parser.add_argument("--device", default="cuda:0", help="cpu: only the torch variant, to try the script")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.site:
        sys.path.insert(0, str(options.site.absolute()))
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(options.site.absolute()), os.environ.get("PYTHONPATH", "")]
        )
    if options.build:
        build(options.build, options.precision)
        return 0
    if options.plans is None or not (options.plans / "precision").exists():
        parser.error("name a folder that --build DIR has filled")
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.stderr.write("benchmarks/gpu_rtx_plan.py runs plans on an NVIDIA GPU and torch finds none\n")
        return 2
    if options.one:
        result = measure(options.plans, options.one, torch.device(options.device))
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    names = ["torch"] if options.device == "cpu" else ["torch", *VARIANTS]
    report = {name: in_a_process(options.plans, name, options.device) for name in names}
    expected = report["torch"].get("ar", {}).get("token_ids")
    for result in report.values():
        for mode in MODES:
            if mode in result:
                tokens = result[mode].pop("token_ids")
                result[mode]["prompts"] = len(tokens)
                if expected:
                    same = sum(a == b for a, b in zip(tokens, expected, strict=True))
                    result[mode]["prompts_as_torch_ar"] = same
    about: dict[str, Any] = {"device": "cpu", "precision": (options.plans / "precision").read_text()}
    if options.device != "cpu":
        about["device"] = torch.cuda.get_device_name(options.device)
        about["compute_capability"] = "{}.{}".format(*torch.cuda.get_device_capability(options.device))
    sys.stdout.write(json.dumps(about | report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
