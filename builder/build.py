"""Two checkpoints to one engine directory."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

import saguaro
from saguaro.builder.checkpoint import Checkpoint, check_pair, open_checkpoint, tokenizer_files
from saguaro.builder.fused_weights import fused_weights
from saguaro.builder.progress import Progress, silent
from saguaro.builder.tensorrt_engine import built_with, check_tensorrt, write_tensorrt
from saguaro.builder.torch_engine import can_compile, write_compiled, write_eager
from saguaro.engine.deployment import Deployment
from saguaro.engine.directory import check_output, new_engine_directory, write_manifest
from saguaro.engine.hashing import file_sha256
from saguaro.engine.manifest import Manifest, ModelEntry
from saguaro.engine.precision import PRECISIONS
from saguaro.engine.rows import draft_rows, target_rows
from saguaro.errors import CheckpointError, ConfigError

CHUNK = 128  # prompt tokens in one forward pass


def build_engine(
    deployment: Deployment, output: Path, *, by_reference: bool = False, progress: Progress = silent
) -> Path:
    """Check the pair, compile both models, and put everything that generating needs into `output`.

    `by_reference`: a TensorRT engine with external weights refers to the checkpoint's files where they are.
    Raises InputError kinds for bad input, SaguaroError when a compiler fails; `output` is whole or untouched.
    """
    check_output(output.absolute())
    if deployment.build.backend != "torch":
        check_tensorrt(deployment)
    progress("checkpoints", 0, 2)
    target = open_checkpoint(deployment.target.checkpoint)
    progress("checkpoints", 1, 2)
    draft = open_checkpoint(deployment.draft.checkpoint)
    check_pair(target, draft)
    _check_length(target, deployment.build.max_seq_len, "target")
    _check_length(draft, deployment.build.max_seq_len, "draft")
    if deployment.build.plugin_attention:
        from saguaro.builder.tensorrt.plugin_operations import check_head_size

        check_head_size(target.config, "target")
        check_head_size(draft.config, "draft")
    progress("checkpoints", 2, 2)
    with new_engine_directory(output) as directory:
        models = {}
        for role, checkpoint in (("target", target), ("draft", draft)):
            models[role] = _write_model(directory, role, checkpoint, deployment, by_reference, progress)
        (directory / "tokenizer").mkdir()
        for file in tokenizer_files(target.path):
            (directory / "tokenizer" / file.name).write_bytes(file.read_bytes())
        manifest = Manifest(
            backend=deployment.build.backend,
            precision=deployment.build.precision,
            max_batch_size=deployment.build.max_batch_size,
            max_seq_len=deployment.build.max_seq_len,
            chunk=CHUNK,
            built_with=_versions(deployment),
            speculation=deployment.speculation.model_dump(mode="json"),
            target=models["target"],
            draft=models["draft"],
        )
        write_manifest(directory, manifest, lambda done, total: progress("hashes", done, total))
    return output


def _write_model(
    directory: Path, role: str, checkpoint: Checkpoint, deployment: Deployment, by_reference: bool, progress: Progress
) -> ModelEntry:
    build, speculation = deployment.build, deployment.speculation
    placement = getattr(deployment.placement, role)
    config = checkpoint.config
    (directory / role).mkdir()
    entry = ModelEntry(
        source=getattr(deployment, role).checkpoint,
        source_files={},
        config=config.to_dict(),
        form="plan",
        rows=(
            target_rows(build.max_seq_len, speculation.lookahead, speculation.tree_nodes)
            if role == "target"
            else draft_rows(
                build.max_seq_len, speculation.lookahead, speculation.budget, speculation.tree_nodes
            )
        ),
        threads=placement.threads,
        device=placement.device,
        eos_token_ids=checkpoint.generation.eos_token_ids,
    )
    steps = max(CHUNK, speculation.budget, speculation.lookahead + speculation.tree_nodes + 2)
    if build.backend == "torch":
        weights = fused_weights(config, checkpoint.tensors, PRECISIONS[build.precision], progress, role)
        on_cpu = placement.device == "cpu" or (placement.device == "auto" and not torch.cuda.is_available())
        entry.form = "compiled" if on_cpu and can_compile() and not build.enforce_eager else "eager"
        progress(f"{role}: {entry.form} engine", 0, 1)
        if entry.form == "compiled":
            write_compiled(
                directory / role, config, weights,
                max_batch_size=build.max_batch_size, max_step=steps, rows=entry.rows, threads=placement.threads,
            )  # fmt: skip
        else:
            write_eager(directory / role, config, weights)
        progress(f"{role}: {entry.form} engine", 1, 1)
    else:
        write_tensorrt(directory, role, checkpoint, build, entry, steps, by_reference, progress)
    for done, file in enumerate(checkpoint.tensors.files()):
        progress(f"{role}: source hashes", done, len(checkpoint.tensors.files()))
        entry.source_files[file.name] = file_sha256(file)
    return entry


def _check_length(checkpoint: Checkpoint, max_seq_len: int, role: str) -> None:
    config = checkpoint.config
    if max_seq_len > config.max_position_embeddings:
        raise ConfigError(
            f"build.max_seq_len is {max_seq_len}, but the {role} was made for at most "
            f"{config.max_position_embeddings} positions (`max_position_embeddings` in its config.json); lower it"
        )
    if config.sliding_window is not None and max_seq_len > config.sliding_window:
        raise CheckpointError(
            f"build.max_seq_len is {max_seq_len}, but the {role}'s attention slides over {config.sliding_window} "
            "tokens, and longer sequences are not supported; lower it"
        )


def _versions(deployment: Deployment) -> dict[str, str]:
    versions = {"saguaro": saguaro.__version__, "python": platform.python_version(), "torch": torch.__version__}
    if deployment.build.backend == "torch":
        return versions | {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
    placement = deployment.placement
    return versions | built_with(deployment.build, placement.target.device, placement.draft.device)
