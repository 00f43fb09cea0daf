"""Random pairs as loaded engines, each made once, and how tests ask them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import saguaro
from saguaro import LLM, RequestOutput, SamplingParams
from saguaro.runtime.metrics import RequestMetrics
from tests.support.checkpoints import make_checkpoint, noisy_copy

MODES = ("ar", "sd", "ssd")
VOCABULARY = 320


class Engines:
    """What was asked for before is given again; everything is closed with the last test."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._targets: dict[str, Path] = {}
        self._loaded: dict[str, LLM] = {}

    def target(self, architecture: str = "LlamaForCausalLM", **changes: Any) -> Path:
        key = repr((architecture, changes))
        if key not in self._targets:
            self._targets[key] = make_checkpoint(
                self._root / f"target{len(self._targets)}", architecture, **changes
            )
        return self._targets[key]

    def draft(self, target: Path, noise: float = 0.03) -> Path:
        """A draft whose tokens are accepted about four times in ten."""
        path = target.with_name(f"{target.name}-draft-{noise}")
        return path if path.exists() else noisy_copy(target, path, noise)

    def llm(
        self, target: Path | None = None, draft: Path | None = None, fallback: str | None = None, **options: Any
    ) -> LLM:
        """An engine of the pair (by default a Llama and its noisy copy) with the build's `options`."""
        target = target or self.target()
        draft = draft or self.draft(target)
        options = {"max_seq_len": 256, "max_batch_size": 4, **options}
        key = repr((target, draft, fallback, options))
        if key not in self._loaded:
            output = self._root / f"engine{len(self._loaded)}"
            output.with_suffix(".yaml").write_text(
                f"target: {{checkpoint: {target}}}\ndraft: {{checkpoint: {draft}}}\n"
                + (f"speculation: {{fallback: {fallback}}}\n" if fallback else "")
            )
            saguaro.build(output.with_suffix(".yaml"), output=output, enforce_eager=True, **options)
            self._loaded[key] = LLM(output)
        return self._loaded[key]

    def close(self) -> None:
        for llm in self._loaded.values():
            llm.close()


def random_prompts(count: int, most: int = 40, seed: int = 0, least: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, most + 1, (count,), generator=generator).tolist()
    return [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def token_ids(outputs: Sequence[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def total(outputs: Sequence[RequestOutput]) -> RequestMetrics:
    metrics = RequestMetrics()
    for output in outputs:
        metrics.add(output.metrics)
    return metrics


def same_in_all_modes(
    llm: LLM, prompts: list[list[int]], params: SamplingParams | list[SamplingParams]
) -> dict[str, list[RequestOutput]]:
    """Generate in each mode, and assert that tokens, texts and reasons are those of AR."""
    outputs = {mode: llm.generate(prompts, params, mode=mode) for mode in MODES}
    for mode in ("sd", "ssd"):
        for prompt, ours, ar in zip(prompts, outputs[mode], outputs["ar"], strict=True):
            assert ours.prompt_token_ids == ar.prompt_token_ids == prompt
            for mine, serial in zip(ours.outputs, ar.outputs, strict=True):
                assert mine.token_ids == serial.token_ids, f"{mode} differs from ar"
                assert mine.text == serial.text
                assert mine.finish_reason == serial.finish_reason
                assert mine.metrics.output_tokens == len(serial.token_ids)
    return outputs
