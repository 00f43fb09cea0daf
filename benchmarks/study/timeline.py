"""Some rounds as they ran, drawn from a trace that `saguaro bench --trace` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import itertools

from matplotlib import pyplot as plt

ROUNDS = 9
COLOURS = {
    "verification": "tab:blue", "preparation": "tab:green", "fallback": "tab:red", "forward": "none",
}  # fmt: skip


def draw(trace: Path, file: Path, mode: str = "ssd") -> None:
    """From the first miss that has hits before and after it."""
    events: list[dict[str, Any]] = json.loads(trace.read_text())["traceEvents"]
    process = next(e["pid"] for e in events if e["name"] == "process_name" and e["args"]["name"] == mode)
    own = [event for event in events if event["pid"] == process and event["ph"] == "X"]
    rounds = sorted((e for e in own if e["cat"] == "round"), key=lambda e: e["ts"])
    middle = next(
        (i for i in range(4, len(rounds) - 5) if rounds[i]["name"] == "miss" and _together(rounds[i - 3 : i + 6])), 4
    )
    shown = rounds[middle - 3 : middle - 3 + ROUNDS]
    zero, end = shown[0]["ts"], shown[-1]["ts"] + shown[-1]["dur"]
    _, axes = plt.subplots(figsize=(11, 2.6))
    for event in own:
        if event["cat"] == "round" or event["ts"] + event["dur"] < zero or event["ts"] > end:
            continue
        lane = 1 if event["cat"] == "target" else 0
        start, length = (event["ts"] - zero) / 1000, event["dur"] / 1000
        if event["name"] == "forward":
            axes.barh(lane, length, left=start, height=0.36, fill=False, edgecolor="black", lw=0.5)
        elif event["name"] in COLOURS:
            axes.barh(lane, length, left=start, height=0.6, color=COLOURS[event["name"]], alpha=0.55)
    for event in shown:
        start = (event["ts"] - zero) / 1000
        colour = "tab:red" if event["name"] == "miss" else "black"
        axes.axvline(start, color="grey", lw=0.6)
        text = f"{event['name']}, {event['args']['tokens']}"
        axes.text(start + event["dur"] / 2000, 1.55, text, ha="center", fontsize=7, color=colour)
    for name, colour in COLOURS.items():
        fill = {"fill": False, "edgecolor": "black"} if colour == "none" else {"color": colour, "alpha": 0.55}
        axes.barh(0, 0, label=name, **fill)
    axes.set_yticks([0, 1], ["draft", "target"])
    axes.set_xlim(0, (end - zero) / 1000)
    axes.set_ylim(-0.5, 1.8)
    axes.set_xlabel("milliseconds")
    axes.legend(fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    axes.figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close("all")


def _together(rounds: list[dict[str, Any]]) -> bool:
    """Whether they are one sequence's, drafted for all along, with no prompt in between."""
    return all(
        two["ts"] - one["ts"] - one["dur"] < 1000 and two["name"] != "round"
        for one, two in itertools.pairwise(rounds)
    )
