"""The rounds of SD and SSD.

In SSD the target verifies one speculation while the draft prepares the next for each outcome that it thinks
likely (paper, Algorithm 1; design 3.1). Under coupled verification the tokens are the same in all three modes.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from saguaro.runtime.auto import Auto
from saguaro.runtime.draft_side import DraftSide
from saguaro.runtime.metrics import RequestMetrics, RunMetrics
from saguaro.runtime.preparation import Preparation
from saguaro.runtime.rounds import RoundLoop
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation import depths_worth_waiting_for
from saguaro.runtime.speculation.cache import Prepared
from saguaro.runtime.speculation.estimates import Way
from saguaro.runtime.speculation.tree import EMPTY, Outcome, Speculation
from saguaro.runtime.timing import Lane
from saguaro.runtime.verifier import Verifier
from saguaro.runtime.worker import Job, Worker


class SpeculativeLoop(RoundLoop):
    """SD: the draft speculates, then the target verifies; each waits for the other."""

    mode = "sd"
    auto: Auto | None = None  # chooses how each round goes, where the fallback is auto

    def __init__(
        self,
        verifier: Verifier,
        target: Worker,
        target_lane: Lane,
        drafter: DraftSide[Any, Any],
        draft: Worker,
        draft_lane: Lane,
    ):
        super().__init__(verifier, target, target_lane)
        self.drafter, self.draft, self.draft_lane = drafter, draft, draft_lane
        self.lookahead = drafter.lookahead  # of this round
        self._untold: list[tuple[Callable[..., None], Sequence, tuple[Any, ...]]] = []  # calls for the draft, in order
        self._draft_jobs: list[Job[None]] = []
        self._waited = 0.0  # in this round, for the draft

    def _next_round(self) -> list[list[int]]:
        if self.auto is None:
            return self._round()
        start, plan = perf_counter(), self.auto.begin(self.mode, self.active)
        way, self.lookahead, self._waited = plan.way, plan.lookahead, 0.0
        if way is Way.OFF:
            self._check_draft()
            new = super()._round()
        else:
            new = self._round() if way is Way.CONCURRENT else SpeculativeLoop._round(self)
        self.auto.note(self.active, new, perf_counter() - start, self._waited)
        if way is Way.OFF or (way is Way.SEQUENTIAL and self.mode == "ssd"):
            counting: list[RunMetrics | RequestMetrics] = [self.metrics, *(one.metrics for one in self.active)]
            for metrics in counting:
                metrics.auto_off += way is Way.OFF
                metrics.auto_sequential += way is Way.SEQUENTIAL
        return new

    def _round(self) -> list[list[int]]:
        self._speculate()
        self._check_draft()
        outcomes = self._verify()
        return [self._settle(sequence, outcome, None) for sequence, outcome in zip(self.active, outcomes, strict=True)]

    def _speculate(self) -> None:
        """Give each sequence what it is to verify: of what is prepared, or falls back to, the round's lookahead."""
        self._fall_back()
        for sequence in self.active:
            if len(sequence.speculation) > self.lookahead and sequence.speculation.is_chain:
                sequence.speculation = Speculation.chain(sequence.speculation.tokens[: self.lookahead])
                self._untold.append((self.drafter.shorten, sequence, (sequence.prefix, self.lookahead)))

    def _fall_back(self) -> None:
        """For the sequences that have nothing to verify: look a continuation up, or draft one just in time, for which
        the target waits."""
        wanted = {sequence for sequence in self.active if not sequence.speculation}
        if not wanted:
            return
        self._follow()
        chains = {s: s.ngrams.propose(self.lookahead) for s in wanted if s.ngrams is not None}
        if self.auto is not None:
            chains = self.auto.choose(self.active, chains)
        for sequence, chain in chains.items():
            sequence.speculation, sequence.from_cache = Speculation.chain(chain), False
            sequence.metrics.fallbacks += bool(chain)
            self._draft_jobs.append(self.draft.submit(self.drafter.take, sequence, chain))
        wanted -= chains.keys()
        if wanted:
            drafted = self.draft.run(
                self.draft_lane.call, "fallback", self.drafter.draft, self.active, wanted, self.lookahead
            )
            self._waited = self.draft_lane.seconds
            for sequence, speculation in drafted.items():
                sequence.speculation, sequence.from_cache = speculation, False
                sequence.metrics.fallbacks += 1

    def _settle(self, sequence: Sequence, outcome: Outcome, hit: Prepared | None) -> list[int]:
        """Accept, and let the draft's cache follow when the draft is next at work, so that no one waits for it."""
        new = sequence.accept(outcome)
        sequence.speculation = hit.speculation if hit else EMPTY
        sequence.from_cache = hit is not None
        if not sequence.finish_reason:
            self._untold.append((self.drafter.settle, sequence, (sequence.prefix, outcome, hit)))
        return new

    def _follow(self) -> None:
        """Before the draft does anything else: its cache follows the outcomes since."""
        untold, self._untold = self._untold, []
        self._draft_jobs += [self.draft.submit(call, sequence, *rest) for call, sequence, rest in untold]

    def _check_draft(self) -> None:
        """Raise what went wrong in the jobs that nobody waited for. They are done by the time a verification is."""
        jobs, self._draft_jobs = self._draft_jobs, []
        for job in jobs:
            job.result()

    def _admit(self, sequence: Sequence, size: int) -> None:
        sequence.slot = len(self.active)
        if self.auto is not None:
            self.lookahead = self.auto.usual_plan(self.mode, size).lookahead
        enter = self._enter if self.lookahead else self.drafter.enter
        job = self.draft.submit(self.draft_lane.call, "prefill", enter, sequence)
        super()._admit(sequence, size)
        job.result()

    def _enter(self, sequence: Sequence) -> None:
        """The target takes longer for the prompt, so that this and the first speculation cost no wait."""
        self.drafter.prefill(sequence)
        if sequence.ngrams is None or self.auto is not None:
            sequence.speculation = self.drafter.draft([sequence], {sequence}, self.lookahead)[sequence]

    def _retire(self, sequence: Sequence) -> None:
        self._untold = [entry for entry in self._untold if entry[1] is not sequence]
        super()._retire(sequence)
        self.draft.run(self.drafter.release, sequence)

    def _move(self, source: int, target: int) -> None:
        super()._move(source, target)
        self._follow()  # while the rows are where they were
        self.draft.run(self.drafter.session.move_slot, source, target)

    def _wait(self) -> None:
        super()._wait()
        self.draft.run(self.draft_lane.noted.clear)
        self._draft_jobs.clear()


class ConcurrentLoop(SpeculativeLoop):
    """SSD: while the target verifies, the draft prepares a speculation for each likely outcome."""

    mode = "ssd"
    anytime = True  # when the outcome is known, wait for the draft only as long as that pays
    tested, accepted = 10, 7  # as if seven of ten tokens had been accepted

    def _round(self) -> list[list[int]]:
        self._speculate()
        preparation = Preparation(self.active, self.lookahead)
        earlier, self._draft_jobs = self._draft_jobs, []
        outcomes = self._verify(lambda: self._prepare(preparation))
        for job in earlier:  # done long since
            job.result()
        if not self.anytime or not self._stop(preparation):
            self._check_draft()
        new = []
        for sequence, outcome in zip(self.active, outcomes, strict=True):
            hit = preparation.caches[sequence].get(outcome)
            sequence.metrics.hits += hit is not None
            sequence.metrics.misses += hit is None
            accepted, tested = sequence.speculation.tried(outcome.node)
            self.accepted, self.tested = self.accepted + accepted, self.tested + tested
            new.append(self._settle(sequence, outcome, hit))
        return new

    def _stop(self, preparation: Preparation) -> bool:
        """Stop the draft where it is, or where it is worth waiting for. Gives whether it is there already."""
        progress, rollout = preparation.progress, preparation.rollout
        wanted = 1 if rollout else 0  # while it has not begun, drafting for the one outcome that came is as quick
        if rollout and progress.drafted:
            rate, verification = self.accepted / self.tested, self.target_lane.seconds
            wanted = depths_worth_waiting_for(rate, rollout.step_seconds, verification, self.lookahead)
        there = progress.drafted >= wanted
        progress.stop_after(progress.drafted if there else wanted)
        return there

    def _prepare(self, preparation: Preparation) -> None:
        """Start the draft beside the verification."""
        self._follow()
        self._draft_jobs.append(
            self.draft.submit(self.draft_lane.call, "preparation", self.drafter.prepare, preparation)
        )
