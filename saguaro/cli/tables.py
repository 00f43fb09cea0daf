"""A comparison of the modes, for people: a table, and what made the difference."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table

from saguaro.cli.measure import Comparison, share


def print_comparison(console: Console, comparison: Comparison) -> None:
    console.print(_speeds(comparison))
    console.print("\n[bold]What made the difference[/bold]")
    console.print(_rounds(comparison))
    for line in _reasons(comparison):
        console.print(line, highlight=False)
    if len(comparison.modes) > 1:
        console.print(_same_tokens(comparison), highlight=False)


def _speeds(comparison: Comparison) -> Table:
    table = _table("mode", "tokens/s", "over ar", "over sd", "first token", "tokens", "rounds")
    for mode, result in comparison.modes.items():
        table.add_row(
            mode,
            f"{result.tokens_per_second:.0f}",
            _times(comparison.speedup(mode, "ar")),
            _times(comparison.speedup(mode, "sd")),
            f"{median(result.first_token) * 1000:.0f} ms",
            f"{result.tokens}",
            f"{result.request.rounds / result.repeat:.0f}",
            style="bold green" if mode == "ssd" else "",
        )
    return table


def _rounds(comparison: Comparison) -> Table:
    """What a round brings, and where its time goes."""
    table = _table("round", "tokens", "accepted", "prepared", "time", "verifying", "overlap", "no model")
    for mode, result in comparison.modes.items():
        request, run = result.request, result.run
        table.add_row(
            mode,
            f"{request.tokens_per_round:.2f}",
            "" if mode == "ar" else f"{request.acceptance_rate:.0%}",
            f"{request.hit_rate:.0%}" if mode == "ssd" else "",
            f"{run.in_rounds / run.rounds * 1000:.1f} ms",
            f"{share(run.times.verification, run):.0%}",
            "" if mode == "ar" else f"{run.overlap:.0%}",
            f"{result.outside_forwards:.0%}",
        )
    return table


def _reasons(comparison: Comparison) -> list[str]:
    lines = [
        "Verifying: the target's share of a round's time; no model: neither's. "
        "Overlap: the share of the draft's work that is done while the target verifies."
    ]
    if ssd := comparison.modes.get("ssd"):
        lines.append(
            f"ssd had prepared {ssd.request.hit_rate:.0%} of the outcomes ({ssd.request.hits} of "
            f"{ssd.request.hits + ssd.request.misses}) when they arrived: the target then goes on at once."
        )
    for mode, result in comparison.modes.items():
        run = result.run
        if run.auto_off or run.auto_sequential:
            lines.append(
                f"The fallback auto ran {run.auto_off / run.rounds:.0%} of {mode}'s rounds as plain decoding"
                + (f", and {run.auto_sequential / run.rounds:.0%} without preparing." if mode == "ssd" else ".")
            )
    if comparison.predicted and comparison.measured:
        lines.append(
            f"From these terms the speed model predicts {comparison.predicted:.2f}x ar for ssd's rounds; "
            f"measured: {comparison.measured:.2f}x, {comparison.measured / comparison.predicted:.0%} of it."
        )
    return lines


def _same_tokens(comparison: Comparison) -> str:
    modes = ", ".join(comparison.modes)
    if comparison.identical == comparison.prompts:
        return f"[green]The tokens are the same[/green] in {modes}, for all {comparison.prompts} prompts."
    return (
        f"[red]The tokens differ[/red] between {modes} for {comparison.prompts - comparison.identical} of "
        f"{comparison.prompts} prompts (in bf16 and fp16 near ties may fall either way; rejection verification "
        "promises the same distribution, not the same tokens)."
    )


def _table(first: str, *names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first)
    for name in names:
        table.add_column(name, justify="right")
    return table


def _times(value: float | None) -> str:
    return f"{value:.2f}x" if value else ""
