"""`fallback: auto` (design 3.5): what each thing that a round can do is expected to bring and to take.

In a batch one sequence that waits for the draft makes all wait, so beyond some batch size the fallback that does not
wait wins; and where verifying K + 1 tokens of every sequence costs far more than computing one, nothing beats plain
decoding. Tokens never depend on any of it, so that estimates may be rough and decisions may follow the clock.
"""

from __future__ import annotations

from typing import NamedTuple

from saguaro.runtime.speculation.estimates import OFF, Estimates, Fallback, Plan, Way


class Expected(NamedTuple):
    """Of a round: the tokens of all its sequences, and seconds."""

    tokens: float
    seconds: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds

    def beyond(self, usual: float) -> float:
        """How many tokens it brings more than rounds of the `usual` speed bring in its time. Whatever this round does,
        the next ones go on as usual: so this is what to maximise, and not the round's own speed, by which a long round
        that brings much beats a short one that lets the next begin."""
        return self.tokens - usual * self.seconds


def fallback_rounds(
    estimates: Estimates,
    plan: Plan,
    size: int,
    hits: float,
    found: float,
    waiting: float | None = None,
    seconds: float | None = None,
) -> dict[Fallback, Expected]:
    """The round to come with each fallback whose times are known.

    Args:
        plan: one in which something is verified.
        size: sequences in the batch.
        hits: those that have a prepared speculation.
        found: those of the others for which a look-up found something.
        waiting: the chance that one of the others is there at all, which then waits for the draft; None: certain.
        seconds: what the round takes without that wait; None: as estimated.
    """
    base, wait = seconds or estimates.rounds[plan].at(size), estimates.draft.at(size)
    lookahead, others = plan.lookahead, size - hits
    prepared = hits * estimates.hit.tokens(lookahead)
    rounds = {}
    if base is not None:
        if wait is not None:
            wait *= lookahead * (1 if waiting is None else waiting)
            drafted = others * estimates.drafted.tokens(lookahead)
            rounds[Fallback.DRAFT] = Expected(prepared + drafted, base + wait)
        if found:
            tokens = prepared + found * estimates.ngram.tokens(lookahead) + others - found
            rounds[Fallback.NGRAM] = Expected(tokens, base)
        if hits:
            rounds[Fallback.NOTHING] = Expected(prepared + others, base)
    plain = estimates.rounds[OFF].at(size)
    if not hits and plain is not None and plan.way is Way.SEQUENTIAL:  # a round of plain decoding
        rounds[Fallback.NOTHING] = Expected(size, plain)
    return rounds


def speed(estimates: Estimates, plan: Plan, size: int, seconds: float | None = None) -> float | None:
    """Tokens per second of rounds that go on in one way, each with the fallback that is best there; None where nothing
    is known of them. `seconds`: as above."""
    if plan == OFF:
        plain = estimates.rounds[OFF].at(size)
        return size / plain if plain else None
    hit = estimates.hits.value if plan.way is Way.CONCURRENT else 0.0
    hits = size * hit
    found = (size - hits) * estimates.found.value
    some_wait = 1 - hit**size if hits else None
    each = fallback_rounds(estimates, plan, size, hits, found, some_wait, seconds)
    each.pop(Fallback.NOTHING, None)
    return max((expected.speed for expected in each.values()), default=None)
