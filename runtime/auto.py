"""`fallback: auto` in the round loop: chooses how each round goes, and learns what it cost and brought."""

from __future__ import annotations

from dataclasses import dataclass, field

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation.estimates import Estimates, Fallback, Way
from saguaro.runtime.speculation.fallback import fallback_rounds, way_speeds
from saguaro.runtime.speculation.ways import Ways

EXPLORE = 48  # so many choices of a fallback bring one of the second best, which keeps its estimates fresh
NOTED = 16  # rounds that are learned from together: after each, the caches full of weights, it would take far longer
Chains = dict[Sequence, list[int]]


@dataclass(slots=True)
class Noted:
    """How a round went. Lists have an entry for each sequence."""

    way: Way
    after_off: bool  # the first one after plain decoding: the draft had much to catch up with
    prepared: list[bool]  # what it verified was there before the round
    fallback: Fallback = Fallback.NOTHING
    found: list[bool] = field(default_factory=list)  # what it verified was looked up
    seconds: float = 0.0
    waited: float = 0.0
    gained: list[tuple[int, bool] | None] = field(default_factory=list)  # tokens, and whether the outcome was prepared

    def verified(self) -> bool:
        """Whether there was any speculation at all."""
        looked_up = self.fallback is Fallback.NGRAM and any(self.found)
        return looked_up or self.fallback is Fallback.DRAFT or any(self.prepared)


class Auto:
    """Outlives the runs of the round loop, with all that was learned. Its methods run on the target's thread."""

    def __init__(self) -> None:
        self.estimates = Estimates()
        self._ways = {
            "sd": Ways((Way.OFF, Way.SEQUENTIAL), self.estimates),
            "ssd": Ways((Way.OFF, Way.SEQUENTIAL, Way.CONCURRENT), self.estimates),
        }
        self.way = Way.SEQUENTIAL  # of the latest round
        self._trying = False  # whether it is to be learned what this way costs
        self._draining = False
        self._round = Noted(self.way, False, [])
        self._noted: list[Noted] = []
        self._done: Way | None = None  # what the latest round that was learned from turned out to be
        self._choices = 0

    def begin(self, mode: str, sequences: list[Sequence]) -> Way:
        """How the next round goes. What is prepared is still verified before drafting is switched off."""
        after_off = self.way is Way.OFF
        prepared = [bool(sequence.speculation) for sequence in sequences]
        self.way = self.next_way(mode, len(sequences))
        self._draining = self.way is Way.OFF and any(prepared)
        if self._draining:
            self.way = Way.SEQUENTIAL
        self._round = Noted(self.way, after_off, prepared)
        return self.way

    def usual_way(self, mode: str, size: int) -> Way:
        """How rounds of so many sequences go, trials aside."""
        return self._ways[mode].usual(size)

    def next_way(self, mode: str, size: int) -> Way:
        way = self._ways[mode].next(size)
        self._trying = self._ways[mode].trying
        return way

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
        rounds = fallback_rounds(self.estimates, self.way, size, size - waiting, found)
        if Fallback.DRAFT not in rounds or self._round.after_off:  # it has to be known; or has much to catch up with
            return Fallback.DRAFT
        usual = way_speeds(self.estimates, size)[self.way]
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
        estimates, size, way, fallback = self.estimates, len(noted.prepared), noted.way, noted.fallback
        done = way if noted.verified() else None if way is Way.CONCURRENT else Way.OFF
        if done and done is self._done:  # the first round of another kind finds cold caches
            estimates.rounds[done].add(size, noted.seconds - noted.waited)
        self._done = done
        if fallback is Fallback.DRAFT and not noted.after_off:
            estimates.draft.add(size, noted.waited)
        for i, gained in enumerate(noted.gained):
            if gained is None:
                continue
            tokens, hit = gained
            if way is Way.CONCURRENT:
                estimates.hits.add(hit)
            if noted.prepared[i]:
                estimates.hit_tokens.add(tokens)
            elif fallback is Fallback.DRAFT:
                estimates.draft_tokens.add(tokens)
            elif fallback is Fallback.NGRAM and noted.found[i]:
                estimates.ngram_tokens.add(tokens)
