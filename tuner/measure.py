"""Measuring the costs: real verifications and real draft steps on the loaded pair, each model on its own thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from threading import Event
from time import perf_counter

import numpy as np
import torch

from saguaro.runtime.pair import Pair
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.rollout import Rollout, roll_out
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation import Speculation
from saguaro.runtime.worker import Job
from saguaro.tuner.costs import Costs

REPEAT = 9
DEPTHS = 4  # of a chain's rollout
NODES = (0, 1, 2, 3, 4, 5, 6, 8, 11, 12, 16, 24, 32, 48, 64, 96, 128)
ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 36, 48, 64)

Progress = Callable[[int, int], None]


class CostMeter:
    """Of one batch size. The prompts' tokens fill the caches; what is computed does not matter, how much does."""

    def __init__(self, pair: Pair, prompts: list[list[int]], temperature: float, nodes: int, rows: int):
        """
        Args:
            prompts: of each sequence of the batch.
            nodes, rows: the most that a speculation and a layer have.
        """
        self.pair, self.prompts = pair, prompts
        self._params = SamplingParams(max_tokens=1, temperature=temperature)
        self._sequences: list[Sequence] = []
        self._nodes = [count for count in NODES if count < nodes] + [nodes]
        self._rows = [count for count in ROWS if count < rows] + [rows]

    def measure(self, progress: Progress) -> Costs:
        costs, done = Costs(), 0
        total = 2 * len(self._nodes) + 4 * len(self._rows)
        self._fill()

        def note() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        target, draft = self.pair.target.worker, self.pair.draft.worker
        for nodes in self._nodes:
            costs.verify_alone[nodes] = target.run(self._time, partial(self._verify, nodes))
            note()
        for rows in self._rows:
            costs.layer_alone[rows] = draft.run(self._time, partial(self._chain, rows)) / DEPTHS
            note()
            costs.tree_layer_alone[rows] = draft.run(self._time, partial(self._layer, rows))
            note()
        busy = self._rows[len(self._rows) // 2]
        with_draft = self._beside(draft.submit, partial(self._layer, busy))
        for nodes in self._nodes:
            costs.verify_beside[nodes] = with_draft(target.run, partial(self._verify, nodes))
            note()
        with_target = self._beside(target.submit, partial(self._verify, min(5, self._nodes[-1])))
        for rows in self._rows:
            costs.layer_beside[rows] = with_target(draft.run, partial(self._chain, rows)) / DEPTHS
            note()
            costs.tree_layer_beside[rows] = with_target(draft.run, partial(self._layer, rows))
            note()
        for model in (self.pair.target, self.pair.draft):
            model.lane.spans.clear()
        return costs

    def _fill(self) -> None:
        for slot, prompt in enumerate(self.prompts):
            sequence = Sequence(list(prompt), self._params, slot, frozenset(), slot=slot)
            self.pair.target.worker.run(self.pair.verifier.prefill, sequence)
            self._sequences.append(sequence)

    def _time(self, work: Callable[[], object]) -> float:
        """Seconds, the median over some runs after one to warm up."""
        work()
        return median(_timed(work) for _ in range(REPEAT))

    def _beside(
        self, submit: Callable[..., Job[None]], other: Callable[[], object]
    ) -> Callable[[Callable[..., float], Callable[[], object]], float]:
        """To time work while the other model's thread is busy with `other`."""

        def timed(run: Callable[..., float], work: Callable[[], object]) -> float:
            stop = Event()

            def busy() -> None:
                while not stop.is_set():
                    other()

            job = submit(busy)
            try:
                return run(self._time, work)
            finally:
                stop.set()
                job.result()

        return timed

    def _verify(self, nodes: int) -> None:
        for sequence in self._sequences:
            tokens = [sequence.tokens[i % len(sequence.tokens)] for i in range(nodes)]
            sequence.speculation = Speculation.chain(tokens)
        self.pair.verifier.verify(self._sequences)

    def _chain(self, rows: int) -> None:
        self._roll_out(rows, DEPTHS)

    def _layer(self, rows: int) -> None:
        self._roll_out(rows, 1)

    def _roll_out(self, rows: int, depths: int) -> None:
        session, vocab_size = self.pair.draft.session, self.pair.target.session.vocab_size
        count = len(self.prompts)
        prefix = [len(prompt) - 1 for prompt in self.prompts]
        visible = torch.eye(rows, dtype=torch.bool, device=session.device).expand(count, -1, -1)
        positions = torch.from_numpy(np.repeat(np.array(prefix)[:, None], rows, axis=1)).to(session.device)
        step = Step(torch.zeros_like(positions), positions, prefix, visible, prefix)
        noise = []
        for sequence, first in zip(self._sequences, prefix, strict=True):
            own = sequence.noise(vocab_size, session.device)
            noise.append(own.reach(first + 1, first + depths) if own else None)
        size = min(vocab_size, session.vocab_size)
        rollout = Rollout(step, noise, [rows] * depths, candidates=min(8, size), vocab_size=size)
        roll_out(session, rollout)


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start
