"""`saguaro.json`: what an engine directory holds, what built it, from what, and the policy's defaults."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from saguaro.errors import EngineError
from saguaro.models.config import ModelConfig

FORMAT_VERSION = 1


@dataclass
class ModelEntry:
    """One of the two engines."""

    source: str  # the checkpoint as the user named it
    source_files: dict[str, str]  # sha256 of its configuration and tensors
    config: dict[str, Any]  # saguaro.models.ModelConfig
    form: str  # "compiled": an ahead-of-time package; "eager": fused weights; "plan": a TensorRT plan
    rows: int  # KV rows of each slot
    threads: int  # CPU threads that it was compiled for
    device: str  # as the deployment asked: auto, cpu, cuda, cuda:N
    eos_token_ids: list[int]
    weight_files: list[str] = field(default_factory=list)  # of a plan with external weights, see `Manifest.files`

    @property
    def model_config(self) -> ModelConfig:
        return ModelConfig.from_dict(self.config)


@dataclass
class Manifest:
    backend: str
    precision: str
    max_batch_size: int
    max_seq_len: int
    chunk: int  # most tokens of one step
    built_with: dict[str, str]  # versions, and on a CPU its capability
    speculation: dict[str, Any]  # the deployment file's section
    target: ModelEntry
    draft: ModelEntry
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {**values, "sha256": digest(values)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> Manifest:
        known = {f.name for f in fields(cls)}
        try:
            kept = {name: value for name, value in values.items() if name in known}
            kept["target"], kept["draft"] = ModelEntry(**values["target"]), ModelEntry(**values["draft"])
            return cls(**kept)
        except (TypeError, KeyError) as error:
            raise EngineError(f"{source}: a field is missing or unknown ({error}); build the engine again") from error


def digest(values: dict[str, Any]) -> str:
    """sha256 of the manifest's content, all but this digest itself."""
    content = {name: value for name, value in values.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
