"""Running the library so that it reports progress, and so that Ctrl-C or a failing callback stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

# Told what the library is doing: the phase, how many of its steps are done, and how many there are. Phases
# nest, and the calls come from the build's thread.
Progress = Callable[[str, int, int], object]


class Guard:
    """One run of the library. Its callbacks ask `stopped`, and hand over what they raised through `call`."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    @property
    def stopped(self) -> bool:
        return self.error is not None

    def call(self, function: Callable[..., object], *values: object) -> None:
        """Call `function`; an exception stops the run, since it must not unwind the library's frames."""
        try:
            function(*values)
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def run(self, work: Callable[[], Any], progress: Progress | None) -> Any:
        """What `work` gives. Raises what stopped the run. `progress` is told when Ctrl-C has to wait for the library.

        The work has a thread of its own: Python handles Ctrl-C only in the main one, and only between its own
        instructions, so the main one has to wait in Python.
        """
        result: list[Any] = []
        finished = threading.Event()  # unlike `join`, it keeps its word when Ctrl-C has interrupted a wait

        def worker() -> None:
            self.call(lambda: result.append(work()))
            finished.set()

        threading.Thread(target=worker, name="tensorrt-build").start()
        told = False
        while not finished.is_set():
            try:
                if self.stopped and progress is not None and not told:
                    told = True
                    self.call(progress, "stopping", 0, 1)
                finished.wait()
            except KeyboardInterrupt as interrupt:
                self.error = interrupt  # the library stops at its next step, which may be seconds away, and no sooner
        if self.error is not None:
            raise self.error
        return result[0]


def make_monitor(trt: Any, guard: Guard, progress: Progress | None) -> Any:
    """An `IProgressMonitor` that tells `progress`, and ends the build once `guard` is stopped."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            if progress is not None and not guard.stopped:
                guard.call(progress, phase, step + 1, self._steps.get(phase, step + 1))
            return not guard.stopped

    return Monitor()


def make_writer(trt: Any, guard: Guard, write: Callable[[bytes], object]) -> Any:
    """An `IStreamWriter` that hands each piece to `write`, and fails once `guard` is stopped."""

    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)

        def write(self, piece: bytes) -> int:
            if not guard.stopped:
                guard.call(write, piece)
            return 0 if guard.stopped else len(piece)

    return Writer()
