"""`fallback: auto` (design 3.5): the expected tokens per second of each thing that a round can do.

In a batch one sequence that waits for the draft makes all wait, so beyond some batch size the fallback that does not
wait wins; and where verifying K + 1 tokens of every sequence costs far more than computing one, nothing beats plain
decoding. Tokens never depend on any of it, so that estimates may be rough and decisions may follow the clock.
"""

from __future__ import annotations

from saguaro.runtime.speculation.estimates import Estimates, Fallback, Way


def fallback_speeds(
    estimates: Estimates, way: Way, size: int, hits: float, found: float, waiting: float | None = None
) -> dict[Fallback, float]:
    """Tokens per second of the round to come, for each fallback whose times are known.

    Args:
        way: sequential or concurrent.
        size: sequences in the batch.
        hits: those that have a prepared speculation.
        found: those of the others for which a look-up found something.
        waiting: the chance that one of the others is there at all, which then waits for the draft; None: certain.
    """
    base, wait = estimates.rounds[way].at(size), estimates.draft.at(size)
    prepared, others = hits * estimates.hit_tokens.value, size - hits
    speeds = {}
    if base is not None:
        if wait is not None:
            wait *= 1 if waiting is None else waiting
            speeds[Fallback.DRAFT] = (prepared + others * estimates.draft_tokens.value) / (base + wait)
        if found:
            tokens = prepared + found * estimates.ngram_tokens.value + others - found
            speeds[Fallback.NGRAM] = tokens / base
        if hits:
            speeds[Fallback.NOTHING] = (prepared + others) / base
    plain = estimates.rounds[Way.OFF].at(size)
    if not hits and plain is not None and way is Way.SEQUENTIAL:  # a round of plain decoding
        speeds[Fallback.NOTHING] = size / plain
    return speeds


def way_speeds(estimates: Estimates, size: int) -> dict[Way, float]:
    """Tokens per second of rounds that go on in one way, each with the fallback that is best there. A way of which
    nothing is known is left out."""
    speeds = {}
    plain = estimates.rounds[Way.OFF].at(size)
    if plain is not None:
        speeds[Way.OFF] = size / plain
    hit = estimates.hits.value
    for way, hits in ((Way.SEQUENTIAL, 0.0), (Way.CONCURRENT, size * hit)):
        found = (size - hits) * estimates.found.value
        some_wait = 1 - hit**size if hits else None
        each = fallback_speeds(estimates, way, size, hits, found, some_wait)
        each.pop(Fallback.NOTHING, None)
        if each:
            speeds[way] = max(each.values())
    return speeds
