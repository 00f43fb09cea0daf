"""Loading tokenizers, and which pairs of them count as the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_samples import raw_config, write_checkpoint, write_tokenizer
from transformers import AutoTokenizer

from saguaro.builder.checkpoint import (
    Checkpoint,
    check_pair,
    load_tokenizer,
    open_checkpoint,
    tokenizer_files,
)

TEXT = "def add(left, right):\n    return left + right  # ünïcode 🌵"


def test_tokenises_as_transformers_does(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    write_tokenizer(tmp_path)
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.encode(TEXT) == theirs.encode(TEXT)
    assert ours.decode(ours.encode(TEXT)) == TEXT
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id) == (0, 1)


@pytest.mark.parametrize("named", ["LlamaTokenizer", "Qwen2TokenizerFast"])
def test_library_classes_over_tokenizer_json_agree_with_transformers(tmp_path: Path, named: str) -> None:
    write_checkpoint(tmp_path)
    write_tokenizer(tmp_path, tokenizer_class=named, add_bos_token=False)
    assert load_tokenizer(tmp_path).encode(TEXT) == AutoTokenizer.from_pretrained(tmp_path).encode(TEXT)


def test_vocabulary_and_merges_without_tokenizer_json(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path, tokenizer_class="Qwen2Tokenizer")
    expected = tokenizer.encode(TEXT, add_special_tokens=False).ids
    tokenizer.model.save(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    assert load_tokenizer(tmp_path).encode(TEXT) == expected


def test_files_to_copy_are_enough(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a")
    write_tokenizer(tmp_path / "a", chat_template="{{ messages[0]['content'] }}!")
    (tmp_path / "a" / "generation_config.json").write_text("{}")
    files = tokenizer_files(tmp_path / "a")
    assert {file.name for file in files} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    }
    (tmp_path / "b").mkdir()
    for file in files:
        (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    copy = load_tokenizer(tmp_path / "b")
    assert copy.encode(TEXT) == load_tokenizer(tmp_path / "a").encode(TEXT)
    assert copy.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"


def test_a_link_out_of_the_checkpoint_is_not_copied(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "generation_config.json").symlink_to(tmp_path / "secret")
    refused([tmp_path / "a" / "generation_config.json", "symbolic link"], tokenizer_files, tmp_path / "a")


def test_no_tokenizer(tmp_path: Path, refused: Any) -> None:
    refused([tmp_path, "tokenizer.json"], load_tokenizer, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": {"type": "BPE"}}', "\0" * 100])
def test_damaged_tokenizer_json(tmp_path: Path, text: str, refused: Any) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text)
    refused([tmp_path], load_tokenizer, tmp_path)


def test_tokenizer_json_that_makes_the_rust_library_panic(tmp_path: Path, refused: Any) -> None:
    write_tokenizer(tmp_path)
    edited(tmp_path, lambda content: content["model"].update(continuing_subword_prefix="a" * 10_000))
    refused([tmp_path, "range"], load_tokenizer, tmp_path)


@pytest.mark.parametrize(
    "settings", ["", "[]", '{"added_tokens_decoder": 3}', '{"tokenizer_object": {"a": 1}}']
)
def test_damaged_tokenizer_settings(tmp_path: Path, settings: str, refused: Any) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(settings)
    refused([tmp_path], load_tokenizer, tmp_path)


def test_tokenizer_json_elsewhere(tmp_path: Path, refused: Any) -> None:
    write_tokenizer(tmp_path / "a", fast_tokenizer_files=["../b/tokenizer.4.0.json"])
    refused(["tokenizer_config.json", "fast_tokenizer_files"], load_tokenizer, tmp_path / "a")


def edited(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = directory / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Checkpoint, Checkpoint]]:
    """A target and a draft with the same tokenizer, after `change` was made to the draft's tokenizer.json."""

    def make(
        change: Callable[[dict[str, Any]], object] | None = None, draft: dict[str, Any] | None = None
    ) -> tuple[Checkpoint, Checkpoint]:
        for name, raw in (("target", raw_config()), ("draft", {**raw_config(), **(draft or {})})):
            write_checkpoint(tmp_path / name, raw)
            write_tokenizer(tmp_path / name)
        if change is not None:
            edited(tmp_path / "draft", change)
        return open_checkpoint(str(tmp_path / "target")), open_checkpoint(str(tmp_path / "draft"))

    return make


def test_same_tokenizer(pair: Any) -> None:
    check_pair(*pair())


@pytest.mark.parametrize("vocab_size", [275, 276, 512])
def test_padding_rows_may_differ(pair: Any, vocab_size: int) -> None:
    target, draft = pair(draft={"vocab_size": vocab_size})
    assert len(load_tokenizer(target.path)) == 275
    check_pair(target, draft)


def test_irrelevant_metadata_may_differ(pair: Any, tmp_path: Path) -> None:
    target, draft = pair()
    settings = {"eos_token": "<pad>", "chat_template": "x", "model_max_length": 7, "padding_side": "left"}
    (draft.path / "tokenizer_config.json").write_text(json.dumps(settings))
    check_pair(target, draft)


def test_both_spellings_of_merges_are_the_same(pair: Any) -> None:
    def respell(content: dict[str, Any]) -> None:
        content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]

    check_pair(*pair(respell))


def swap_tokens(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]


def rename_token(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    # The newest merge's result, so that the model stays loadable with that merge gone.
    last = max(vocab, key=vocab.__getitem__)
    vocab["¶¶"] = vocab.pop(last)
    content["model"]["merges"].pop()


def swap_merges(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def ordinary(content: dict[str, Any]) -> None:
    content["added_tokens"][2]["special"] = False


def one_more(content: dict[str, Any]) -> None:
    content["added_tokens"].append({**content["added_tokens"][0], "id": 275, "content": "<more>"})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (swap_tokens, ["token 'A' is 35 in the target and is 36 in the draft"]),
        (rename_token, ["is 274 in the target and does not exist in the draft"]),
        (swap_merges, ["merge 0 is"]),
        (ordinary, ["token '<pad>' is special in the target"]),
        (one_more, ["token '<more>' is 275 in the draft and does not exist in the target"]),
    ],
)
def test_differences_are_named(pair: Any, change: Any, parts: list[str], refused: Any) -> None:
    target, draft = pair(change)
    refused([target.path, draft.path, *parts], check_pair, target, draft)


def test_tokenizer_larger_than_the_model(pair: Any, refused: Any) -> None:
    target, draft = pair(draft={"vocab_size": 274})
    refused([draft.path / "config.json", "`vocab_size` is 274", "275"], check_pair, target, draft)
