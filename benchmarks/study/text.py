"""What the study generates from: the demo pair's held-out prompts, with a seed each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from saguaro import LLM
from saguaro.runtime.sequence import Sequence
from saguaro.tuner.recording import Recording, record
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings

DEMO = Path(__file__).parents[2] / "examples" / "demo"
TEMPERATURES = (0.0, 0.7, 1.0)
MAX_TOKENS = 64


def runner(llm: LLM, temperature: float, count: int) -> Runner:
    """For the first `count` prompts."""
    lines = (DEMO / "prompts.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return _runner(llm, temperature, [json.loads(line)["prompt"] for line in lines])


def runner_of_all(llm: LLM, temperature: float) -> Runner:
    """For every beginning in the held-out files of this Python that the 40 prompts might have been chosen from."""
    sys.path.insert(0, str(DEMO))
    from training.prompts import candidates
    from training.stages import split_documents
    from training.vocabulary import load_tokenizer

    training, held_out = split_documents()
    words = load_tokenizer(DEMO / "target")
    return _runner(llm, temperature, [text for _, text in candidates(held_out, training, words)])


def _runner(llm: LLM, temperature: float, prompts: list[str]) -> Runner:
    encoded = [llm.tokenizer.encode(prompt) for prompt in prompts]
    return Runner(llm, encoded, max_tokens=MAX_TOKENS, temperature=temperature)


def recordings(run: Runner, candidates: int) -> list[Recording]:
    """The draft's `candidates` best tokens along the target's own text."""
    pair, made = run.llm.pair, []
    outputs = run.run(Settings("ar", 5, 1), 1).outputs
    for output, params in zip(outputs, run.params, strict=True):
        sequence = Sequence(list(output.prompt_token_ids), params, params.seed or 0, frozenset())
        sequence.tokens += output.outputs[0].token_ids
        vocab_size = pair.target.session.vocab_size
        made.append(pair.draft.worker.run(record, pair.draft.session, sequence, vocab_size, candidates, pair.chunk))
    return made
