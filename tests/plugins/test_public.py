"""What `saguaro.plugins` offers: the names, their arguments in order, and that each is documented."""

import inspect

import pytest

from saguaro import plugins

SIGNATURES = {
    "tree_attention": ["q", "k_cache", "v_cache", "ancestors", "prefix_length", "scale"],
    "pack_ancestors": ["parents"],
    "kv_compact": ["k_cache", "v_cache", "rows", "prefix_length"],
    "tree_accept": [
        "logits", "tokens", "parents", "seed", "position", "temperature", "top_k", "top_p", "min_p",
    ],
    "perturbed_scores": ["logits", "seed", "positions", "temperature", "top_k", "top_p", "min_p"],
    "noise_bits": ["seed", "positions", "tokens", "stream", "device"],
    "gumbel": ["seed", "positions", "tokens", "stream", "device"],
}  # fmt: skip


def test_nothing_else_is_public():
    assert sorted(plugins.__all__) == sorted(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_are_the_ones_that_were_promised_and_documented(name):
    function = getattr(plugins, name)
    assert list(inspect.signature(function).parameters) == SIGNATURES[name]
    text = inspect.getdoc(function)
    if name == "gumbel":  # says that its arguments are those of noise_bits
        assert "`noise_bits`; the same arguments and errors" in text
        return
    assert "Raises:" in text
    for argument in SIGNATURES[name]:
        assert f"{argument}:" in text or f"{argument}, " in text or f", {argument}" in text, argument


def test_a_scale_may_be_left_out():
    assert inspect.signature(plugins.tree_attention).parameters["scale"].default is None
