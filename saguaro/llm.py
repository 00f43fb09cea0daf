"""`LLM`: an engine directory, loaded, that takes prompts and gives text."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from saguaro.builder.checkpoint import TensorStore, load_tokenizer
from saguaro.engine.directory import open_engine_directory
from saguaro.engine.limits import change_speculation
from saguaro.engine.manifest import Manifest, ModelEntry
from saguaro.engine.statistics import STATISTICS, read_statistics, write_statistics
from saguaro.errors import EngineError, RequestError
from saguaro.outputs import Chunk, CompletionOutput, RequestOutput
from saguaro.prompts import Prompt, as_prompts, encode
from saguaro.runtime.configuration import Configuration
from saguaro.runtime.detokenizer import Detokenizer
from saguaro.runtime.load import load_session, session_device
from saguaro.runtime.metrics import RunMetrics
from saguaro.runtime.pair import LoadedModel, Pair, check_mode
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence as Generation
from saguaro.runtime.trace import Trace


class LLM:
    """Generates text from an engine directory, alone (`ar`) or with its draft (`sd`, `ssd`).

    The tokens do not depend on the mode: for one seed, all three give the same.

    Args:
        engine: an engine directory, as `saguaro.build` or `saguaro build` made it.
        mode: "ar", "sd" or "ssd"; None takes what the engine was built with.
        speculation: settings in place of the engine's own, such as {"budget": 8}; see the deployment file.

    Raises:
        EngineError: no engine, a damaged one, or one that cannot run on this machine.
        ConfigError: settings that the engine was not built for.
    """

    def __init__(
        self, engine: str | Path, mode: str | None = None, speculation: Mapping[str, Any] | None = None
    ):
        self.directory = Path(engine)
        self.manifest: Manifest = open_engine_directory(self.directory)
        chosen = change_speculation(self.manifest, speculation or {})
        self.mode = check_mode(mode or chosen["mode"])
        self.trace: Trace | None = None  # takes in all rounds while it is there
        self.tokenizer = load_tokenizer(self.directory / "tokenizer")
        self.pair = Pair(
            self._load("target"), lambda: self._load("draft"), chosen, self.manifest.chunk
        )
        self._restore()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        mode: str | None = None,
    ) -> list[RequestOutput]:
        """Complete prompts, several at a time; the outputs come in the order of the prompts.

        Args:
            prompts: a text, a list of token ids, a list of messages (`{"role": ..., "content": ...}`, put
                through the chat template), or a list of these.
            sampling_params: for all prompts, or one for each.
            mode: instead of the mode that the LLM was made with.

        Raises:
            RequestError: an empty prompt, or one that does not fit with `max_tokens` into the engine's length.
        """
        requests = self._requests(as_prompts(prompts), sampling_params)
        for _ in self._run(requests, mode, every_round=False):
            pass
        return [request.output() for request in requests]

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None, mode: str | None = None
    ) -> Iterator[Chunk]:
        """Complete one prompt, giving text as it is final. The last chunk carries the whole output.

        Raises RequestError as `generate` does, and for `n` other than 1.
        """
        params = sampling_params or SamplingParams()
        if params.n != 1:
            raise RequestError(f"n is {params.n}; a stream gives one completion, use generate for several")
        (request,) = self._requests([prompt], params)
        return self._stream(request, mode)

    def _stream(self, request: _Request, mode: str | None) -> Iterator[Chunk]:
        (completion,) = request.completions
        given = 0
        for sequence, _ in self._run([request], mode):
            last, tokens = sequence.finish_reason is not None, sequence.generated
            yield Chunk(completion.text.take(last), tokens[given:], request.output() if last else None)
            given = len(tokens)

    @property
    def last_run(self) -> RunMetrics:
        """Times of the latest `generate` or `stream`, over all its prompts."""
        return self.pair.last_run

    @property
    def speculation(self) -> dict[str, Any]:
        """The deployment file's section of that name, as it holds now."""
        return self.pair.configuration.speculation

    def change(self, **speculation: Any) -> None:
        """Other settings from the next call on, such as `budget=8`, with what was saved of the outcome policy.

        Raises ConfigError for settings that the engine was not built for.
        """
        changed = change_speculation(self.manifest, {**self.speculation, **speculation})
        self.mode = speculation.get("mode", self.mode)
        self.pair.configuration = Configuration(changed)
        self._restore()

    def _restore(self) -> None:
        try:
            self.pair.configuration.policies.restore(read_statistics(self.directory))
        except ValueError as error:
            file = self.directory / STATISTICS
            raise EngineError(f"{file}: is damaged ({error}); remove it, and it is learned again") from error

    def save_statistics(self) -> None:
        """Keep what the outcome policy has learned in the engine directory, where the next LLM goes on from it.

        It makes the first rounds as quick as later ones; no token depends on it.

        Raises EngineError when the directory cannot be written to.
        """
        kept = read_statistics(self.directory)
        for name, learned in self.pair.configuration.policies.statistics().items():
            kept[name] = {**kept.get(name, {}), **learned}
        write_statistics(self.directory, kept)

    def close(self) -> None:
        """End the threads and give back the memory."""
        self.pair.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self, requests: list[_Request], mode: str | None, every_round: bool = True
    ) -> Iterator[tuple[Generation, list[int]]]:
        completions = {c.sequence: c for request in requests for c in request.completions}
        every_round |= any(sequence.params.stop_strings for sequence in completions)  # they are looked for in between
        mode = check_mode(mode or self.mode)
        for sequence, tokens in self.pair.run(list(completions), mode, every_round, self.trace):
            completions[sequence].add(tokens)
            yield sequence, tokens

    def _requests(
        self, prompts: list[Prompt], params: SamplingParams | Sequence[SamplingParams] | None
    ) -> list[_Request]:
        if params is None or isinstance(params, SamplingParams):
            params = [params or SamplingParams()] * len(prompts)
        if len(params) != len(prompts):
            raise RequestError(f"{len(params)} sampling_params for {len(prompts)} prompts; give one, or one for each")
        return [self._request(prompt, one) for prompt, one in zip(prompts, params, strict=True)]

    def encode(self, prompt: Prompt, sampling_params: SamplingParams) -> list[int]:
        """The prompt's token ids. Raises RequestError as `generate` does."""
        return self._request(prompt, sampling_params).tokens

    def _request(self, prompt: Prompt, params: SamplingParams) -> _Request:
        text, tokens = encode(self.tokenizer, prompt, self.manifest.target.config["vocab_size"])
        limit = self.manifest.max_seq_len
        if len(tokens) + params.max_tokens > limit:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens and max_tokens is {params.max_tokens}, together more than the "
                f"engine's {limit}; shorten them, or build with a larger max_seq_len"
            )
        stops = set(params.stop_token_ids)
        if not params.ignore_eos:
            stops |= set(self.manifest.target.eos_token_ids)
        seed = secrets.randbits(63) if params.seed is None else params.seed
        request = _Request(text, tokens)
        for index in range(params.n):
            sequence = Generation(list(tokens), params, (seed + index) % 2**64, frozenset(stops), index)
            request.completions.append(_Completion(sequence, self.tokenizer))
        return request

    def _load(self, role: str) -> LoadedModel:
        entry: ModelEntry = getattr(self.manifest, role)
        load_weight: Callable[[str], Any] | None = None
        if entry.weight_files:
            load_weight = TensorStore((self.directory / entry.weight_files[0]).parent).get
        device = session_device(self.manifest, entry)
        return LoadedModel(
            role, device, entry.threads, lambda: load_session(self.directory, role, self.manifest, load_weight)
        )


class _Completion:
    """One sequence and its text."""

    def __init__(self, sequence: Generation, tokenizer: Any):
        self.sequence = sequence
        self.text = Detokenizer(tokenizer, sequence.tokens, sequence.params.stop_strings)

    def add(self, tokens: list[int]) -> None:
        """Take a round's tokens; end the sequence where a stop string is complete."""
        sequence = self.sequence
        first = len(sequence.tokens) - len(tokens)
        for offset, token in enumerate(tokens):
            if token in sequence.stop_tokens:
                break  # the end token's own text is not part of the completion
            if self.text.add(token):
                sequence.stop_at(first + offset + 1)
                break


class _Request:
    """One prompt and its completions."""

    def __init__(self, prompt: str | None, tokens: list[int]):
        self.prompt, self.tokens = prompt, tokens
        self.completions: list[_Completion] = []

    def output(self) -> RequestOutput:
        outputs = []
        for completion in self.completions:
            sequence = completion.sequence
            completion.text.take(last=True)
            logprobs = sequence.logprobs and sequence.logprobs[: len(sequence.generated)]
            text, tokens = completion.text.text, sequence.generated
            outputs.append(
                CompletionOutput(sequence.index, text, tokens, sequence.finish_reason, logprobs, sequence.metrics)
            )
        return RequestOutput(self.prompt, self.tokens, outputs)
