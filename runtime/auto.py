"""`fallback: auto` in the round loop: chooses how each round goes, and learns what it cost and brought."""

from __future__ import annotations

from dataclasses import dataclass, field

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation.estimates import OFF, Estimates, Fallback, Plan, Way
from saguaro.runtime.speculation.fallback import fallback_rounds, speed
from saguaro.runtime.speculation.ways import Ways

EXPLORE = 48  # so many choices of a fallback bring one of the second best, which keeps its estimates fresh
COLD = 12  # rounds of plain decoding after which the caches are no more full of the draft; of others the first is cold
NOTED = 16  # rounds that are learned from together: after each, the caches full of weights, it would take far longer
Chains = dict[Sequence, list[int]]


@dataclass(slots=True)
class Noted:
    """How a round went. Lists have an entry for each sequence."""

    plan: Plan
    before: Plan  # of the round before, in which was prepared what this one verifies
    prepared: list[bool]  # what it verified was there before the round
    fallback: Fallback = Fallback.NOTHING
    found: list[bool] = field(default_factory=list)  # what it verified was looked up
    seconds: float = 0.0
    waited: float = 0.0
    gained: list[tuple[int, bool] | None] = field(default_factory=list)  # tokens, and whether the outcome was prepared

    @property
    def after_off(self) -> bool:
        """The first one after plain decoding: the draft had much to catch up with."""
        return self.before == OFF

    def verified(self) -> bool:
        """Whether there was any speculation at all."""
        looked_up = self.fallback is Fallback.NGRAM and any(self.found)
        return looked_up or self.fallback is Fallback.DRAFT or any(self.prepared)


def halvings(lookahead: int) -> list[int]:
    """Lookaheads to choose from, the one asked for last: each half of the next, down to 2."""
    found = [lookahead]
    while found[0] >= 4:
        found.insert(0, found[0] // 2)
    return found


class Auto:
    """Outlives the runs of the round loop, with all that was learned. Its methods run on the target's thread."""

    def __init__(self, lookaheads: list[int]) -> None:
        """`lookaheads`: to choose from, the one to begin with last."""
        self.longest = lookaheads[-1]
        self.estimates = Estimates(self.longest)
        sequential, concurrent = (
            [Plan(way, lookahead) for lookahead in lookaheads] for way in (Way.SEQUENTIAL, Way.CONCURRENT)
        )
        self._ways = {
            "sd": Ways([OFF, *sequential], self.estimates),
            "ssd": Ways([OFF, *concurrent[:-1], sequential[-1], concurrent[-1]], self.estimates),
        }
        self.plan = sequential[-1]  # of the latest round
        self._trying = False  # whether it is to be learned what this way costs
        self._draining = False
        self._round = Noted(self.plan, self.plan, [])
        self._noted: list[Noted] = []
        self._done: Plan | None = None  # what the latest round that was learned from turned out to be
        self._row = 0  # rounds before it that were the same
        self._choices = 0

    def begin(self, mode: str, sequences: list[Sequence]) -> Plan:
        """How the next round goes. What is prepared is still verified before drafting is switched off."""
        before = self.plan
        prepared = [bool(sequence.speculation) for sequence in sequences]
        self.plan = self.next_plan(mode, len(sequences))
        self._draining = self.plan == OFF and any(prepared)
        if self._draining:
            self.plan = Plan(Way.SEQUENTIAL, before.lookahead or self.longest)
        self._round = Noted(self.plan, before, prepared)
        return self.plan

    def usual_plan(self, mode: str, size: int) -> Plan:
        """How rounds of so many sequences go for now."""
        return self._ways[mode].usual(size)

    def next_plan(self, mode: str, size: int) -> Plan:
        plan = self._ways[mode].next(size)
        self._trying = self._ways[mode].trying
        return plan

    def choose(self, sequences: list[Sequence], looked_up: Chains) -> Chains:
        """What the sequences that have nothing prepared speculate without waiting: of those `looked_up`, what was
        found, or nothing. No entry at all: they wait for the draft."""
        self._round.found = [bool(looked_up.get(sequence)) for sequence in sequences]
        found = sum(self._round.found)
        self.estimates.found.add(found / len(looked_up))
        self._round.fallback = fallback = self.pick(len(sequences), len(looked_up), found)
        if fallback is Fallback.DRAFT:
            return {}
        return looked_up if fallback is Fallback.NGRAM else {sequence: [] for sequence in looked_up}

    def pick(self, size: int, waiting: int, found: int) -> Fallback:
        if self._draining:
            return Fallback.NOTHING
        if self._round.after_off:  # the draft has much to catch up with
            return Fallback.NGRAM if self.plan.way is Way.CONCURRENT else Fallback.DRAFT
        rounds = fallback_rounds(self.estimates, self.plan, size, size - waiting, found)
        if Fallback.DRAFT not in rounds:  # what it takes has to be known
            return Fallback.DRAFT
        usual = speed(self.estimates, self.plan, size) or 0.0
        gains = {fallback: expected.beyond(usual) for fallback, expected in rounds.items()}
        if self._trying:
            gains.pop(Fallback.NOTHING, None)
        self._choices += 1
        if self._choices % EXPLORE == 0 and found:
            return min((Fallback.DRAFT, Fallback.NGRAM), key=gains.__getitem__)
        return max(gains, key=gains.__getitem__)

    def note(self, sequences: list[Sequence], new: list[list[int]], seconds: float, waited: float) -> None:
        """A round ended.

        Args:
            new: each sequence's new tokens.
            seconds: what the round took.
            waited: of these, for the draft to draft.
        """
        done = self._round
        done.seconds, done.waited = seconds, waited
        done.gained = [
            None if sequence.finish_reason else (len(tokens), bool(sequence.speculation))  # it may have been cut short
            for sequence, tokens in zip(sequences, new, strict=True)
        ]
        self._noted.append(done)
        if self._trying or len(self._noted) == NOTED:
            for one in self._noted:
                self._learn(one)
            self._noted.clear()

    def _learn(self, noted: Noted) -> None:
        estimates, size, plan, fallback = self.estimates, len(noted.prepared), noted.plan, noted.fallback
        done = plan if noted.verified() else None if plan.way is Way.CONCURRENT else OFF
        if done:
            self._row = self._row + 1 if done == self._done else 0
            self._done = done
            if self._row >= (COLD if done == OFF else 1):
                estimates.rounds[done].add(size, noted.seconds - noted.waited)
        if fallback is Fallback.DRAFT and not noted.after_off:
            estimates.draft.add(size, noted.waited / plan.lookahead)
        for i, gained in enumerate(noted.gained):
            if gained is None:
                continue
            tokens, hit = gained
            if plan.way is Way.CONCURRENT:
                estimates.hits.add(hit)
            if noted.prepared[i]:
                estimates.hit.add(tokens, min(plan.lookahead, noted.before.lookahead))
            elif fallback is Fallback.DRAFT:
                estimates.drafted.add(tokens, plan.lookahead)
            elif fallback is Fallback.NGRAM and noted.found[i]:
                estimates.ngram.add(tokens, plan.lookahead)
