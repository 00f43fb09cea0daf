"""`fallback: auto` in the round loop: chooses how each round goes, and learns what it cost and brought."""

from __future__ import annotations

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation.estimates import Estimates, Fallback, Way
from saguaro.runtime.speculation.fallback import fallback_speeds
from saguaro.runtime.speculation.ways import Ways

EXPLORE = 48  # so many choices of a fallback bring one of the second best, which keeps its estimates fresh
Chains = dict[Sequence, list[int]]


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
        self._draining = self._after_off = False
        self._done: Way | None = None  # what the latest round turned out to be
        self._prepared: list[bool] = []
        self._found: set[Sequence] = set()
        self._fallback = Fallback.NOTHING
        self._choices = 0

    def begin(self, mode: str, sequences: list[Sequence]) -> Way:
        """How the next round goes. What is prepared is still verified before drafting is switched off."""
        self._after_off = self.way is Way.OFF
        self._prepared = [bool(sequence.speculation) for sequence in sequences]
        self._fallback, self._found = Fallback.NOTHING, set()
        self.way = self.next_way(mode, len(sequences))
        self._draining = self.way is Way.OFF and any(self._prepared)
        if self._draining:
            self.way = Way.SEQUENTIAL
        return self.way

    def next_way(self, mode: str, size: int) -> Way:
        way = self._ways[mode].next(size)
        self._trying = self._ways[mode].trying
        return way

    def choose(self, sequences: list[Sequence], looked_up: Chains) -> Chains:
        """What the sequences that have nothing prepared speculate without waiting: of those `looked_up`, what was
        found, or nothing. No entry at all: they wait for the draft."""
        self._found = {sequence for sequence, chain in looked_up.items() if chain}
        self.estimates.found.add(len(self._found) / len(looked_up))
        self._fallback = self.pick(len(sequences), len(looked_up), len(self._found))
        if self._fallback is Fallback.DRAFT:
            return {}
        return looked_up if self._fallback is Fallback.NGRAM else {sequence: [] for sequence in looked_up}

    def pick(self, size: int, waiting: int, found: int) -> Fallback:
        if self._draining:
            return Fallback.NOTHING
        speeds = fallback_speeds(self.estimates, self.way, size, size - waiting, found)
        if Fallback.DRAFT not in speeds or self._after_off:  # it has to be known; or has much to catch up with
            return Fallback.DRAFT
        if self._trying:
            speeds.pop(Fallback.NOTHING, None)
        self._choices += 1
        if self._choices % EXPLORE == 0 and found:
            return min((Fallback.DRAFT, Fallback.NGRAM), key=speeds.__getitem__)
        return max(speeds, key=speeds.__getitem__)

    def learn(self, sequences: list[Sequence], new: list[list[int]], seconds: float, waited: float) -> None:
        """From the round that just ended.

        Args:
            new: each sequence's new tokens.
            seconds: what the round took.
            waited: of these, for the draft to draft.
        """
        estimates, size, fallback = self.estimates, len(sequences), self._fallback
        verified = any(self._prepared) or fallback is Fallback.DRAFT or (fallback is Fallback.NGRAM and self._found)
        done = self.way if verified else None if self.way is Way.CONCURRENT else Way.OFF
        if done and done is self._done:  # the first round of another kind finds cold caches
            estimates.rounds[done].add(size, seconds - waited)
        self._done = done
        if fallback is Fallback.DRAFT and not self._after_off:
            estimates.draft.add(size, waited)
        for sequence, prepared, tokens in zip(sequences, self._prepared, new, strict=True):
            if sequence.finish_reason:
                continue  # it may have been cut short
            if self.way is Way.CONCURRENT:
                estimates.hits.add(bool(sequence.speculation))
            if prepared:
                estimates.hit_tokens.add(len(tokens))
            elif fallback is Fallback.DRAFT:
                estimates.draft_tokens.add(len(tokens))
            elif fallback is Fallback.NGRAM and sequence in self._found:
                estimates.ngram_tokens.add(len(tokens))
