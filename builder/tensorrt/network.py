"""One architecture as a TensorRT network with the tensors of the engine contract."""

from __future__ import annotations

from typing import Any

import torch

from saguaro.builder.tensorrt.operations import TensorRTOperations
from saguaro.builder.tensorrt.plugin_operations import PluginAttention, PluginOperations
from saguaro.builder.tensorrt.weights import NetworkWeights
from saguaro.models import ARCHITECTURES
from saguaro.models.config import ModelConfig


def define_network(
    trt: Any,
    network: Any,
    config: ModelConfig,
    dtype: torch.dtype,
    rows: int,
    weights: NetworkWeights,
    attention: PluginAttention | None = None,
) -> None:
    """Fill the empty, strongly typed `network` with the model that `config` describes.

    Inputs: `input_ids` and `position_ids` `[B, T]` int64, `attention_mask` `[B, 1, T, rows]` bool,
    `write_index` `[B]` int32, `past_key.i` and `past_value.i` `[B, H_kv, rows, D]` of `dtype`, and what
    `weights` adds. Outputs: `logits` `[B, T, V]` float32, and `present_key.i` and `present_value.i`, which
    share their memory with the pasts. With `attention` it is computed by our plugins, whose inputs `ancestors`
    `[B, T, W]` int32 and `prefix_length` `[B]` int32 stand for `attention_mask`.
    """
    ops: TensorRTOperations
    if attention is None:
        ops = TensorRTOperations(trt, network, config, dtype, rows, weights)
    else:
        ops = PluginOperations(trt, network, config, dtype, rows, weights, attention)
    logits = ARCHITECTURES[config.architecture](ops, config)
    logits.name = "logits"
    network.mark_output(logits)
