"""Rounds played again in simulated time: section 3.7's speed model with batches, anytime drafting and real text.

Theorem 7 takes means over rounds; here each round takes what it would take: the verification beside a busy draft, the
draft's layers as far as they get, the wait for a fallback if any sequence of the batch needs one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saguaro.runtime.speculation import Speculation, depths_worth_waiting_for
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculation.tree import EMPTY
from saguaro.tuner.costs import Costs
from saguaro.tuner.play import Played, prepare
from saguaro.tuner.recording import Recording
from saguaro.tuner.settings import Settings


@dataclass
class Prediction:
    """Of the rounds alone, without the prompts."""

    tokens: int = 0
    seconds: float = 0.0
    fixed: float = 0.0  # of these, verifications that run alone: their price is known, and is not scaled
    rounds: int = 0  # of the batch
    verified: int = 0  # speculations, one for each sequence and round
    hits: int = 0
    misses: int = 0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_round(self) -> float:
        return self.tokens / self.verified if self.verified else 0.0

    @property
    def hit_rate(self) -> float:
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0


class Simulation:
    """One setting over all recordings, `batch` of them at a time."""

    def __init__(self, settings: Settings, costs: Costs, *, policy: AdaptivePolicy, taper: bool):
        """`policy` is learned on, so give each simulation one of its own."""
        self.settings, self.costs, self.policy, self.taper = settings, costs, policy, taper
        self.result = Prediction()
        self._late = 0.0  # how long the draft is still busy with the last round when the next begins
        self._accepted, self._tested = 7.0, 10.0
        self._batch = 1

    def run(self, recordings: Sequence[Recording], batch: int) -> Prediction:
        self._batch = batch
        for first in range(0, len(recordings), batch):
            active = [Played(recording) for recording in recordings[first : first + batch]]
            self._late = 0.0
            if self.settings.mode != "ar" and self.settings.fallback != "ngram":
                for played in active:  # while the target computes the prompt
                    played.speculation = played.draft(self.policy, self.settings)
            while active:
                before = [played.at for played in active]
                self._round(active)
                for played, at in zip(active, before, strict=True):
                    new = played.recording.truth[at : played.at]
                    played.ngrams.extend(new)
                    self.result.tokens += len(new)
                active = [played for played in active if not played.done]
        if self.result.rounds:
            self._add_overheads()
        return self.result

    def _add_overheads(self) -> None:
        result, costs = self.result, self.costs
        factor = costs.overheads.factor(self.settings.kind, result.seconds / result.rounds / costs.unit)
        result.seconds = result.fixed + factor * (result.seconds - result.fixed)

    def _round(self, active: list[Played]) -> None:
        settings, costs, result = self.settings, self.costs, self.result
        seconds = 0.0
        if settings.mode != "ar":
            seconds += self._fall_back(active)
        beside = settings.mode == "ssd"
        verification = costs.verify(max(len(played.speculation) for played in active), beside, self._share(active))
        seconds += self._prepare(active, verification) if beside else verification
        if settings.mode != "ssd":
            for played in active:
                if settings.mode == "sd" and settings.tree_nodes:
                    played.learn_tree(self.policy)
                self._accept(played, None)
        result.seconds += seconds
        result.fixed += verification if settings.mode == "sd" else 0.0
        result.rounds += 1
        result.verified += len(active)

    def _fall_back(self, active: list[Played]) -> float:
        wanted = [played for played in active if not played.speculation]
        for played in wanted:
            played.after_hit = False
            if self.settings.fallback == "ngram":
                played.speculation = Speculation.chain(played.ngrams.propose(self.settings.lookahead))
                played.pending = len(played.speculation) + 1
            else:
                played.speculation = played.draft(self.policy, self.settings)
        if not wanted or self.settings.fallback == "ngram":
            return 0.0
        late, self._late = self._late, 0.0
        tree = self.settings.tree_nodes > 0
        rows = max(1, self.settings.tree_nodes // self.settings.lookahead) if tree else 1
        return late + self.settings.lookahead * self.costs.layer(rows, False, tree, self._share(active))

    def _prepare(self, active: list[Played], verification: float) -> float:
        """Play the preparation beside the verification; gives how long the two take."""
        settings, tree = self.settings, self.settings.tree_nodes > 0
        preparations = [prepare(played, self.policy, settings, self.taper) for played in active]
        share = self._share(active)
        start = self.costs.overheads.start_of(settings.kind, settings.lookahead) * self.costs.unit
        clock, waited, layer = self._late + start * share, verification, 0.0
        pending = max(played.pending for played in active)
        if pending:
            clock += self.costs.layer(pending, True, tree, share)
        enough = 1
        for layers in range(settings.lookahead + 1):
            rows = max(preparation.width() for preparation in preparations)
            if not rows or (clock >= verification and layers >= enough):
                break
            layer = self.costs.layer(rows, True, tree, share)
            clock += layer
            if layers == 0 or clock <= verification:
                rate = self._accepted / self._tested
                enough = depths_worth_waiting_for(rate, layer, verification, settings.lookahead)
            if layers + 1 <= enough:
                waited = max(waited, clock)
            for preparation in preparations:
                preparation.compute(clock <= waited)
        self._late = max(0.0, clock - waited)
        for played, preparation in zip(active, preparations, strict=True):
            outcome = played.outcome()
            prepared = preparation.get(outcome)
            preparation.learn(outcome)
            accepted, tested = played.speculation.tried(outcome.node)
            self._accepted, self._tested = self._accepted + accepted, self._tested + tested
            self.result.hits += prepared is not None
            self.result.misses += prepared is None
            self._accept(played, prepared)
        return waited

    def _share(self, active: list[Played]) -> float:
        return len(active) / self._batch

    def _accept(self, played: Played, prepared: tuple[Speculation, int] | None) -> None:
        outcome = played.outcome()
        played.at += len(played.speculation.path(outcome.node)) + 1
        played.speculation, played.pending = prepared or (EMPTY, 0)
        played.after_hit = prepared is not None
