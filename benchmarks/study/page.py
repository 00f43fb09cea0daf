"""`docs/policy.md` from what the study measured."""

from __future__ import annotations

from typing import Any

from saguaro.tuner.settings import Settings
from study.misses import PAPER

PAGE = """# The policy, measured

`python benchmarks/policy_study.py` measures this and writes this page; its numbers are in
`benchmarks/results/policy_study.json`. The demo pair, fp32, {prompts} held-out prompts by 64 tokens, coupled
verification and K = 5 unless said otherwise. Rates do not depend on the machine; speeds are ratios of things run in
turn on two shared CPU cores.

## How often the bonus token is missed

![Miss rate against fan-out](policy-misses.png)

Where the draft's own choice is not the target's, the share of true tokens that are not among the draft's next F
candidates (dashed: the paper's Figure 3, another pair and other text). No single exponent fits it; the adaptive policy
needs none, since it goes by the candidates' scores.

{misses}

## Which outcomes are prepared

![Hit rate against budget](policy-hits.png)

Hit rate of the three ways to spend a budget B. The draft ends what it prepares even when the outcome is there, so that
the choice alone is measured. Each learns from nothing.

{hits}

40 prompts leave an uncertainty of one percent. After all {all_prompts[prompts]} beginnings in the held-out files that
they might have been chosen from, at T = 0 and B = 12: uniform {all_prompts[uniform]:.3f}, geometric
{all_prompts[geometric]:.3f}, adaptive {all_prompts[adaptive]:.3f}.

## Token trees

![Tokens per round of chains and trees](policy-trees.png)

Tokens per round in `sd`, where nothing depends on timing; trees have paths of up to 8 tokens.

{trees}

A tree of 16 brings {tree_gain} more tokens a round than a chain of 5 at T = 0, 0.7 and 1. On two CPU cores its
verification costs more than that; `saguaro tune` decides by the measured costs.

## Coupled and rejection verification

![Acceptance against hit rate](policy-rejection.png)

B = 24, adaptive. Saguaro sampling's C goes from 1 (plain sampling) to 0 on the curves.

Under coupled verification the draft hands over what it has when the outcome is there; rejection always waits for it.
This section is of the demo pair before 2026-11-26.

{rejection}

## Batches

![Speed against batch size](policy-batches.png)

`python benchmarks/batches.py`: tokens per second over AR at the same batch size, all in one interleaved run.

{batches}

## The tuner's predictions

![Predicted and measured speed](policy-predictions.png)

Speed over AR: what `saguaro tune` predicted for the settings that it ran, by simulating rounds on recorded text with
measured costs. Other passes, which take turns with those that verify, prompt by prompt, calibrate the costs: "here"
with these settings, "elsewhere" only with others of the same kind.

{predictions}

## Some rounds

![Rounds of SSD as they ran](policy-timeline.png)

From `saguaro bench --trace`. Above each round: whether its outcome was prepared, and the tokens that it brought. The
frames are the models' forward passes.
"""


def write(results: dict[str, Any]) -> str:
    trees = results["trees"]
    gains = [by_shape["tree of 16"] / by_shape["chain of 5"] - 1 for by_shape in trees.values()]
    return PAGE.format(
        prompts=results["prompts"],
        misses=table("F", {**{f"T = {t}": v for t, v in results["misses"].items()}, **_paper()}, "{:.2f}"),
        hits=table("B", _flat(results["hits"]), "{:.2f}"),
        all_prompts=results["all_prompts"],
        trees=table("", {f"T = {t}": by_shape for t, by_shape in trees.items()}, "{:.2f}"),
        tree_gain=", ".join(f"{gain:.0%}" for gain in gains),
        rejection=table("", _flat(results["rejection"]["modes"]), "{:.2f}", skip=("tokens_per_second",)),
        batches=table(
            "sequences", {n: v["speed_over_ar"] for n, v in results["batches"]["batch_sizes"].items()}, "{:.2f}"
        ),
        predictions=_predictions(results["tuning"]),
    )


def table(corner: str, rows: dict[str, dict[str, float]], form: str, skip: tuple[str, ...] = ()) -> str:
    columns = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name not in skip]
    headings = " | ".join(name.replace("_", " ") for name in columns)
    lines = [f"| {corner} | {headings} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [form.format(row[column]) if column in row else "" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def predictions(tuning: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each verified setting and batch size."""
    rows = []
    for one in tuning["verified"]:
        settings = Settings(**{name: one[name] for name in Settings.__annotations__})
        for batch, speed in one["measured"].items():
            rows.append(
                {"name": str(settings), "mode": one["mode"], "batch": batch, "predicted": one["predicted"][batch],
                 "measured": speed, "calibrated": one["calibrated"]}
            )  # fmt: skip
    return rows


def _flat(nested: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By temperature and kind."""
    return {f"T = {temperature}, {kind}": v for temperature, kinds in nested.items() for kind, v in kinds.items()}


def _predictions(tuning: dict[str, Any]) -> str:
    lines = ["| settings | batch | predicted | measured | predicted / measured | calibrated |", "|---" * 6 + "|"]
    for row in predictions(tuning):
        speeds = f"{row['predicted']:.2f} | {row['measured']:.2f} | {row['predicted'] / row['measured']:.2f}"
        lines.append(f"| {row['name']} | {row['batch']} | {speeds} | {'here' if row['calibrated'] else 'elsewhere'} |")
    return "\n".join(lines)


def _paper() -> dict[str, dict[str, float]]:
    return {f"the paper, T = {t}": {str(f): miss for f, miss in curve.items()} for t, curve in PAPER.items()}
