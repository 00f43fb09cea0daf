"""Measuring the costs: real verifications and real draft steps on the loaded pair, each model on its own thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from threading import Event
from time import perf_counter

from saguaro.runtime.branches import ranking
from saguaro.runtime.grove import Grove, tree_step
from saguaro.runtime.pair import Pair
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.rollout import Rollout, roll_out
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation import Speculation
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculation.forest import Forest
from saguaro.runtime.worker import Job
from saguaro.tuner.costs import Costs

REPEAT = 15
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
        policy = AdaptivePolicy(rows, DEPTHS)
        self._roll_out(self._step(self._groves(rows), rows), [rows] * DEPTHS, policy)

    def _layer(self, rows: int) -> None:
        """As `TreeDrafter` computes one: also what it takes to know which nodes come next."""
        policy, groves = AdaptivePolicy(rows, DEPTHS), self._groves(rows)
        rollout = self._roll_out(self._step(groves, rows), [rows], policy)
        for b, grove in enumerate(groves):
            ranked = [ranking(rollout, 0, b, row) for row in range(rows)]
            grove.note(ranked, *policy.probabilities(ranked, True))
            grove.forest.grow(rows, 0.0)

    def _groves(self, rows: int) -> list[Grove]:
        bases = [len(prompt) - 1 for prompt in self.prompts]
        return [Grove(Forest([(0, 1 / rows)] * rows, DEPTHS), base, base, [[]] * rows) for base in bases]

    def _step(self, groves: list[Grove], rows: int) -> Step:
        parts = [grove.place(list(range(rows)), rows) for grove in groves]
        return tree_step(parts, rows, 0, self.pair.draft.session.device)

    def _roll_out(self, step: Step, widths: list[int], policy: AdaptivePolicy) -> Rollout:
        session, vocab_size = self.pair.draft.session, self.pair.target.session.vocab_size
        noise = []
        for sequence, first in zip(self._sequences, step.prefix, strict=True):
            own = sequence.noise(vocab_size, session.device)
            noise.append(own.reach(first + 1, first + len(widths)) if own else None)
        size = min(vocab_size, session.vocab_size)
        rollout = Rollout(step, noise, widths, candidates=min(policy.candidates(), size), vocab_size=size)
        roll_out(session, rollout)
        return rollout


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start
