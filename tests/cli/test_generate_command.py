from __future__ import annotations

import json

import pytest

from saguaro import LLM, SamplingParams

PROMPT = "def make(path):"


@pytest.fixture(scope="module")
def expected(engine):
    """What the Python API gives for PROMPT, greedily and sampled."""
    with LLM(engine) as llm:
        greedy = SamplingParams(max_tokens=20, temperature=0)
        sampled = SamplingParams(max_tokens=20, temperature=0.8, top_p=0.9, top_k=50, seed=7)
        return [llm.generate(PROMPT, params)[0].outputs[0] for params in (greedy, sampled)]


def test_streams_text_and_summarises_on_standard_error(saguaro, engine, expected):
    result = saguaro("generate", engine, "--prompt", PROMPT, "--max-tokens", 20)
    assert result.exit_code == 0
    assert result.stdout == expected[0].text + "\n"
    assert "ssd: 20 tokens in" in result.stderr
    assert "seed" in result.stderr


@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
def test_json_is_one_object_and_the_same_in_every_mode(saguaro, engine, expected, mode):
    result = saguaro(
        "generate", engine, "--prompt", PROMPT, "--max-tokens", 20, "--temperature", 0.8, "--top-p", 0.9,
        "--top-k", 50, "--seed", 7, "--mode", mode, "--json",
    )  # fmt: skip
    assert result.exit_code == 0
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert list(answer) == ["text", "token_ids", "finish_reason", "metrics"]
    assert answer["token_ids"] == expected[1].token_ids
    assert answer["text"] == expected[1].text
    assert answer["finish_reason"] == "length"
    metrics = answer["metrics"]
    assert metrics["seed"] == 7
    assert metrics["output_tokens"] == 20
    assert metrics["rounds"] == (20 if mode == "ar" else metrics["speculative_decoding"]["num_spec_steps"])
    assert (metrics["speculative_decoding"]["num_draft_tokens"] > 0) == (mode != "ar")
    assert (metrics["speculative_decoding"]["cache_hits"] > 0) == (mode == "ssd")
    assert 0 <= metrics["speculative_decoding"]["overlap"] <= 1


def test_a_fresh_seed_is_told_and_repeats_the_text(saguaro, engine):
    arguments = ["generate", engine, "--prompt", PROMPT, "--max-tokens", 12, "--temperature", 1.5, "--json"]
    first = json.loads(saguaro(*arguments).stdout)
    second = json.loads(saguaro(*arguments).stdout)
    assert first["token_ids"] != second["token_ids"]
    again = json.loads(saguaro(*arguments, "--seed", first["metrics"]["seed"]).stdout)
    assert again["token_ids"] == first["token_ids"]


def test_the_prompt_from_a_file_or_a_pipe_loses_one_newline(saguaro, engine, expected, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT + "\n")
    from_file = saguaro("generate", engine, "--prompt-file", file, "--max-tokens", 20)
    assert from_file.stdout == expected[0].text + "\n"
    piped = saguaro("generate", engine, "--max-tokens", 20, input=PROMPT + "\n")
    assert piped.stdout == expected[0].text + "\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--prompt", ""], ["the prompt is empty"]),
        (["--prompt", "x " * 5000], ["the prompt has", "4096"]),
        (["--prompt", "x", "--max-tokens", 4096], ["max_tokens is 4096", "4096"]),
        (["--prompt", "x", "--max-tokens", 0], ["max_tokens is 0"]),
        (["--prompt", "x", "--temperature", -0.5], ["temperature is -0.5"]),
        (["--prompt", "x", "--temperature", "nan"], ["temperature is nan"]),
        (["--prompt", "x", "--top-p", 0], ["top_p is 0"]),
        (["--prompt", "x", "--top-p", 1.5], ["top_p is 1.5"]),
        (["--prompt", "x", "--top-k", -2], ["top_k is -2"]),
        (["--prompt", "x", "--seed", -1], ["seed is -1"]),
        (["--prompt", "x", "--mode", "spec"], ["mode is 'spec'", "ar, sd, ssd"]),
        (["--prompt", "x", "--prompt-file", "y"], ["--prompt or --prompt-file"]),
        (["--prompt-file", "/nowhere/prompt"], ["/nowhere/prompt", "no such file"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:40],
)
def test_bad_requests(refused, engine, arguments, parts):
    refused(parts, "generate", engine, *arguments)


def test_prompts_that_are_no_text(refused, engine, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"\xff\xfe")
    refused([file, "UTF-8"], "generate", engine, "--prompt-file", file)
    refused([tmp_path], "generate", engine, "--prompt-file", tmp_path)
    refused(["standard input", "UTF-8"], "generate", engine, input=b"\xff\xfe")
    refused(["the prompt is empty"], "generate", engine, input="")


def test_no_engine(refused, tmp_path):
    refused([tmp_path / "no", "no such engine"], "generate", tmp_path / "no", "--prompt", "x")
    refused([tmp_path, "saguaro.json"], "generate", tmp_path, "--prompt", "x")
