"""Target and draft with their threads, and the loop of each mode over them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import Any

import torch

from saguaro.errors import ConfigError, RequestError
from saguaro.runtime.configuration import Configuration
from saguaro.runtime.draft_side import DraftSide
from saguaro.runtime.drafter import Drafter
from saguaro.runtime.metrics import RunMetrics
from saguaro.runtime.rejection import rejection_drafter
from saguaro.runtime.rejection_verifier import RejectionVerifier
from saguaro.runtime.rounds import RoundLoop
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.session import Session
from saguaro.runtime.speculation import NgramIndex
from saguaro.runtime.speculative_rounds import ConcurrentLoop, SpeculativeLoop
from saguaro.runtime.timing import Lane, timed
from saguaro.runtime.trace import Trace
from saguaro.runtime.tree_drafter import TreeDrafter
from saguaro.runtime.verifier import Verifier
from saguaro.runtime.worker import Worker

MODES = ("ar", "sd", "ssd")


def check_mode(mode: str) -> str:
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    return mode


class LoadedModel:
    """A session, loaded on the thread that will run it, with the lane that notes what it does."""

    def __init__(self, name: str, device: torch.device, threads: int, load: Callable[[], Session]):
        # The round waits for the target, so its kernels go first where the two share a GPU.
        self.worker = Worker(name, device, threads, priority=-1 if name == "target" else 0)
        self.lane = Lane()
        try:
            self.session = timed(self.worker.run(load), self.lane)
        except BaseException:
            self.worker.close()
            raise
        # A full collection walks everything that was imported, in the midst of a round; what is there by now stays.
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        self.worker.run(self.session.close)
        self.worker.close()
        gc.unfreeze()


class Pair:
    """The loaded pair. The draft is loaded when a mode first needs it."""

    def __init__(
        self, target: LoadedModel, load_draft: Callable[[], LoadedModel], speculation: dict[str, Any], chunk: int
    ):
        """`speculation`: the deployment file's section of that name."""
        self.target, self._load_draft, self.chunk = target, load_draft, chunk
        self._draft: LoadedModel | None = None
        self.configuration = Configuration(speculation)
        self.verifier = Verifier(target.session, chunk)
        self._rejection_verifier = RejectionVerifier(target.session, chunk)
        self.last_run = RunMetrics()
        self._busy = Lock()
        self._closed = False

    @property
    def draft(self) -> LoadedModel:
        if self._draft is None:
            self._draft = self._load_draft()
        return self._draft

    def run(
        self, sequences: list[Sequence], mode: str, every_round: bool = True, trace: Trace | None = None
    ) -> Iterator[tuple[Sequence, list[int]]]:
        """Generate in one of `MODES`; see `RoundLoop.run`. Raises RequestError while another run is under way."""
        if self._closed:
            raise RequestError("this LLM is closed; make a new one")
        if not self._busy.acquire(blocking=False):
            raise RequestError("this LLM is generating already; let that end, or give it all prompts in one call")
        try:
            configuration = self.configuration
            # Where nothing is sampled the two rules are one, and the coupled one's chains may end early.
            sampled = any(sequence.params.temperature > 0 for sequence in sequences)
            rejection = sampled and configuration.speculation.get("verification") == "rejection"
            loop = self._loop(mode, rejection)
            loop.trace = trace
            fallback = configuration.speculation["fallback"]
            if rejection and fallback == "auto":
                fallback = "draft"  # what is proposed would depend on timing, and with it what a seed gives
            if isinstance(loop, SpeculativeLoop) and fallback != "draft":
                for sequence in sequences:
                    sequence.ngrams = NgramIndex(sequence.tokens)
                if fallback == "auto":
                    loop.auto = configuration.autos[all(sequence.params.temperature == 0 for sequence in sequences)]
            try:
                yield from loop.run(sequences, every_round)
            finally:
                self.last_run = loop.metrics
        finally:
            self._busy.release()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.target.close()
        if self._draft:
            self._draft.close()

    def _loop(self, mode: str, rejection: bool) -> RoundLoop:
        target = self.target
        if mode == "ar":
            return RoundLoop(self.verifier, target.worker, target.lane)
        draft = self.draft
        drafters = self.configuration.drafters
        if rejection not in drafters:
            drafters[rejection] = self._drafter(draft.session, rejection)
        verifier = self._rejection_verifier if rejection else self.verifier
        kind = ConcurrentLoop if mode == "ssd" else SpeculativeLoop
        loop = kind(verifier, target.worker, target.lane, drafters[rejection], draft.worker, draft.lane)
        if isinstance(loop, ConcurrentLoop) and rejection:
            loop.anytime = False  # as with the fallback
        return loop

    def _drafter(self, session: Session, rejection: bool) -> DraftSide[Any, Any]:
        vocab_size, speculation = self.target.session.vocab_size, self.configuration.speculation
        nodes = speculation.get("tree_nodes", 0)
        if rejection:
            return rejection_drafter(session, speculation, self.chunk, vocab_size)
        kind: Any = partial(TreeDrafter, nodes=nodes) if nodes else Drafter
        drafter: DraftSide[Any, Any] = kind(
            session,
            lookahead=speculation["lookahead"],
            policy=self.configuration.policies,
            chunk=self.chunk,
            vocab_size=vocab_size,
            taper=session.device.type == "cpu",
        )
        return drafter
