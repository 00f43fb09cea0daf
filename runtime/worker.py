"""A thread that owns one model's stream: jobs run on it one after another, beside the other model's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

import torch

R = TypeVar("R")


class Job(Generic[R]):
    """The promise of a job's result."""

    def __init__(self) -> None:
        self._answer: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()

    def result(self) -> R:
        """Wait for the job; raises what the job raised."""
        value, error = self._answer.get()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def run(self, call: Callable[[], R]) -> None:
        try:
            self._answer.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            self._answer.put((None, error))


class Worker:
    """Runs jobs in order on a thread of its own, with `threads` CPU threads, or on a CUDA stream of its own."""

    def __init__(self, name: str, device: torch.device, threads: int, priority: int = 0):
        """`priority` of the CUDA stream: a lower number goes first."""
        self._queue: SimpleQueue[tuple[Job[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, args=(device, threads, priority), name=f"saguaro-{name}", daemon=True)
        self._thread.start()
        self._closed = False

    def submit(self, function: Callable[..., R], *arguments: Any) -> Job[R]:
        if self._closed:
            raise RuntimeError("the worker is closed")
        job: Job[R] = Job()
        self._queue.put((job, lambda: function(*arguments)))
        return job

    def run(self, function: Callable[..., R], *arguments: Any) -> R:
        return self.submit(function, *arguments).result()

    def close(self) -> None:
        """Let the jobs at hand end, then end the thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _serve(self, device: torch.device, threads: int, priority: int) -> None:
        with contextlib.ExitStack() as stack:
            refusal: BaseException | None = None
            try:
                torch.get_num_threads()  # torch sets a thread up on first use, which would undo the next line
                torch.set_num_threads(threads)  # counts for this thread alone
                stack.enter_context(torch.inference_mode())
                if device.type == "cuda":
                    stack.enter_context(torch.cuda.stream(torch.cuda.Stream(device, priority=priority)))
            except BaseException as error:  # noqa: BLE001 - whoever asks for a result gets it
                refusal = error
            while (item := self._queue.get()) is not None:
                job, call = item
                job.run(call if refusal is None else partial(_raise, refusal))


def _raise(error: BaseException) -> None:
    raise error
