"""The study of the outcome policy: `python benchmarks/policy_study.py [--sections ...]`, into docs/policy.md.

Builds an engine of the demo pair with room for everything, runs the parts in `study/`, keeps what they give in
`results/policy_study.json`, and writes the page with its pictures. A section that is not asked for stays as it was
measured last. Needs matplotlib (`pip install -e '.[study]'`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from study import hits, misses, page, plots, rejection, timeline, trees

from saguaro import LLM, build

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
MEASURED: dict[str, Callable[[LLM, int], Any]] = {
    "misses": misses.measure, "hits": hits.measure, "all_prompts": hits.measure_all, "trees": trees.measure,
    "rejection": rejection.measure,
}  # fmt: skip
ROOM = {"lookahead": 8, "budget": 40, "tree_nodes": 32, "max_batch_size": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, default=ROOT / "engines" / "study")
    parser.add_argument("--prompts", type=int, default=40, help="how many of the demo pair's prompts")
    parser.add_argument("--sections", default=",".join([*MEASURED, "timeline"]), help="comma-separated; empty: none")
    options = parser.parse_args()
    if not options.engine.exists():
        build(ROOT / "configs" / "demo.yaml", output=options.engine, **ROOM)
    file = RESULTS / "policy_study.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results["prompts"] = options.prompts
    sections = [name for name in options.sections.split(",") if name]
    with LLM(options.engine) as llm:
        for name, measure in MEASURED.items():
            if name in sections:
                click.echo(f"{name} ...", err=True)
                results[name] = measure(llm, options.prompts)
                file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name in ("batches", "tuning"):  # measured by scripts of their own
        results[name] = json.loads((RESULTS / f"{name}.json").read_text())
    trace = ROOT / "build" / "trace.json"
    if "timeline" in sections or not trace.exists():
        trace.parent.mkdir(exist_ok=True)
        command = [Path(sys.executable).with_name("saguaro"), "bench", ROOT / "engines" / "demo", "--max-tokens", "48"]
        subprocess.run([*map(str, command), "--repeat", "1", "--trace", str(trace)], check=True)
        timeline.draw(trace, DOCS / "policy-timeline.png")
    for name in ("misses", "hits", "trees"):
        getattr(plots, name)(results[name], DOCS / f"policy-{name}.png")
    plots.rejection(results["rejection"]["saguaro_sampling"], DOCS / "policy-rejection.png")
    plots.batches(results["batches"]["batch_sizes"], DOCS / "policy-batches.png")
    plots.predictions(page.predictions(results["tuning"]), DOCS / "policy-predictions.png")
    (DOCS / "policy.md").write_text(page.write(results), encoding="utf-8")


if __name__ == "__main__":
    main()
