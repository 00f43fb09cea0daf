"""TensorStore: one file or shards, every stored type, and files that contradict themselves."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from checkpoint_samples import raw_config, read_index, write_checkpoint, write_index
from safetensors.torch import save_file

from saguaro.builder.checkpoint.tensors import TensorStore


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_reads_back_what_was_stored(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    stored = write_checkpoint(tmp_path, dtype=dtype, shards=shards)
    store = TensorStore(tmp_path)
    assert sorted(store.names()) == sorted(stored)
    assert [path.name for path in store.files()] == sorted(
        path.name for path in tmp_path.glob("*.safetensors")
    )
    for name, tensor in stored.items():
        assert name in store
        assert store.shape(name) == tuple(tensor.shape)
        assert store.dtype(name) == dtype
        assert store.get(name).dtype == dtype
        assert torch.equal(store.get(name), tensor)


def test_tensors_are_mapped_not_read(tmp_path: Path) -> None:
    save_file({"big": torch.ones(64 * 2**20 // 4)}, tmp_path / "model.safetensors")
    store = TensorStore(tmp_path)
    process = psutil.Process()
    before = process.memory_info().rss
    tensor = store.get("big")
    assert process.memory_info().rss - before < 8 * 2**20
    assert tensor[-1] == 1


def test_tensors_outlive_the_store(tmp_path: Path) -> None:
    stored = write_checkpoint(tmp_path)
    tensor = TensorStore(tmp_path).get("model.norm.weight")
    assert torch.equal(tensor, stored["model.norm.weight"])


def test_misaligned_data_is_realigned(tmp_path: Path) -> None:
    data = torch.arange(4, dtype=torch.float32)
    write_raw(
        tmp_path / "model.safetensors", {"a": entry("F32", [4], 0, 16), "__metadata__": {"x": ""}}, data
    )
    store = TensorStore(tmp_path)
    assert torch.equal(store.get("a"), data)
    assert store.get("a").data_ptr() % 4 == 0


def test_other_types_are_listed_and_refused_on_use(tmp_path: Path, refused: Any) -> None:
    save_file({"a": torch.arange(3), "b": torch.ones(2)}, tmp_path / "model.safetensors")
    store = TensorStore(tmp_path)
    assert store.names() == ["a", "b"] or store.names() == ["b", "a"]
    refused(["model.safetensors", "'a'", "I64", "BF16"], store.get, "a")
    refused(["model.safetensors", "'c'"], store.shape, "c")


def entry(dtype: Any, shape: Any, start: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def write_raw(path: Path, header: Any, data: torch.Tensor | bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    payload = data if isinstance(data, bytes) else data.numpy().tobytes()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


GOOD = entry("F32", [2], 0, 8)
HEADERS: dict[str, tuple[Any, list[str]]] = {
    "not JSON": (b"{", ["JSON"]),
    "not UTF-8": (b'{"\xff": 1}', ["JSON"]),
    "no object": (b"[]", ["[]"]),
    "deep": (b"[" * 100_000, ["nested"]),
    "endless number": (b'{"a": ' + b"9" * 10_000 + b"}", ["JSON"]),
    "repeated name": (b'{"a": 1, "a": 2}', ["'a'", "twice"]),
    "entry": ({"a": [1]}, ["'a'", "[1]"]),
    "unknown type": ({"a": entry("F33", [2], 0, 8)}, ["dtype", "F33"]),
    "type of the wrong type": ({"a": entry(["F32"], [2], 0, 8)}, ["dtype"]),
    "negative size": ({"a": entry("F32", [-2], 0, 8)}, ["shape", "-2"]),
    "float size": ({"a": entry("F32", [2.0], 0, 8)}, ["shape", "2.0"]),
    "bool size": ({"a": entry("F32", [True, 2], 0, 8)}, ["shape", "True"]),
    "endless shape": ({"a": entry("F32", [2**62] * 200_000, 0, 8)}, ["shape"]),
    "huge shape": ({"a": entry("F32", [2**62] * 8, 0, 8)}, ["data_offsets"]),
    "three offsets": ({"a": {**GOOD, "data_offsets": [0, 8, 8]}}, ["data_offsets"]),
    "backwards": ({"a": entry("F32", [2], 8, 0)}, ["data_offsets", "[8, 0]"]),
    "size disagrees": ({"a": entry("F32", [3], 0, 8)}, ["data_offsets", "12 bytes"]),
    "half a byte": ({"a": entry("F4", [1], 0, 0)}, ["data_offsets"]),
    "beyond the end": ({"a": entry("F32", [200], 0, 800)}, ["truncated", "800"]),
    "overlap": ({"a": GOOD, "b": entry("F32", [1], 4, 8)}, ["'b'", "byte 4"]),
    "gap": ({"a": entry("F32", [1], 4, 8)}, ["'a'", "byte 4"]),
    "left over": ({"a": entry("F32", [1], 0, 4)}, ["4 bytes belong to no tensor"]),
    "metadata": ({"a": GOOD, "__metadata__": {"format": 1}}, ["__metadata__"]),
}


@pytest.mark.parametrize("case", HEADERS)
def test_contradictory_header(tmp_path: Path, case: str, refused: Any) -> None:
    header, parts = HEADERS[case]
    file = tmp_path / "model.safetensors"
    write_raw(file, header, b"\0" * 8)
    refused([file, *parts], TensorStore, tmp_path)


def test_header_that_this_file_is_measured_by_is_accepted(tmp_path: Path) -> None:
    write_raw(tmp_path / "model.safetensors", {"a": GOOD}, torch.tensor([1.0, 2.0]))
    assert TensorStore(tmp_path).get("a").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 101 * 2**20])
def test_header_length_is_capped_before_reading(tmp_path: Path, length: int, refused: Any) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as sparse:
        sparse.write(struct.pack("<Q", length))
        sparse.truncate(200 * 2**20)
    refused([file, str(length)], TensorStore, tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 8, 20, -1])
def test_truncated_file(tmp_path: Path, keep: int, refused: Any) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused([file], TensorStore, tmp_path)


def test_shard_that_is_not_there(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path, shards=2)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.unlink()
    refused([shard, "missing"], TensorStore, tmp_path)


def test_shard_that_lacks_its_tensor(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path, shards=2)
    weight_map = read_index(tmp_path)
    name = "model.norm.weight"
    weight_map[name] = next(shard for shard in weight_map.values() if shard != weight_map[name])
    write_index(tmp_path, weight_map)
    refused([tmp_path / weight_map[name], name], TensorStore, tmp_path)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 3}, {"a": ["x"]}, "x"])
def test_index_of_another_form(tmp_path: Path, weight_map: object, refused: Any) -> None:
    write_index(tmp_path, weight_map)
    refused(["model.safetensors.index.json", "weight_map"], TensorStore, tmp_path)


NAMES = ["../model.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "a\\b", "a\0b", "sub/../x"]


@pytest.mark.parametrize("name", NAMES)
def test_shard_names_that_leave_the_directory(tmp_path: Path, name: str, refused: Any) -> None:
    write_checkpoint(tmp_path)  # a readable file waits where '../model.safetensors' would lead
    inner = tmp_path / "inner"
    inner.mkdir()
    write_index(inner, {"model.norm.weight": name})
    refused(["model.safetensors.index.json", "not allowed"], TensorStore, inner)


@pytest.mark.parametrize("name", ["x" * 5000, "\ud800.safetensors", "a\nb.safetensors", "\x1b[2J"])
def test_shard_names_that_could_garble_the_sentence(tmp_path: Path, name: str, refused: Any) -> None:
    write_index(tmp_path, {"model.norm.weight": name})
    sentence = refused(["model.safetensors.index.json", "not allowed"], TensorStore, tmp_path)
    assert sentence.isprintable()


@pytest.mark.parametrize("name", ["é" * 255, "a:b*?", "NUL", "~"])
def test_odd_shard_names_are_merely_missing(tmp_path: Path, name: str, refused: Any) -> None:
    write_index(tmp_path, {"model.norm.weight": name})
    refused(["missing"], TensorStore, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "shard.safetensors"])
def test_links_out_of_the_checkpoint(tmp_path: Path, name: str, refused: Any) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    write_checkpoint(outside)
    write_index(outside, {"model.norm.weight": "model.safetensors"})
    inside.mkdir()
    target = outside / (name if name != "shard.safetensors" else "model.safetensors")
    (inside / name).symlink_to(target)
    if name == "shard.safetensors":
        write_index(inside, {"model.norm.weight": name})
    refused([inside / name, "symbolic link"], TensorStore, inside)


def test_links_within_the_checkpoint_and_to_it_work(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "real")
    (tmp_path / "real" / "model.safetensors").rename(tmp_path / "real" / "weights")
    (tmp_path / "real" / "model.safetensors").symlink_to("weights")
    (tmp_path / "alias").symlink_to(tmp_path / "real", target_is_directory=True)
    assert "model.norm.weight" in TensorStore(tmp_path / "alias")


@pytest.mark.timeout(10)
def test_a_pipe_is_no_shard(tmp_path: Path, refused: Any) -> None:
    os.mkfifo(tmp_path / "shard.safetensors")
    write_index(tmp_path, {"model.norm.weight": "shard.safetensors"})
    refused(["shard.safetensors", "missing"], TensorStore, tmp_path)


def test_single_file_wins_over_an_index_as_in_transformers(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, raw_config())
    write_index(tmp_path, {"model.norm.weight": "gone.safetensors"})
    store = TensorStore(tmp_path)
    assert store.files() == [tmp_path / "model.safetensors"]
    assert store.source() == tmp_path / "model.safetensors"
