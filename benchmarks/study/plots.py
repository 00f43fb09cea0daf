"""The study's pictures, each from its part of the JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from study.misses import PAPER

COLOURS = {"0.0": "tab:blue", "0.7": "tab:orange", "1.0": "tab:red"}
SIZE = (7, 4.2)


def save(axes: Axes, file: Path, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    axes.figure.savefig(file, dpi=110, bbox_inches="tight")  # type: ignore[union-attr]
    plt.close("all")


def misses(values: dict[str, Any], file: Path) -> None:
    _, axes = plt.subplots(figsize=SIZE)
    for temperature, curve in values.items():
        seen = {int(fan_out): miss for fan_out, miss in curve.items() if miss > 0}  # the axis is logarithmic
        axes.plot(list(seen), list(seen.values()), "o-", color=COLOURS[temperature], label=f"T = {temperature}")
    for temperature, points in PAPER.items():
        label = f"the paper's pair, T = {temperature}"
        axes.plot(list(points), list(points.values()), "x--", color=COLOURS[temperature], alpha=0.6, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    save(axes, file, "candidates prepared at the place", "true bonus token missed")


def hits(values: dict[str, Any], file: Path) -> None:
    _, all_axes = plt.subplots(1, len(values), figsize=(11, 3.6), sharey=True)
    for axes, (temperature, kinds) in zip(all_axes, values.items(), strict=True):
        for kind, style in (("uniform", "s:"), ("geometric", "^--"), ("adaptive", "o-")):
            curve = kinds[kind]
            axes.plot(list(map(int, curve)), list(curve.values()), style, label=kind)
        axes.set_title(f"T = {temperature}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.set_xlabel("budget B")
    all_axes[0].set_ylabel("hit rate")
    save(all_axes[-1], file, "budget B", "")


def trees(values: dict[str, Any], file: Path) -> None:
    _, axes = plt.subplots(figsize=SIZE)
    shapes = list(next(iter(values.values())))
    for place, (temperature, by_shape) in enumerate(values.items()):
        places = [i + 0.27 * (place - 1) for i in range(len(shapes))]
        bars = axes.bar(places, list(by_shape.values()), 0.25, color=COLOURS[temperature], label=f"T = {temperature}")
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set_xticks(range(len(shapes)), shapes)
    save(axes, file, "", "tokens per round, sd")


def rejection(values: dict[str, Any], file: Path) -> None:
    """Acceptance against hit rate as Saguaro sampling's C goes from 1 to 0."""
    _, axes = plt.subplots(figsize=SIZE)
    for temperature, points in values.items():
        xs, ys = [p["acceptance_rate"] for p in points], [p["hit_rate"] for p in points]
        axes.plot(xs, ys, "o-", color=COLOURS[temperature], label=f"T = {temperature}")
        for p, x, y in zip(points, xs, ys, strict=True):
            axes.annotate(f"C = {p['c']:g}", (x, y), fontsize=7, xytext=(4, 4), textcoords="offset points")
    save(axes, file, "acceptance per drafted token", "hit rate")


def batches(values: dict[str, Any], file: Path) -> None:
    _, axes = plt.subplots(figsize=SIZE)
    sizes = list(values)
    for name in next(iter(values.values()))["speed_over_ar"]:
        speeds = [values[size]["speed_over_ar"][name] for size in sizes]
        style = "k--" if name == "ar" else "o-" if "auto" in name else "^:"
        axes.plot(list(map(int, sizes)), speeds, style, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(map(int, sizes)), sizes)
    save(axes, file, "sequences in the batch", "tokens per second, AR = 1")


def predictions(rows: list[dict[str, Any]], file: Path) -> None:
    _, axes = plt.subplots(figsize=(5, 4.6))
    for mode, colour in (("ar", "black"), ("sd", "tab:orange"), ("ssd", "tab:blue")):
        own = [row for row in rows if row["mode"] == mode]
        axes.plot([r["predicted"] for r in own], [r["measured"] for r in own], "o", color=colour, label=mode)
    ends = [min(r["measured"] for r in rows) * 0.9, max(r["measured"] for r in rows) * 1.1]
    axes.plot(ends, ends, "k-", lw=0.8, label="as predicted")
    axes.fill_between(ends, [0.9 * e for e in ends], [1.1 * e for e in ends], alpha=0.15, color="grey", label="10 %")
    save(axes, file, "predicted speed over AR", "measured")
