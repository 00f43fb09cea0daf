"""The networks compute what transformers does: to 1e-4 of the largest logit in fp32, 2e-2 in bf16, fp16."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tests.support.checkpoints import make_checkpoint
from tests.tensorrt.models import NetworkModel, chain, error, joined, path_to, reference, tree

trt = pytest.importorskip("tensorrt_rtx")

TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}
TOKENS = torch.randint(0, 300, (48,), generator=torch.Generator().manual_seed(5)).tolist()
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
BIASED = {"attention_bias": True, "mlp_bias": True}
KINDS = {
    "llama": ("LlamaForCausalLM", {}),
    "llama tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama biased": ("LlamaForCausalLM", BIASED),
    "llama linear": ("LlamaForCausalLM", {"rope_parameters": LINEAR}),
    "llama 3": ("LlamaForCausalLM", {"rope_parameters": LLAMA3}),
    "llama wide heads": ("LlamaForCausalLM", {"head_dim": 24, "num_key_value_heads": 1}),
    "mistral": ("MistralForCausalLM", {}),
    "qwen2": ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", {}),
    "qwen3 biased": ("Qwen3ForCausalLM", {"attention_bias": True}),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            architecture, changes = KINDS[kind]
            # Wide enough for logits of several units, and not so wide that a sharp softmax amplifies
            # rounding.
            changes = {"initializer_range": 0.08, **changes}
            made[kind] = make_checkpoint(tmp_path_factory.mktemp("model"), architecture, **changes)
        return made[kind]

    return get


@pytest.mark.parametrize("embedded", [False, True], ids=["external", "embedded"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_prompt(checkpoints, kind, precision, embedded):
    path = checkpoints(kind)
    logits = NetworkModel(trt, path, precision, embedded).forward(chain(TOKENS, 0))
    assert logits.dtype == torch.float32
    assert error(logits[0], reference(path, precision, TOKENS)) < TOLERANCE[precision]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_whole_prompt_in_fp16(checkpoints, kind):
    path = checkpoints(kind)
    logits = NetworkModel(trt, path, "fp16").forward(chain(TOKENS, 0))
    assert error(logits[0], reference(path, "fp16", TOKENS)) < TOLERANCE["fp16"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["llama 3", "mistral", "qwen2", "qwen3"])
def test_chunks_and_single_steps(checkpoints, kind, precision):
    path = checkpoints(kind)
    model = NetworkModel(trt, path, precision)
    cuts = [0, 20, 41, 42, 43, 48]
    parts = [model.forward(chain(TOKENS[a:b], a))[0] for a, b in pairwise(cuts)]
    assert error(torch.cat(parts), reference(path, precision, TOKENS)) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["llama 3", "mistral", "qwen2", "qwen3"])
def test_a_tree_equals_its_paths(checkpoints, kind, precision):
    path = checkpoints(kind)
    model = NetworkModel(trt, path, precision)
    prompt, parents = TOKENS[:9], [-1, 0, 0, 1, 2, 2, -1, 6]
    nodes = TOKENS[20 : 20 + len(parents)]
    model.forward(chain(prompt, 0))
    logits = model.forward(tree(nodes, parents, len(prompt)))[0]
    for node in range(len(parents)):
        single = prompt + [nodes[index] for index in path_to(node, parents)]
        assert error(logits[node], reference(path, precision, single)[-1]) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["llama 3", "qwen3 biased"])
def test_a_batch_of_sequences_of_different_lengths(checkpoints, kind, precision):
    path = checkpoints(kind)
    model = NetworkModel(trt, path, precision)
    first, second = TOKENS[:8], TOKENS[20:36]
    model.forward(chain(first[:5], 0, first_slot=0))
    model.forward(chain(second[:13], 0, first_slot=1))
    logits = model.forward(joined([first[5:], second[13:]], [5, 13]))
    assert error(logits[0], reference(path, precision, first)[-3:]) < TOLERANCE[precision]
    assert error(logits[1], reference(path, precision, second)[-3:]) < TOLERANCE[precision]


def test_a_rotation_that_is_off_is_noticed(checkpoints):
    """The comparison has teeth: positions shifted within a prompt go far beyond the tolerance."""
    path = checkpoints("llama")
    step = chain(TOKENS, 0)
    step.positions[0, 24:] += 1
    logits = NetworkModel(trt, path, "bf16").forward(step)
    assert error(logits[0], reference(path, "bf16", TOKENS)) > 5 * TOLERANCE["bf16"]
