"""The torch backend on this GPU: AR, SD and SSD, overlap, and forward times against the bandwidth floor.

    python benchmarks/gpu.py [--output FILE.json] [--cpu-dry-run]

Two pairs: the demo pair, and the same inflated to the shapes of Llama 3.1 8B and Llama 3.2 1B (real text's
acceptance rates at the cost of a real pair's bytes). Results are written after every part, and a part for
which the time left (`--limit`) is too short is skipped and says so. Without a GPU it ends with exit code 2;
`--cpu-dry-run` takes the same path over tiny parts on the CPU, to know that the script works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from saguaro import LLM, SamplingParams, build
from saguaro.cli.measure import compare
from saguaro.cli.prompt_input import read_prompts
from saguaro.engine.directory import open_engine_directory
from saguaro.engine.manifest import Manifest, ModelEntry
from saguaro.engine.precision import PRECISIONS
from saguaro.models.weights import engine_weights
from saguaro.runtime.load import load_session, session_device
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.worker import Worker

HERE = Path(__file__).parent
DEMO = HERE.parent / "examples/demo"
PREFIX = 200  # cache rows before the tokens of a measured step
LIKE = {
    False: {"target": ["--like", "llama-3.1-8b"], "draft": ["--like", "llama-3.2-1b"]},
    True: {"target": ["--num-layers", "9"], "draft": ["--num-layers", "3"]},  # the dry run's
}


def seconds_of(call: Callable[[], object], device: torch.device, repeat: int) -> tuple[float, float]:
    """Of one call among `repeat` in a row: until the device had done it, and until the host had queued it."""
    for _ in range(5):
        call()
    _wait(device)
    start = perf_counter()
    for _ in range(repeat):
        call()
    queued = perf_counter() - start
    _wait(device)
    return (perf_counter() - start) / repeat, queued / repeat


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a large copy reaches, reads and writes together; the median of five bursts."""
    source = torch.empty(2**32 if device.type == "cuda" else 2**26, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median(
        seconds_of(lambda: target.copy_(source), device, 5)[0] for _ in range(5)
    )  # fmt: skip


def bytes_read(entry: ModelEntry, precision: str) -> int:
    """Of the weights in one forward pass: all, but for an embedding that is not also the head."""
    config, sizes = entry.model_config, {}
    for name, weight in engine_weights(config).items():
        if name != "model.embed_tokens.weight" or config.tie_word_embeddings:
            sizes[weight.parts] = torch.Size(weight.shape).numel()
    return sum(sizes.values()) * PRECISIONS[precision].itemsize


def forwards(engine: Path, bytes_per_second: float, repeat: int) -> dict[str, Any]:
    """Each model's steps as rounds have them, on a stream of its own, one model at a time."""
    manifest = open_engine_directory(engine)
    lookahead, budget = manifest.speculation["lookahead"], manifest.speculation["budget"]
    branches = lookahead + 1 + lookahead * budget
    shapes = {
        "target": {"decode": (1, 1), "verify": (lookahead + 1, lookahead + 1)},
        "draft": {"decode": (1, 1), "chain": (lookahead + 1, lookahead + 1), "branches": (budget, branches)},
    }
    result: dict[str, Any] = {}
    for role, steps in shapes.items():
        entry: ModelEntry = getattr(manifest, role)
        worker = Worker(role, session_device(manifest, entry), entry.threads)
        try:
            floor = bytes_read(entry, manifest.precision) / bytes_per_second
            values = {"weight_bytes": bytes_read(entry, manifest.precision), "floor_ms": floor * 1e3}
            values |= worker.run(_steps, engine, role, manifest, steps, floor, repeat)
            result[role] = values
        finally:
            worker.close()
    return result


def _steps(
    engine: Path, role: str, manifest: Manifest, shapes: dict[str, tuple[int, int]], floor: float, repeat: int
) -> dict[str, Any]:
    session = load_session(engine, role, manifest, None)
    result: dict[str, Any] = {}
    for name, (tokens, rows) in shapes.items():
        step = last_rows(session, tokens, rows)
        took, queued = seconds_of(lambda step=step: session.forward(step), session.device, repeat)
        result[name] = {
            "tokens": tokens, "ms": took * 1e3, "queued_ms": queued * 1e3, "share_of_floor": floor / took
        }  # fmt: skip
    result["captured_shapes"] = getattr(session, "captured_shapes", [])
    session.close()
    return result


def last_rows(session: Session, tokens: int, rows: int) -> Step:
    """A step of the last `tokens` of `rows` rows after the prefix; each token sees the rows up to its own."""
    device = session.device
    ids = torch.arange(1, tokens + 1, device=device).unsqueeze(0)
    visible = torch.ones(rows, rows, dtype=torch.bool, device=device).tril()[-tokens:].unsqueeze(0)
    return Step(ids, ids + PREFIX + rows - tokens - 1, [PREFIX], visible, [PREFIX + rows - tokens])


def pair(work: Path, name: str, precision: str, options: argparse.Namespace, speed: float) -> dict[str, Any]:
    """Build the pair, inflated or as it is, and measure it."""
    checkpoints, clock = {role: DEMO / role for role in ("target", "draft")}, perf_counter()
    if name == "inflated":
        for role, like in LIKE[options.cpu_dry_run].items():
            checkpoints[role] = work / role
            arguments = [str(DEMO / role), str(work / role), *like, "--dtype", precision]
            subprocess.run([sys.executable, str(HERE / "inflate.py"), *arguments], check=True)
    inflated = perf_counter() - clock
    engine = build(
        target=str(checkpoints["target"]), draft=str(checkpoints["draft"]), output=work / f"{name}-engine",
        backend="torch", precision=precision, max_batch_size=1, max_seq_len=1024, enforce_eager=True,
    )  # fmt: skip
    built = perf_counter() - clock - inflated
    for checkpoint in checkpoints.values():
        if checkpoint.parent == work:
            shutil.rmtree(checkpoint)  # the engine has its own copy
    prompts = read_prompts(DEMO / "prompts.jsonl")[: options.prompts]
    result: dict[str, Any] = {"precision": precision, "inflate_seconds": inflated, "build_seconds": built}
    result["forward"] = forwards(engine, speed, 3 if options.cpu_dry_run else 50)
    with LLM(engine) as llm:
        for temperature in (0.0, 0.8):
            params = SamplingParams(max_tokens=options.max_tokens, temperature=temperature, seed=0)
            comparison = compare(llm, prompts, ["ar", "sd", "ssd"], params, options.repeat)
            result[f"temperature_{temperature:g}"] = comparison.to_dict()
    shutil.rmtree(engine)
    return result


def kernels(options: argparse.Namespace) -> dict[str, float]:
    """Microseconds of each plugin call, from benchmarks/kernels.py."""
    device, vocabulary = ("cpu", "256") if options.cpu_dry_run else ("cuda", "128256")
    command = [sys.executable, str(HERE / "kernels.py"), "--device", device, "--vocabulary", vocabulary]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    heading, result = "", {}
    for line in lines:
        *name, number, unit = line.split()
        if unit == "us":
            result[f"{heading} {' '.join(name)}".strip()] = float(number)
        else:
            heading = line
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=HERE / "results/gpu.json")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--limit", type=float, default=520, help="seconds for everything")
    parser.add_argument("--cpu-dry-run", action="store_true")
    options = parser.parse_args()
    began = perf_counter()
    if options.cpu_dry_run:
        options.max_tokens, options.prompts, options.repeat = 4, 1, 1
    elif not torch.cuda.is_available():
        sys.stderr.write("benchmarks/gpu.py measures an NVIDIA GPU and torch finds none; try --cpu-dry-run\n")
        return 2
    device = torch.device("cpu" if options.cpu_dry_run else "cuda:0")
    speed = bandwidth(device)
    report: dict[str, Any] = {
        "device": "cpu" if options.cpu_dry_run else torch.cuda.get_device_name(device),
        "torch": torch.__version__, "copy_bytes_per_second": speed,
    }  # fmt: skip
    torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as work:
        parts: dict[str, tuple[float, Callable[[], object]]] = {  # seconds that each may take, and the part
            "demo": (100, lambda: pair(Path(work), "demo", "fp32", options, speed)),
            "inflated": (300, lambda: pair(Path(work), "inflated", "bf16", options, speed)),
            "kernels": (60, lambda: kernels(options)),
        }
        for name, (needed, part) in parts.items():
            start = perf_counter()
            if start - began + needed > options.limit:
                report[name] = {
                    "skipped": f"{options.limit - (start - began):.0f} s left, may need {needed:.0f}"
                }
            else:
                try:
                    report[name] = part()
                except Exception as error:  # noqa: BLE001 - the other parts' results are worth having
                    report[name] = {"error": f"{type(error).__name__}: {error}"}
            report[f"{name}_seconds"] = round(perf_counter() - start, 1)
            options.output.parent.mkdir(exist_ok=True)
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return int(any("error" in part for part in report.values() if isinstance(part, dict)))


if __name__ == "__main__":
    sys.exit(main())
