"""Is what the tuner chose the quickest? Runs every setting that it only predicted, then the quickest of them again.

    saguaro build configs/demo.yaml -o engines/tune --lookahead 8 --budget 24 --tree-nodes 16
    saguaro tune engines/tune
    python benchmarks/tuner_grid.py engines/tune [--report FILE.json] [--output FILE.json]

Batch size 1. The settings take turns, prompt by prompt over some of those that were tuned on; a setting's speed is the
median over its passes, of each over AR's. All run once; of so many, the quickest by one pass is the luckiest, so the
finalists and the tuner's choice run several times more, and these passes alone are compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from saguaro import LLM
from saguaro.cli.bundled import own_prompts
from saguaro.cli.prompt_input import read_prompts
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings
from saguaro.tuner.turns import take_turns

FINALISTS = 10


def speeds(runner: Runner, settings: list[Settings], repeat: int) -> dict[Settings, float]:
    """Over AR's, which is one of them."""
    taken: dict[Settings, list[float]] = {one: [] for one in settings}
    for again in range(repeat):
        turns = take_turns(runner, settings, 1, seed=again, done=lambda: print(".", end="", flush=True))  # noqa: T201
        for one, turn in zip(settings, turns, strict=True):
            taken[one].append(turn.speed)
    return {one: median(passes) for one, passes in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--report", type=Path, help="the tuner's; as a default beside the engine")
    parser.add_argument("--prompts", type=int, default=12, help="the first so many of those tuned on")
    parser.add_argument("--repeat", type=int, default=5, help="passes of the finalists")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/tuner_grid.json")
    options = parser.parse_args()
    report = json.loads((options.report or options.engine.with_name(f"{options.engine.name}.tuning.json")).read_text())
    predicted = {
        Settings(**{name: row[name] for name in Settings.__annotations__}): row["predicted"]["1"]
        for row in report["grid"]
    }
    chosen, ar = Settings(**report["chosen"]), next(one for one in predicted if one.mode == "ar")
    with LLM(options.engine) as llm:
        lines = read_prompts(own_prompts(llm.manifest))[: options.prompts]
        prompts = [llm.tokenizer.encode(line.prompt) for line in lines]
        runner = Runner(llm, prompts, max_tokens=64, temperature=0.0)
        runner.statistics = report["statistics"]
        once = speeds(runner, list(predicted), 1)
        quickest = sorted(once, key=lambda one: -once[one])[:FINALISTS]
        often = speeds(runner, list(dict.fromkeys([ar, chosen, *quickest])), options.repeat)
    rows = [
        {**one.to_dict(), "predicted": predicted[one] / predicted[ar], "once": once[one], "often": often.get(one)}
        for one in sorted(once, key=lambda one: -once[one])
    ]
    result = {
        "prompts": len(prompts),
        "repeat": options.repeat,
        "settings": len(rows),
        "chosen": chosen.to_dict(),
        "chosen_over_best": often[chosen] / max(often.values()),
        "grid": rows,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print("\n" + json.dumps({name: value for name, value in result.items() if name != "grid"}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
