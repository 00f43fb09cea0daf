"""Is what the tuner chose the quickest? Runs every setting that it only predicted, and compares.

    saguaro build configs/demo.yaml -o engines/tune --lookahead 8 --budget 24 --tree-nodes 16
    saguaro tune engines/tune
    python benchmarks/tuner_grid.py engines/tune [--report FILE.json] [--repeat N] [--output FILE.json]

Batch size 1. The settings take turns, pass by pass over some of the prompts that were tuned on; a setting's speed is
the median over the passes of its speed over AR's in the same pass.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from saguaro import LLM
from saguaro.cli.bundled import own_prompts
from saguaro.cli.prompt_input import read_prompts
from saguaro.tuner.runs import Measured, Runner
from saguaro.tuner.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--report", type=Path, help="the tuner's; as a default beside the engine")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--prompts", type=int, default=10, help="the first so many of those tuned on")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/tuner_grid.json")
    options = parser.parse_args()
    report = json.loads((options.report or options.engine.with_name(f"{options.engine.name}.tuning.json")).read_text())
    rows = [{**row, "predicted": row["predicted"]["1"]} for row in report["grid"]]
    settings = [Settings(**{name: row[name] for name in Settings.__annotations__}) for row in rows]
    measured: list[Measured] = [Measured() for _ in settings]
    with LLM(options.engine) as llm:
        lines = read_prompts(own_prompts(llm.manifest))[: options.prompts]
        prompts = [llm.tokenizer.encode(line.prompt) for line in lines]
        runner = Runner(llm, prompts, max_tokens=64, temperature=options.temperature)
        runner.statistics = report["statistics"]
        for again in range(options.repeat):
            for number, (one, into) in enumerate(zip(settings, measured, strict=True)):
                runner.run(one, 1, into)
                print(f"\r{again * len(rows) + number + 1}/{options.repeat * len(rows)}", end="", flush=True)  # noqa: T201
    ar = next(i for i, one in enumerate(settings) if one.mode == "ar")
    unit = rows[ar]["predicted"]
    for row, into in zip(rows, measured, strict=True):
        row["predicted"] /= unit
        row["measured"] = median(x / y for x, y in zip(into.rates, measured[ar].rates, strict=True))
    chosen = next(row["measured"] for one, row in zip(settings, rows, strict=True) if one.to_dict() == report["chosen"])
    result = {
        "prompts": len(prompts),
        "settings": len(rows),
        "chosen": report["chosen"],
        "chosen_over_best": chosen / max(row["measured"] for row in rows),
        "grid": rows,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print("\n" + json.dumps({name: value for name, value in result.items() if name != "grid"}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
