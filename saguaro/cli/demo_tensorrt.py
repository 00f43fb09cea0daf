"""The demo's end: TensorRT plans, compiled without a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from saguaro.cli.progress import BuildProgress

if TYPE_CHECKING:
    from rich.console import Console

    from saguaro.models.config import ModelConfig

MAX_SEQ_LEN, LOOKAHEAD, MAX_STEP = 4096, 5, 128


def show_tensorrt(console: Console, config: Path, output: Path) -> None:
    """Compile the pair, and an 8B shape, with tensorrt-rtx where it is installed."""
    console.print("\n[bold]TensorRT plans, compiled without a GPU[/bold]")
    if find_spec("tensorrt_rtx") is None:
        console.print("tensorrt-rtx is not installed; to see this: pip install 'saguaro\\[tensorrt-rtx]'")
        return
    from saguaro import build

    plans = output.with_name(f"{output.name}-tensorrt-rtx")
    with BuildProgress() as progress:
        build(config, output=plans, backend="tensorrt-rtx", precision="bf16", progress=progress.update)
    sizes = ", ".join(f"{role} {_megabytes(plans / role / 'model.plan')}" for role in ("target", "draft"))
    console.print(f"The pair: {progress.elapsed:.1f} s (plans: {sizes}).")
    size, seconds = _compile_shape(llama_8b())
    console.print(
        f"The shape of Llama 3.1 8B, weights outside the plan: {seconds:.1f} s (plan: {size / 1e6:.1f} MB). "
        "One plan serves every fine-tune of it."
    )


def _compile_shape(config: ModelConfig) -> tuple[int, float]:
    """Bytes of the plan, and the seconds that it took."""
    from saguaro.builder.tensorrt import build_plan, load_library
    from saguaro.engine.rows import target_rows

    sizes: list[int] = []
    with BuildProgress() as progress:
        build_plan(
            config,
            lambda piece: sizes.append(len(piece)),
            tensorrt=load_library("tensorrt_rtx"),
            precision="bf16",
            max_batch_size=4,
            max_step=MAX_STEP,
            rows=target_rows(MAX_SEQ_LEN, LOOKAHEAD),
            progress=lambda stage, done, total: progress.update(f"8B: {stage}", done, total),
        )
    return sum(sizes), progress.elapsed


def llama_8b() -> ModelConfig:
    """The shape of Llama 3.1 8B."""
    from saguaro.models.config import ModelConfig, RopeScaling

    return ModelConfig(
        architecture="LlamaForCausalLM", vocab_size=128256, hidden_size=4096, intermediate_size=14336,
        num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, rms_norm_eps=1e-5, rope_theta=500000.0,
        rope_scaling=RopeScaling("llama3", 8.0), max_position_embeddings=131072, tie_word_embeddings=False,
        attention_bias=False, attention_output_bias=False, mlp_bias=False, qk_norm=False,
    )  # fmt: skip


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
