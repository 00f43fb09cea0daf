"""Inflated checkpoints compute what the small ones do: logits in transformers, tokens in Saguaro."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from benchmarks.inflation import files
from benchmarks.inflation import sizes as known
from benchmarks.inflation.command import inflate, main
from benchmarks.inflation.sizes import sizes_like
from saguaro import LLM, RequestOutput, SamplingParams, build
from saguaro.builder.checkpoint import open_checkpoint
from saguaro.cli.prompt_input import read_prompts
from tests.support.checkpoints import make_checkpoint, noisy_copy

DEMO = Path(__file__).parents[2] / "examples/demo"
BIASED = {"attention_bias": True, "mlp_bias": True}
SIX_HEADS = {"num_attention_heads": 6, "hidden_size": 60}
TIED = {"tie_word_embeddings": True}
WIDER = {"hidden_size": 256, "num_heads": 16, "num_kv_heads": 8, "intermediate_size": 384, "num_layers": 4}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("small") / "llama")


def logits(checkpoint: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokens = torch.randint(0, 320, (3, 24), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return model(tokens).logits


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return float((value - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({}, {"hidden_size": 100}, id="hidden"),
        pytest.param({"rms_norm_eps": 0.5}, {"hidden_size": 1000}, id="eps"),
        pytest.param({}, {"num_heads": 12, "hidden_size": 72}, id="more queries to a key-value head"),
        pytest.param({}, {"num_heads": 8, "num_kv_heads": 4}, id="more groups"),
        pytest.param({}, {"num_kv_heads": 4}, id="a key-value head for each query head"),
        pytest.param(SIX_HEADS, {"num_heads": 10, "num_kv_heads": 5}, id="uneven copies"),
        pytest.param({}, {"intermediate_size": 500}, id="mlp"),
        pytest.param({}, {"num_layers": 3}, id="a layer more"),
        pytest.param({}, {"num_layers": 7}, id="layers"),
        pytest.param(BIASED, WIDER, id="all, biased"),
        pytest.param(TIED, WIDER, id="all, tied"),
        pytest.param({}, WIDER | {"vocab_size": 500}, id="all and vocabulary"),
        pytest.param(TIED, {"hidden_size": 68, "vocab_size": 321}, id="tied vocabulary"),
    ],
)  # fmt: skip
def test_logits_are_the_small_models(changes: dict[str, Any], sizes: dict[str, int], tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "small", **changes)
    path = inflate(str(source), tmp_path / "large", sizes, "fp32")
    expected, found = logits(source), logits(path)
    assert error(found[..., :320], expected) <= 1e-4
    assert (found[..., 320:] < found[..., :320].amin(-1, keepdim=True) - 100).all()
    if "vocab_size" in sizes:  # the padding has no part in the probabilities, and a common shift no effect
        assert error(found.log_softmax(-1)[..., :320], expected.log_softmax(-1)) <= 1e-5
    config = json.loads((path / "config.json").read_text())
    assert {name: config[field] for name, field in known.FIELDS.items() if name in sizes} == sizes


def test_in_bf16_it_is_exact_but_for_sums_where_the_gains_scale_by_a_power_of_two(small: Path, tmp_path: Path) -> None:
    rounded = inflate(str(small), tmp_path / "rounded", {}, "bf16")
    path = inflate(str(rounded), tmp_path / "large", WIDER)
    assert open_checkpoint(str(path)).tensors.dtype("lm_head.weight") == torch.bfloat16
    assert error(logits(path), logits(rounded)) <= 1e-5


def test_only_what_has_to_be_zero_is(small: Path, tmp_path: Path) -> None:
    """Zeros: the embedding's padding columns, and what would write into the residual and must not."""
    tensors = open_checkpoint(str(inflate(str(small), tmp_path / "large", WIDER, "fp32"))).tensors
    for name in tensors.names():
        zeros = tensors.get(name).eq(0)
        module = name.split(".")[-2]
        layer = re.search(r"layers\.(\d+)", name)
        if module not in ("embed_tokens", "o_proj", "down_proj"):
            assert not zeros.any(), name
        elif layer and int(layer[1]) % 2 == 0:  # the extra layers
            assert zeros.all(), name
        else:
            assert float(zeros.double().mean()) == pytest.approx(0.75 if not layer else 15 / 16), name


def test_shards_and_their_index(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHARD_BYTES", 1_000_000)
    path = inflate(str(small), tmp_path / "large", WIDER, "fp32")
    shards = sorted(path.glob("*.safetensors"))
    assert len(shards) > 2
    assert all(shard.stat().st_size < 1_010_000 for shard in shards)
    with safe_open(shards[0], framework="pt") as shard:
        assert shard.metadata() == {"format": "pt"}
    assert error(logits(path), logits(small)) <= 1e-4
    index = json.loads((path / "model.safetensors.index.json").read_text())
    open_checkpoint(str(path))
    with safe_open(shards[0], framework="pt") as shard:
        assert set(shard.keys()) == {name for name, file in index["weight_map"].items() if file == shards[0].name}


def test_presets_keep_the_widths_of_attention() -> None:
    assert sizes_like("llama-3.1-8b", 64) == {
        "hidden_size": 4096, "num_layers": 32, "num_heads": 64, "num_kv_heads": 16,
        "intermediate_size": 14336, "vocab_size": 128256,
    }  # fmt: skip
    small = sizes_like("llama-3.2-1b", 64)
    assert (small["num_heads"], small["num_kv_heads"], small["hidden_size"]) == (32, 8, 2048)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_line(small: Path, tmp_path: Path) -> None:
    result = run(small, tmp_path / "large", "--hidden-size", 128, "--num-layers", 4, "--dtype", "bf16")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "inflate: " in result.stderr
    assert f"Wrote {tmp_path / 'large'}, 0.00 GB" in result.stderr
    config = open_checkpoint(str(tmp_path / "large")).config
    assert (config.hidden_size, config.num_layers, config.num_heads) == (128, 4, 4)
    assert (tmp_path / "large" / "tokenizer.json").read_bytes() == (small / "tokenizer.json").read_bytes()


def test_it_runs_from_anywhere(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks/inflate.py"
    shown = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("Usage: inflate.py [OPTIONS] SOURCE OUTPUT")


def test_like_takes_sizes_where_no_option_does(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known.LIKE, "llama-3.2-1b", known.Like(128, 4, 256, 64, 160, 400))
    result = run(small, tmp_path / "large", "--like", "llama-3.2-1b", "--num-layers", 3)
    assert result.exit_code == 0, result.output
    config = open_checkpoint(str(tmp_path / "large")).config
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (3, 16, 4)
    assert (config.hidden_size, config.intermediate_size, config.vocab_size) == (128, 160, 400)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--hidden-size", 63], ["--hidden-size is 63", "at least the source's 64"]),
        (["--hidden-size", 70], ["--hidden-size is 70", "a multiple of the 4 query heads"]),
        (["--num-layers", 0], ["--num-layers is 0", "at least the source's 2"]),
        (["--num-kv-heads", 3], ["--num-kv-heads is 3", "a divisor of the 4 query heads"]),
        (["--hidden-size", 2**21], ["hidden_size", "1048576"]),
        (["--vocab-size", 400], ["--vocab-size is 400", "--hidden-size"]),
        (["--num-layers", 1000, "--hidden-size", 2**20], ["GB are free", "make room"]),
    ],
)
def test_sizes_that_do_not_fit(options: list[object], parts: list[str], small: Path, tmp_path: Path) -> None:
    refused(parts, tmp_path, small, tmp_path / "large", *options)


def test_too_few_key_value_heads_for_the_copies(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "small", **SIX_HEADS)
    parts = ["--num-kv-heads is 3", "expected at least 4"]
    refused(parts, tmp_path / "out", source, tmp_path / "out" / "large", "--num-kv-heads", 3)


def test_head_size_that_does_not_divide_the_preset(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "small", head_dim=24)
    parts = ["--like is llama-3.1-8b", "head_dim 24"]
    refused(parts, tmp_path / "out", source, tmp_path / "out" / "large", "--like", "llama-3.1-8b")


def test_other_architectures(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "small", "Qwen3ForCausalLM")
    refused(["Qwen3ForCausalLM", "expected a LlamaForCausalLM"], tmp_path / "out", source, tmp_path / "out" / "x")


def test_nothing_is_overwritten(small: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "notes.txt").write_text("mine")
    result = run(small, tmp_path / "large")
    assert result.exit_code == 2
    assert "exists; name a new directory" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["large", "notes.txt"]


def refused(parts: list[str], directory: Path, *arguments: object) -> None:
    """Exit code 2, one sentence with all `parts`, and nothing left in `directory`."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (sentence,) = result.stderr.strip().splitlines()
    for part in parts:
        assert part in sentence
    assert not directory.exists() or not any(directory.iterdir())


def four_times(role: str) -> dict[str, int]:
    """Four times the width and twice the layers of a demo model."""
    config = open_checkpoint(str(DEMO / role)).config
    sizes = {name: 4 * getattr(config, name) for name in ("hidden_size", "num_heads", "num_kv_heads")}
    return sizes | {"intermediate_size": 4 * config.intermediate_size, "num_layers": 2 * config.num_layers}


@pytest.fixture
def inflated() -> Iterator[Path]:
    """The demo pair, `target` and `draft`, inflated; 2 GB, which pytest's own directories would keep."""
    with TemporaryDirectory() as root:
        for role in ("target", "draft"):
            inflate(str(DEMO / role), Path(root) / role, four_times(role), "fp32")
        yield Path(root)


def generate(
    directory: Path, target: Path, draft: Path, runs: dict[str, list[str]], temperature: float = 0.0
) -> list[list[RequestOutput]]:
    """48 tokens of prompts in one batch, for each mode of `runs`, from an fp32 engine of the pair."""
    build(
        target=str(target), draft=str(draft), output=directory, precision="fp32",
        max_batch_size=20, max_seq_len=192, lookahead=4, budget=8, enforce_eager=True,
    )  # fmt: skip
    params = SamplingParams(max_tokens=48, temperature=temperature, seed=0, ignore_eos=True)
    with LLM(directory) as llm:
        return [llm.generate(prompts, params, mode=mode) for mode, prompts in runs.items()]


def tokens(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def test_sampled_tokens_stay_with_a_larger_vocabulary(small: Path, tmp_path: Path) -> None:
    """The noise goes by token and position, so at T = 1 too the inflated pair says what the small one says."""
    sizes = WIDER | {"vocab_size": 400}
    for role, source in (("target", small), ("draft", noisy_copy(small, tmp_path / "noisy", 0.03))):
        inflate(str(source), tmp_path / role, sizes, "fp32")
    prompts = ["def f(", "class A:", "import"]
    runs = {"ar": prompts, "ssd": prompts}
    ours = generate(tmp_path / "engine", tmp_path / "target", tmp_path / "draft", runs, temperature=1.0)
    theirs = generate(tmp_path / "small", small, tmp_path / "noisy", runs, temperature=1.0)
    assert [tokens(outputs) for outputs in ours] == [tokens(outputs) for outputs in theirs]


def test_demo_pair_inflated_gives_the_same_tokens(inflated: Path) -> None:
    """The bar in full: target and draft at 4 times the width and twice the layers (447 M and 28 M
    parameters), fp32, greedy, 20 prompts in one batch by 48 tokens. The inflated target generates them alone.
    The inflated draft guesses for the small target: for each prompt as many rounds accept k tokens as with the
    small draft, for every k. Both inflated generate 2 of the prompts again with `ssd`.
    """
    prompts = [line.prompt for line in read_prompts(DEMO / "prompts.jsonl")][:20]
    assert len(set(prompts)) == 20
    target, draft = DEMO / "target", DEMO / "draft"
    expected, guessed = generate(inflated / "small", target, draft, {"ar": prompts, "sd": prompts})
    assert all(len(output) == 48 for output in tokens(expected))
    assert sum(output.metrics.accepted for output in guessed) > 100

    (mixed,) = generate(inflated / "mixed", target, inflated / "draft", {"sd": prompts})
    assert [output.metrics.histogram for output in mixed] == [output.metrics.histogram for output in guessed]
    assert tokens(mixed) == tokens(expected)

    runs = {"ar": prompts, "ssd": prompts[:2]}
    alone, together = generate(inflated / "large", inflated / "target", inflated / "draft", runs)
    assert tokens(alone) == tokens(expected)
    assert tokens(together) == tokens(expected)[:2]
