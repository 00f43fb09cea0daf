"""How often the true bonus token is missed, by how many candidates are prepared where a chain stops."""

from __future__ import annotations

from saguaro import LLM
from study.text import TEMPERATURES, recordings, runner

FAN_OUTS = (1, 2, 4, 8, 16, 32)
PAPER = {  # Figure 3: the paper's own pair
    "0.0": {2: 0.23, 4: 0.13, 8: 0.08, 16: 0.05, 32: 0.04},
    "1.0": {2: 0.40, 4: 0.30, 8: 0.22, 16: 0.17, 32: 0.12},
}


def measure(llm: LLM, count: int) -> dict[str, dict[str, float]]:
    """`{temperature: {fan-out: share missed}}`, over the places where the draft's own choice is not the target's: the
    candidates are the others, best first."""
    result = {}
    for temperature in TEMPERATURES:
        ranks = []
        for recording in recordings(runner(llm, temperature, count), max(FAN_OUTS) + 1):
            for truth, tokens in zip(recording.truth, recording.tokens.tolist(), strict=True):
                if tokens[0] != truth:
                    ranks.append(tokens.index(truth) if truth in tokens else len(tokens))
        result[str(temperature)] = {str(f): sum(rank > f for rank in ranks) / len(ranks) for f in FAN_OUTS}
    return result
