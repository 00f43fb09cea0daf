"""Sampled tokens follow the model's probabilities: chi-square over 20,000 seeds, with and without filters.

The 20,000 seeds go through `saguaro.plugins.tree_accept` over logits from a session, which is all that
`Verifier` does between a forward and its outcomes. The speculation is the tree of every possible first token,
so that the walk's first step samples the first token and its bonus token is the second, each from its own
node's logits. 500 more go end to end through `LLM.generate`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from saguaro import SamplingParams
from saguaro.plugins import tree_accept
from saguaro.runtime.speculation import Speculation
from tests.models.reference import chain, expected, session, transformers_model, tree
from tests.runtime.engines import VOCABULARY, Engines, token_ids
from tests.support.checkpoints import make_checkpoint

SEEDS = 20_000
SIZE = 24  # of the small model's vocabulary
PROMPT = [3, 17, 8, 11, 5]
FILTERS = {
    "plain": {"temperature": 0.8},
    "all": {"temperature": 1.5, "top_k": 12, "top_p": 0.9, "min_p": 0.02},
}


def probabilities(
    logits: torch.Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> torch.Tensor:
    """What vLLM's filters leave of softmax, the plain way: one token after another, likeliest first."""
    likely = torch.softmax(logits.double() / temperature, dim=-1)
    result = torch.zeros_like(likely)
    order = likely.argsort(descending=True).tolist()
    kept = [token for token in order if likely[token] >= min_p * likely.max()]
    kept = kept[:top_k] if top_k else kept
    mass, reached = sum(float(likely[token]) for token in kept), 0.0
    for token in kept:
        if reached >= top_p:
            break
        result[token] = likely[token]
        reached += float(likely[token]) / mass
    return result / result.sum()


def p_value(counts: Counter[int], exact: torch.Tensor) -> float:
    """Chi-square, the tokens that are expected less than five times taken together."""
    total = sum(counts.values())
    assert all(exact[token] > 0 for token in counts), "a token was sampled that the filters drop"
    frequent = [token for token in range(len(exact)) if exact[token] * total >= 5]
    seen = [float(counts[token]) for token in frequent]
    hoped = [float(exact[token]) * total for token in frequent]
    rest = total - sum(hoped)
    if rest > 1e-6 * total:
        if rest < 5:  # too few to stand alone
            seen[-1] += total - sum(seen)
            hoped[-1] += rest
        else:
            seen.append(total - sum(seen))
            hoped.append(rest)
    assert len(seen) >= 4, "too few kinds of tokens to compare"
    return float(chisquare(seen, hoped).pvalue)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("small"), vocab_size=SIZE, initializer_range=0.2)


@pytest.fixture(scope="module")
def logits(small: Path) -> torch.Tensor:
    """`[1 + V, V]`: after the prompt, and after the prompt and each token."""
    with torch.inference_mode():
        ours, every = session(small), Speculation(tuple(range(SIZE)), (0,) * SIZE)
        ours.forward(chain([PROMPT[:-1]], [0]))
        return ours.forward(tree(PROMPT[-1], every, len(PROMPT) - 1))[0]


@pytest.mark.parametrize("name", FILTERS)
def test_first_and_second_token(small: Path, logits: torch.Tensor, name: str) -> None:
    filters = FILTERS[name]
    first = probabilities(expected(small, PROMPT)[-1], **filters)  # type: ignore[arg-type]
    second = torch.stack(
        [probabilities(expected(small, [*PROMPT, token])[-1], **filters) for token in range(SIZE)]  # type: ignore[arg-type]
    )
    assert (first == 0).any() == (name != "plain")
    tokens = torch.tensor([[PROMPT[-1], *range(SIZE)]])
    parents = torch.tensor([[-1] + [0] * SIZE])
    firsts: Counter[int] = Counter()
    seconds: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    for start in range(0, SEEDS, 2000):
        seeds = range(start, start + 2000)
        path, length, bonus = tree_accept(
            logits.expand(len(seeds), -1, -1), tokens.expand(len(seeds), -1), parents.expand(len(seeds), -1),
            seeds, len(PROMPT) - 1, **filters,
        )  # fmt: skip
        assert length.tolist() == [1] * len(seeds)
        drawn = list(zip((path[:, 0] - 1).tolist(), bonus.tolist(), strict=True))
        pairs.update(drawn)
        firsts.update(token for token, _ in drawn)
        seconds.update(token for _, token in drawn)
    assert p_value(firsts, first) > 1e-3
    assert p_value(seconds, first @ second) > 1e-3
    joint = (first.unsqueeze(1) * second).flatten()  # the second token depends on the first as it should
    assert p_value(Counter({a * SIZE + b: n for (a, b), n in pairs.items()}), joint) > 1e-3


def test_the_test_sees_a_biased_sampler(small: Path) -> None:
    """5 % more weight on one token of probability about a tenth is found at once."""
    exact = probabilities(expected(small, PROMPT)[-1], temperature=0.8)
    biased = exact.clone()
    biased[exact.argsort(descending=True)[1]] *= 1.2
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(biased, SEEDS, replacement=True, generator=generator).tolist()
    fair = torch.multinomial(exact, SEEDS, replacement=True, generator=generator).tolist()
    assert p_value(Counter(drawn), exact) < 1e-3 < p_value(Counter(fair), exact)


@pytest.mark.parametrize("name", ["plain", "all"])
def test_end_to_end(engines: Engines, name: str) -> None:
    """500 seeds through LLM.generate with SSD, and the same session's probabilities from transformers."""
    llm, prompt, filters = engines.llm(), [70, 71, 72], FILTERS[name]
    asked = [SamplingParams(max_tokens=2, seed=seed, ignore_eos=True, **filters) for seed in range(500)]  # type: ignore[arg-type]
    drawn = token_ids(llm.generate([prompt] * 500, asked, mode="ssd"))
    first = probabilities(expected(engines.target(), prompt)[-1], **filters)  # type: ignore[arg-type]
    assert p_value(Counter(tokens[0] for tokens in drawn), first) > 1e-3
    with torch.inference_mode():
        longer = torch.tensor([[*prompt, token] for token in range(VOCABULARY)])
        after = transformers_model(engines.target())(longer).logits[:, -1]
    second = torch.stack([probabilities(row, **filters) for row in after])  # type: ignore[arg-type]
    assert p_value(Counter(tokens[1] for tokens in drawn), first @ second) > 1e-3
