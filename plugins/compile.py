"""`python -m saguaro.plugins.compile`: every kernel variant for every supported GPU, with none present.

Prints registers, spills and shared memory. Exits with 1 if a variant does not compile, spills, or wants more
shared memory than a program may have.
"""

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from .variants import TARGETS, Binary, compile_variant

PLUGINS = ("noise", "tree_accept", "tree_attention", "kv_compact")
# KiB of shared memory one block may have (CUDA C++ Programming Guide, "Compute Capabilities").
SHARED_LIMIT = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}


@dataclass(frozen=True)
class Usage:
    """What ptxas reports of one kernel: registers a thread, bytes spilled, bytes of shared memory."""

    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int


def usage(binary: Binary, capability: int) -> Usage:
    """Assembles the PTX once more with `ptxas -v`: Triton reads these numbers only from a loaded kernel."""
    target = re.search(r"^\.target (sm_\w+)", binary.ptx, re.MULTILINE)
    if target is None:
        raise ValueError(f"the PTX of {binary.name} names no target")
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "kernel.ptx")
        with open(source, "w") as file:
            file.write(binary.ptx)
        command = [ptxas(capability), "-v", f"--gpu-name={target.group(1)}", source]
        done = subprocess.run([*command, "-o", source + ".cubin"], capture_output=True, text=True, check=True)
    return parse_usage(done.stderr, binary.shared_bytes)


def ptxas(capability: int) -> str:
    """The assembler that Triton itself would use."""
    from triton.backends.nvidia import compiler

    tool = compiler.get_ptxas(capability)
    return getattr(tool, "path", tool)


def parse_usage(report: str, dynamic_shared: int) -> Usage:
    """Numbers from the text of `ptxas -v`; shared memory is what the launch asks for and what is static."""
    registers = re.search(r"Used (\d+) registers", report)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    if registers is None or spills is None:
        raise ValueError(f"ptxas -v reported no registers or no spills: {report!r}")
    static = re.search(r"(\d+) bytes smem", report)
    return Usage(
        int(registers.group(1)),
        int(spills.group(1)),
        int(spills.group(2)),
        dynamic_shared + (int(static.group(1)) if static else 0),
    )


def plugin_variants(plugin: str) -> list:
    return importlib.import_module(f"{__package__}.{plugin}.variants").variants()


def measure(plugin: str, index: int, capability: int) -> Usage | str:
    """Compiles one variant; a failure is returned as text, so that the others are still reported."""
    variant = plugin_variants(plugin)[index]
    try:
        return usage(compile_variant(variant, capability), capability)
    except subprocess.CalledProcessError as error:
        return f"ptxas: {error.stderr.strip()[:200]}"
    except Exception as error:  # noqa: BLE001  the compiler raises its own classes, and each is a failure
        return f"{type(error).__name__}: {str(error).strip()[:200]}"


def complaint(result: Usage | str, capability: int) -> str:
    """Why a result is a failure; empty if it is none."""
    if isinstance(result, str):
        return result
    if result.spill_stores or result.spill_loads:
        return "spills"
    if result.shared_bytes > SHARED_LIMIT[capability] * 1024:
        return f"more shared memory than {SHARED_LIMIT[capability]} KiB"
    return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m saguaro.plugins.compile", description=__doc__)
    parser.add_argument("--plugin", action="append", choices=PLUGINS, help="only this one (repeatable)")
    parser.add_argument("--cc", action="append", type=int, choices=TARGETS, help="only this target (repeatable)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    work = [
        (plugin, index, variant, capability)
        for plugin in chosen.plugin or PLUGINS
        for index, variant in enumerate(plugin_variants(plugin))
        for capability in chosen.cc or TARGETS
    ]
    out, failures = sys.stdout, 0
    out.write(f"{'kernel':<20} {'variant':<32} {'cc':>4} {'regs':>5} {'spill st/ld':>12} {'shared':>8}\n")
    with ProcessPoolExecutor(chosen.jobs) as pool:
        jobs = [pool.submit(measure, plugin, index, capability) for plugin, index, _, capability in work]
        for (_, _, variant, capability), job in zip(work, jobs, strict=True):
            result = job.result()
            wrong = complaint(result, capability)
            failures += bool(wrong)
            numbers = f"{'-':>5} {'-':>12} {'-':>8}"
            if isinstance(result, Usage):
                spill = f"{result.spill_stores}/{result.spill_loads}"
                numbers = f"{result.registers:>5} {spill:>12} {result.shared_bytes:>8}"
            line = f"{variant.kernel.__name__:<20} {variant.name:<32} {capability / 10:>4} {numbers}  {wrong}"
            out.write(line.rstrip() + "\n")
            out.flush()
    out.write(f"{len(work)} compiled for {len(chosen.cc or TARGETS)} targets, {failures} failed\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
