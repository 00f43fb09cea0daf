"""Measuring the costs: real verifications and real draft steps on the loaded pair, each model on its own thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from random import Random
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
DEPTHS = 4  # layers that are computed in a row
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
        self._references: list[float] = []  # seconds
        self._nodes = [count for count in NODES if count < nodes] + [nodes]
        self._rows = [count for count in ROWS if count < rows] + [rows]

    def measure(self, progress: Progress) -> Costs:
        """All points take turns, in an order that chance decides, so that what else the machine does weighs on all."""
        self._fill()
        points, order = self._points(), Random(0)
        costs, ratios = Costs(), defaultdict[tuple[str, int], list[float]](list)
        for turn in range(REPEAT + 1):
            for number, (name, count) in enumerate(order.sample(list(points), len(points))):
                progress(turn * len(points) + number, (REPEAT + 1) * len(points))
                ratios[name, count].append(points[name, count]())
        progress((REPEAT + 1) * len(points), (REPEAT + 1) * len(points))
        for (name, count), found in ratios.items():
            getattr(costs, name)[count] = median(found[1:])
        for model in (self.pair.target, self.pair.draft):
            model.lane.noted.clear()
        return costs.scaled(median(self._references))

    def _points(self) -> dict[tuple[str, int], Callable[[], float]]:
        """By curve and count what gives a time, in units of the verification before it."""
        target, draft = self.pair.target.worker, self.pair.draft.worker
        chain = partial(draft.run, partial(self._chain, 1))
        busy = partial(self._layer, self._rows[len(self._rows) // 2])
        points: dict[tuple[str, int], Callable[[], float]] = {}
        for nodes in self._nodes:
            verify = partial(target.run, _timed, partial(self._verify, nodes))
            # In AR nothing is drafted.
            points["verify_alone", nodes] = partial(self._alone, verify, chain if nodes else None)
            points["verify_beside", nodes] = partial(self._beside, verify, draft.submit, busy)
        for rows in self._rows:
            for curve, work in (("layer", self._chain), ("tree_layer", self._layers)):
                # The target waits for it: the way to the draft's thread and back counts.
                waited = partial(_timed, partial(draft.run, partial(work, rows)))
                points[f"{curve}_alone", rows] = partial(self._alone, waited, None, DEPTHS)
                layers = partial(draft.run, _timed, partial(work, rows))
                points[f"{curve}_beside", rows] = partial(
                    self._beside, layers, target.submit, self._verify_some, DEPTHS
                )
        return points

    def _fill(self) -> None:
        for slot, prompt in enumerate(self.prompts):
            sequence = Sequence(list(prompt), self._params, slot, frozenset(), slot=slot)
            self.pair.target.worker.run(self.pair.verifier.prefill, sequence)
            self._sequences.append(sequence)

    def _alone(self, timed: Callable[[], float], before: Callable[[], object] | None, units: int = 1) -> float:
        """Of one of `units`. The models take turns as in a round: who comes after the other one finds its weights
        further away. `before` is done in between."""
        reference = self._reference()
        if before:
            before()
        return timed() / reference / units

    def _beside(
        self, timed: Callable[[], float], submit: Callable[..., Job[None]], other: Callable[[], object], units: int = 1
    ) -> float:
        """The same while the other model's thread does `other` over and over."""
        stop = Event()

        def work() -> None:
            while not stop.is_set():
                other()

        reference = self._reference()
        job = submit(work)
        try:
            timed()  # until both are under way
            return timed() / reference / units
        finally:
            stop.set()
            job.result()

    def _reference(self) -> float:
        self._references.append(self.pair.target.worker.run(_timed, self._verify_some))
        return self._references[-1]

    def _verify_some(self) -> None:
        self._verify(min(5, self._nodes[-1]))

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

    def _layers(self, rows: int) -> None:
        for _ in range(DEPTHS):
            self._layer(rows)

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
