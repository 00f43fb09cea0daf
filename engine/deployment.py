"""What a deployment says: which models, how they are built, how they speculate, and where they run.

Each field's description is what an error says was expected (see deployment_errors.py).
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from saguaro.engine.deployment_errors import problem, sentence
from saguaro.engine.environment import Substituted, plain_value
from saguaro.errors import ConfigError

Backend = Literal["torch", "tensorrt-rtx", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16"]
Weights = Literal["external", "embedded"]
Attention = Literal["auto", "plugin", "native"]
Mode = Literal["ar", "sd", "ssd"]
Verification = Literal["coupled", "rejection"]
FanOut = Literal["adaptive", "geometric", "uniform"]


def _integer(default: int, least: int, most: int) -> Any:
    return Field(default, strict=True, ge=least, le=most, description=f"an integer from {least} to {most}")


def _choice(default: str, kind: Any) -> Any:
    return Field(default, description="one of " + ", ".join(get_args(kind)))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_substituted(cls, data: Any) -> Any:
        """Text from the environment may stand for a number, where the field is one."""
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        return {
            key: plain_value(value, as_text=key in fields and fields[key].annotation is str)
            if isinstance(value, Substituted)
            else value
            for key, value in data.items()
        }


class Model(Section):
    """One checkpoint: the absolute path of a local directory, or a hub id `org/name[@revision]`."""

    checkpoint: str = Field(
        strict=True,
        min_length=1,
        description="a local Hugging Face directory or a hub id org/name[@revision]",
    )

    @field_validator("checkpoint")
    @classmethod
    def _locate(cls, checkpoint: str, info: ValidationInfo) -> str:
        """Relative paths are relative to the context: the deployment file's directory, where there is one."""
        path = os.path.abspath(os.path.join(info.context or "", os.path.expanduser(checkpoint)))
        hub_id = checkpoint[0] not in "./~" and checkpoint.partition("@")[0].count("/") == 1
        return checkpoint if hub_id and not os.path.isdir(path) else path


class Build(Section):
    """How the two checkpoints are compiled."""

    backend: Backend = _choice("torch", Backend)
    precision: Precision = _choice("fp32", Precision)
    max_batch_size: int = _integer(4, 1, 256)
    max_seq_len: int = _integer(1024, 16, 1_048_576)
    weights: Weights = _choice("external", Weights)  # of the TensorRT backends
    attention: Attention = _choice("auto", Attention)  # of these too; auto is plugin where there are plugins
    compute_capability: list[str] = Field(
        default=[], description='a list of compute capabilities such as ["8.9", "12.0"]'
    )
    enforce_eager: bool = Field(
        default=False, strict=True, description="true or false (true skips ahead-of-time compilation)"
    )

    @field_validator("compute_capability", mode="before")
    @classmethod
    def _as_text(cls, names: Any) -> Any:
        """Without quotes 8.9 is a number to YAML."""
        if isinstance(names, (list, tuple)):
            texts = [str(name) if isinstance(name, float) else name for name in names]
            if all(isinstance(text, str) and re.fullmatch(r"[0-9]{1,2}\.[0-9]", text) for text in texts):
                return [str(text) for text in texts]
        raise problem()

    @model_validator(mode="after")
    def _check_backend(self) -> Build:
        if self.precision == "fp16" and self.backend == "torch":
            raise problem("precision", expected="fp32 or bf16, as fp16 needs the backend tensorrt-rtx or tensorrt")
        if self.attention == "plugin" and self.backend != "tensorrt":
            raise problem("attention", expected=f"native, as the backend {self.backend} has no plugins")
        if self.compute_capability and self.backend == "tensorrt":
            raise problem("compute_capability", expected="none, as tensorrt builds for the GPU that it builds on")
        return self

    @property
    def plugin_attention(self) -> bool:
        """Whether our own kernels compute the attention inside the plan."""
        return self.backend == "tensorrt" and self.attention != "native"


class Speculation(Section):
    """What is speculated: the defaults of every request."""

    mode: Mode = _choice("ssd", Mode)
    lookahead: int = _integer(5, 1, 64)
    budget: int = _integer(24, 1, 1024)
    tree_nodes: int = _integer(0, 0, 512)
    fan_out: FanOut | list[int] = Field(
        default="adaptive",
        description="one of adaptive, geometric, uniform, or a list of lookahead + 1 integers",
    )
    verification: Verification = _choice("coupled", Verification)
    saguaro_c: float = Field(default=1.0, strict=True, ge=0, le=1, description="a number from 0 to 1")
    fallback: Literal["auto", "draft", "ngram"] = Field(default="auto", description="one of auto, draft, ngram")

    @field_validator("fan_out", mode="before")
    @classmethod
    def _check_fan_out(cls, fan_out: Any) -> Any:
        if isinstance(fan_out, list):
            good = all(type(count) is int and count >= 0 for count in fan_out)
        else:
            good = isinstance(fan_out, str) and fan_out in get_args(FanOut)
        if not good:
            raise problem()
        return fan_out

    @model_validator(mode="after")
    def _check_counts(self) -> Speculation:
        if 0 < self.tree_nodes < self.lookahead:
            raise problem("tree_nodes", expected=f"0 for chains, or at least the lookahead of {self.lookahead}")
        if self.tree_nodes and self.fan_out != "adaptive":
            raise problem("fan_out", expected="adaptive, as tree_nodes is not 0")
        if self.tree_nodes and self.verification == "rejection":
            raise problem("tree_nodes", expected="0, as verification: rejection speculates chains")
        if self.saguaro_c != 1 and self.verification != "rejection":
            raise problem("saguaro_c", expected="1, as Saguaro sampling needs verification: rejection")
        if isinstance(self.fan_out, str):
            return self
        if len(self.fan_out) != self.lookahead + 1:
            raise problem("fan_out", expected=f"{self.lookahead + 1} integers, one more than lookahead")
        if not 1 <= sum(self.fan_out) <= self.budget:
            raise problem("fan_out", expected=f"integers whose sum is from 1 to the budget of {self.budget}")
        return self


class Place(Section):
    """Where one model runs. `threads` counts on a CPU."""

    device: str = Field(
        default="auto",
        strict=True,
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        description="auto, cpu, cuda or cuda:N",
    )
    threads: int = _integer(1, 1, 1024)


class Placement(Section):
    target: Place = Field(default=Place(), description="a mapping with device and threads")
    draft: Place = Field(default=Place(), description="a mapping with device and threads")


class Deployment(Section):
    target: Model = Field(description="a mapping such as {checkpoint: org/name}")
    draft: Model = Field(description="a mapping such as {checkpoint: org/name}")
    build: Build = Field(default=Build(), description="a mapping such as {backend: torch}")
    speculation: Speculation = Field(default=Speculation(), description="a mapping such as {lookahead: 5}")
    placement: Placement = Field(default=Placement(), description="a mapping with target and draft")

    @model_validator(mode="before")
    @classmethod
    def _allow_empty_sections(cls, data: Any) -> Any:
        """`build:` with nothing under it is what remains when its lines are commented out."""
        if not isinstance(data, dict):
            return data
        empty = {key for key, value in data.items() if value is None and key in cls.model_fields}
        return {key: {} if key in empty else value for key, value in data.items()}

    @classmethod
    def from_mapping(cls, data: Any, *, source: str, base: Path) -> Deployment:
        """Validate what a deployment file holds. Raises ConfigError: `source`, then what is wrong."""
        try:
            return cls.model_validate(data, context=str(base))
        except ValidationError as error:
            raise ConfigError(f"{source}: {sentence(cls, error)}") from None

    @classmethod
    def from_options(cls, base: Deployment | None = None, **options: Any) -> Deployment:
        """A deployment from keyword options (None: not given), or `base` with these changes.

        The options are `target`, `draft` (checkpoints) and the fields of `build` and `speculation`. Relative
        paths are relative to the working directory. Raises ConfigError, one sentence that names the option.
        """
        data: dict[str, Any] = {} if base is None else dict(base)  # sections that stay are not read again
        names: dict[tuple[str, ...], str] = {}
        for name, value in options.items():
            if value is not None:
                section, field = _option_field(name)
                data[section] = {**dict(data.get(section, {})), field: value}
                names[section, field] = name
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(sentence(cls, error, names)) from None


def _option_field(option: str) -> tuple[str, str]:
    if option in ("target", "draft"):
        return option, "checkpoint"
    for name, section in (("build", Build), ("speculation", Speculation)):
        if option in section.model_fields:
            return name, option
    raise TypeError(f"{option!r} is not an option of a deployment")
