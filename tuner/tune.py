"""`tune`: record, measure, predict the grid, run the best few, and write the quickest into the engine directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from saguaro.engine.directory import rewrite_manifest
from saguaro.engine.limits import change_speculation
from saguaro.errors import ConfigError
from saguaro.llm import LLM
from saguaro.outputs import RequestOutput
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence as Generation
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.tuner.costs import Costs
from saguaro.tuner.measure import CostMeter
from saguaro.tuner.predict import Predictor
from saguaro.tuner.recording import Recording, record
from saguaro.tuner.report import Report
from saguaro.tuner.runs import Runner
from saguaro.tuner.search import Search, Verified
from saguaro.tuner.settings import Settings, grid

Progress = Callable[[str, int, int], None]


class Tuner:
    def __init__(
        self,
        llm: LLM,
        prompts: Sequence[list[int]],
        *,
        temperature: float,
        max_tokens: int,
        batches: Sequence[int],
        repeat: int,
        report: Path,
        progress: Progress,
    ):
        """
        Args:
            prompts: token ids.
            batches: batch sizes to be quick at.
            repeat: passes over the prompts whose median counts.
            report: the JSON file to write; a run that was interrupted goes on from it.

        Raises ConfigError: a batch size that the engine was not built for, a file that cannot be the report.
        """
        most = llm.manifest.max_batch_size
        for batch in batches:
            if not 1 <= batch <= most:
                raise ConfigError(
                    f"batch is {batch}, but the engine was built for 1 to {most} sequences; "
                    f"build it again with --max-batch-size {batch}"
                )
        self.llm, self.prompts, self.batches, self.repeat = llm, list(prompts), list(batches), repeat
        self.temperature, self.progress = temperature, progress
        self.runner = Runner(llm, self.prompts, max_tokens=max_tokens, temperature=temperature)
        files = sorted((name, entry["sha256"]) for name, entry in llm.manifest.files.items())
        self.report = Report.open(report, files, prompts, temperature, max_tokens, batches, repeat)
        built = llm.manifest.speculation
        now = Settings("ssd", built["lookahead"], built["budget"], built.get("tree_nodes", 0))
        # When a run is gone on with, the engine may already have the settings that it chose.
        self.base = Settings(**(self.report.get("base") or now.to_dict()))
        self.settings = list(grid(llm.manifest, self.base))

    def run(self) -> list[Verified]:
        """What was verified, the quickest first; that one is the engine's from now on."""
        recordings = self._recordings()
        costs = {batch: self._costs(batch, recordings) for batch in self.batches}
        search = Search(
            self.settings, self.base, Predictor(self.runner, recordings),
            report=self.report, repeat=self.repeat, progress=self.progress,
        )  # fmt: skip
        verified = search.run(costs)
        self.llm.manifest.speculation = change_speculation(self.llm.manifest, verified[0].settings.changes())
        rewrite_manifest(self.llm.directory, self.llm.manifest)
        self.llm.change(**self.llm.manifest.speculation)
        self.llm.pair.configuration.policies.restore(self.runner.statistics)
        self.llm.save_statistics()
        self.report.note(verified[0].settings.to_dict(), "chosen")
        return verified

    def _recordings(self) -> list[Recording]:
        """The target's own text, and the draft's candidates along it; the statistics of a first SSD run."""
        noted = self.report.get("recordings")
        if noted is None:
            self.progress("text", 0, 3)
            outputs = self.runner.run(Settings("ar", 1, 1), max(self.batches)).outputs
            self.progress("text", 1, 3)
            candidates = max(AdaptivePolicy(s.budget, s.lookahead).candidates() for s in self.settings)
            recordings = [self._record(output, params, candidates) for output, params in self._pairs(outputs)]
            self.progress("text", 2, 3)
            self.runner.run(self.base, 1)
            statistics = self.llm.pair.configuration.policies.statistics()
            self.report.note(self.base.to_dict(), "base")
            self.report.note(statistics, "statistics")
            self.report.note([recording.to_dict() for recording in recordings], "recordings")
            noted = self.report.get("recordings")
            self.progress("text", 3, 3)
        self.runner.statistics = self.report.get("statistics")
        return [Recording.from_dict(one) for one in noted]

    def _pairs(self, outputs: list[RequestOutput]) -> list[tuple[RequestOutput, SamplingParams]]:
        return list(zip(outputs, self.runner.params, strict=True))

    def _record(self, output: RequestOutput, params: SamplingParams, candidates: int) -> Recording:
        pair = self.llm.pair
        sequence = Generation(list(output.prompt_token_ids), params, params.seed or 0, frozenset())
        sequence.tokens += output.outputs[0].token_ids
        arguments = (pair.draft.session, sequence, pair.target.session.vocab_size, candidates, pair.chunk)
        return pair.draft.worker.run(record, *arguments)

    def _costs(self, batch: int, recordings: list[Recording]) -> Costs:
        if self.report.get("costs", str(batch)) is None:
            middle = [r.prompt + r.truth[: len(r.truth) // 2] for r in recordings]
            some = [middle[i % len(middle)] for i in range(batch)]
            nodes = max(max(s.lookahead, s.tree_nodes) for s in self.settings)
            rows = max(s.budget for s in self.settings)
            meter = CostMeter(self.llm.pair, some, self.temperature, nodes, rows)
            stage = f"costs, batch {batch}"
            costs = meter.measure(lambda done, total: self.progress(stage, done, total))
            self.report.note(costs.to_dict(), "costs", str(batch))
        return Costs.from_dict(self.report.get("costs", str(batch)))
