"""What a build is doing, on standard error: a live display on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class BuildProgress:
    """Takes the builder's `(stage, done, total)`. A stage is "step: what is done now", or a step alone.

    A compiler's stages nest and come by the dozen, so each step has one line, which shows its latest stage.
    """

    def __init__(self, quiet: bool = False):
        # The stream itself, since a compiler's own output may be kept away from `sys.stderr` meanwhile.
        self._console = Console(file=sys.stderr)
        self._quiet, self._live = quiet, self._console.is_terminal and not quiet
        self._display = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<12}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}"),
            console=self._console,
        )
        self._step: str | None = None
        self._task: TaskID | None = None
        self._tensors = 0  # of the step at hand
        self._began = self._step_began = perf_counter()

    @property
    def elapsed(self) -> float:
        return perf_counter() - self._began

    def __enter__(self) -> Self:
        if self._live:
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish_step()
        if self._live:
            self._display.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        step, _, now = stage.partition(": ")
        if step != self._step:
            self._finish_step()
            self._step, self._tensors, self._step_began = step, 0, perf_counter()
            if self._live:
                self._task = self._display.add_task(step, total=1, stage="")
        if now == "weights":
            self._tensors = total
        if self._live and self._task is not None:
            count = f"{done}/{total}" if total > 1 else ""
            self._display.update(self._task, stage=_fit(f"{now} {count}".strip(), self._console.width - 30))

    def _finish_step(self) -> None:
        if self._step is None:
            return
        tensors = f"{self._tensors} tensors" if self._tensors else ""
        if self._live and self._task is not None:
            self._display.update(self._task, completed=1, stage=tensors)
        elif not self._quiet:
            seconds = perf_counter() - self._step_began
            detail = f", {tensors}" if tensors else ""
            self._console.print(f"{self._step}: {seconds:.1f} s{detail}", highlight=False)


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."
