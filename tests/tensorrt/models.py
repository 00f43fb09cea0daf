"""Tiny random models as TensorRT networks, run by the interpreter, and as transformers runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.tensorrt.network import define_network
from saguaro.builder.tensorrt.plugin_operations import PluginAttention
from saguaro.builder.tensorrt.precision import torch_type
from saguaro.builder.tensorrt.weights import NetworkWeights
from saguaro.models.config import ModelConfig
from saguaro.models.tree_operations import pack_rows
from saguaro.models.weights import engine_weights
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.tensorrt_session import cache_bindings, device_weights, full_mask
from tests.tensorrt.interpreter import Interpreter

ROWS = 64
CPU = torch.device("cpu")


class Network:
    """An unbuilt network and what has to live as long: `interpreter` computes it."""

    def __init__(
        self,
        trt: Any,
        config: ModelConfig,
        precision: str,
        load_weight=None,
        rows: int = ROWS,
        attention: PluginAttention | None = None,
    ) -> None:
        self.builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        self.definition = self.builder.create_network(
            1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        self.weights = NetworkWeights(trt, self.definition, config, torch_type(precision), load_weight)
        define_network(trt, self.definition, config, torch_type(precision), rows, self.weights, attention)
        self.interpreter = Interpreter(trt, self.definition, self.weights.constants)

    def inputs(self) -> dict[str, Any]:
        tensors = [self.definition.get_input(index) for index in range(self.definition.num_inputs)]
        return {tensor.name: tensor for tensor in tensors}

    def outputs(self) -> dict[str, Any]:
        tensors = [self.definition.get_output(index) for index in range(self.definition.num_outputs)]
        return {tensor.name: tensor for tensor in tensors}


class NetworkModel:
    """The checkpoint in `path` as a network with a KV cache of two slots."""

    def __init__(
        self,
        trt: Any,
        path: Path,
        precision: str,
        embedded: bool = False,
        attention: PluginAttention | None = None,
    ) -> None:
        checkpoint = open_checkpoint(str(path))
        config, load_weight = checkpoint.config, checkpoint.tensors.get
        dtype = torch_type(precision)
        self.network = Network(trt, config, precision, load_weight if embedded else None, attention=attention)
        shape = (config.num_layers * 2, 2, config.num_kv_heads, ROWS, config.head_dim)
        self.cache = torch.full(shape, 100.0, dtype=dtype)  # what no mask may let through
        names = [] if embedded else list(engine_weights(config))
        weights = device_weights(config, names, load_weight, dtype, CPU)
        self.weights = {f"weights.{name}": tensor for name, tensor in weights}

    def masks(self, step: Step) -> dict[str, torch.Tensor]:
        if "attention_mask" in self.network.inputs():
            return {"attention_mask": full_mask(step, ROWS)}
        prefix = torch.tensor(step.prefix, dtype=torch.int32)
        return {"ancestors": pack_rows(step.visible), "prefix_length": prefix}

    def forward(self, step: Step) -> torch.Tensor:
        count = len(step.tokens)
        pasts = {
            name: part for name, part in cache_bindings(self.cache, step.first_slot, count) if "past" in name
        }
        outputs = self.network.interpreter.run(
            {
                "input_ids": step.tokens,
                "position_ids": step.positions,
                **self.masks(step),
                "write_index": torch.tensor(step.write_index, dtype=torch.int32),
                **pasts,
                **self.weights,
            }
        )
        return outputs["logits"]


def reference(path: Path, precision: str, tokens: list[int]) -> torch.Tensor:
    """What transformers computes for the whole sequence: logits `[T, V]`."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch_type(precision))
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].float()


def chain(tokens: list[int], prefix: int, first_slot: int = 0) -> Step:
    """Tokens of one sequence that follow `prefix` rows of it."""
    return joined([tokens], [prefix], first_slot)


def joined(tokens: list[list[int]], prefix: list[int], first_slot: int = 0) -> Step:
    """The next tokens, as many of each, of several sequences with `prefix` rows each."""
    length = len(tokens[0])
    return Step(
        tokens=torch.tensor(tokens),
        positions=torch.tensor([[start + offset for offset in range(length)] for start in prefix]),
        prefix=prefix,
        visible=torch.ones(length, length, dtype=torch.bool).tril().expand(len(tokens), -1, -1),
        write_index=prefix,
        first_slot=first_slot,
    )


def tree(tokens: list[int], parents: list[int], prefix: int) -> Step:
    """One node a token; `parents` has the index of each node's parent, -1 for the sequence's last token."""
    size = len(tokens)
    visible = torch.eye(size, dtype=torch.bool)
    depth: list[int] = []
    for node, parent in enumerate(parents):
        depth.append(0 if parent < 0 else depth[parent] + 1)
        if parent >= 0:
            visible[node] |= visible[parent]
    positions = torch.tensor([[prefix + level for level in depth]])
    return Step(torch.tensor([tokens]), positions, [prefix], visible.unsqueeze(0), [prefix])


def path_to(node: int, parents: list[int]) -> list[int]:
    """The nodes from the root to `node`."""
    return [] if node < 0 else [*path_to(parents[node], parents), node]


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference between logits, as a share of the largest logit (1 at least)."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
