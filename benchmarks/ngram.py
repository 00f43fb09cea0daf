"""What the n-gram fallback costs on the host: `python benchmarks/ngram.py [--history 4000] [--lookahead 5]`.

A round extends the index by the tokens accepted and proposes again; no device has a part in it. Times are in
microseconds: the median and the 99th percentile of a round, and the prompt per token. The texts: `code`, this
repository's own sources, a token for each word or mark; `random` from few tokens, full of short matches; `loop`, one
period over and over. `tokens_per_round` is what each pair of shortest and longest match gains: a target that writes
the sources of this repository, each file from its first 200 tokens on. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
import tracemalloc
from itertools import accumulate, chain, cycle, islice
from operator import and_, eq
from pathlib import Path

from saguaro.runtime.speculation.ngram import NgramIndex

ACCEPTED = 4  # tokens a round, where times are measured
LENGTHS = ((1, 2), (1, 3), (1, 5), (1, 8), (2, 5), (3, 5), (5, 5))


def sources() -> list[list[int]]:
    paths = sorted((Path(__file__).parents[1] / "runtime").rglob("*.py"))
    words = [re.findall(r"\w+|[^\w ]", path.read_text()) for path in paths]
    number = {word: i for i, word in enumerate(dict.fromkeys(chain(*words)))}
    return [[number[word] for word in text] for text in words]


def texts(length: int) -> dict[str, list[int]]:
    dice = random.Random(0)
    return {
        "code": list(islice(cycle(chain(*sources())), length)),
        "random": [dice.randrange(16) for _ in range(length)],
        "loop": list(islice(cycle(range(7)), length)),
    }


def measure(tokens: list[int], history: int, lookahead: int) -> dict[str, float]:
    start = time.perf_counter()
    index = NgramIndex(tokens[:history])
    prompt = time.perf_counter() - start
    rounds = []
    for first in range(history, len(tokens), ACCEPTED):
        start = time.perf_counter()
        index.extend(tokens[first : first + ACCEPTED])
        index.propose(lookahead)
        rounds.append(time.perf_counter() - start)
    tracemalloc.start()
    kept = NgramIndex(tokens[:history])
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {
        "round_median_us": round(statistics.median(rounds) * 1e6, 2),
        "round_p99_us": round(statistics.quantiles(rounds, n=100)[98] * 1e6, 2),
        "prompt_us_per_token": round(prompt / history * 1e6, 3),
        "bytes_per_token": round(memory / len(kept)),
    }


def tokens_per_round(shortest: int, longest: int, lookahead: int, prompt: int = 200) -> float:
    rounds = written = 0
    for text in sources():
        index = NgramIndex(text[:prompt], shortest=shortest, longest=longest)
        while (at := len(index)) < len(text):
            proposed, truth = index.propose(lookahead), text[at : at + lookahead + 1]
            accepted = sum(accumulate(map(eq, proposed, truth), and_))
            new = truth[: accepted + 1]
            index.extend(new)
            rounds, written = rounds + 1, written + len(new)
    return round(written / rounds, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, default=4000)
    parser.add_argument("--lookahead", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=500)
    chosen = parser.parse_args()
    made = texts(chosen.history + ACCEPTED * chosen.rounds)
    times = {name: measure(tokens, chosen.history, chosen.lookahead) for name, tokens in made.items()}
    gains = {f"{a} to {b}": tokens_per_round(a, b, chosen.lookahead) for a, b in LENGTHS}
    result = {**vars(chosen), "accepted_per_round": ACCEPTED, "times": times, "tokens_per_round": gains}
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
