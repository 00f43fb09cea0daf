"""Damage a small checkpoint in seeded random ways and open each result: run as a script by test_mutations.py.

Usage: python mutate_checkpoints.py KIND COUNT SEED, with KIND header, config or index. Prints a JSON summary.
Every case must end in a CheckpointError of one sentence or in a load that an independent reading confirms;
an address-space limit and an alarm turn greed and hangs into failures.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from checkpoint_samples import raw_config, write_checkpoint

from saguaro.builder.checkpoint import Checkpoint, expected_tensors, open_checkpoint
from saguaro.errors import CheckpointError

MEMORY = 500 * 2**20
SECONDS = 10
NUMBERS = [0, 1, -1, 2, 7, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**300, 10**400, 0.5, 1.5, 1e308, -1e308]
WORDS = ["", "x", "silu", "F32", "F16", "BF16", "F64", "I8", "\0", "\ud800", "a" * 10_000]
ROPES = [{"rope_type": kind, **more} for kind in ("llama3", "linear", "yarn") for more in ({}, {"factor": 2})]
TREES: list[Any] = [[], [0], [1], [-1], [2**62] * 50, [[]], [None], ["x"], {}, {"a": 1}, {"type": "linear"}]
BAD_VALUES = [None, True, False, float("nan"), float("inf"), *NUMBERS, *WORDS, *ROPES, *TREES]
PATHS = [
    "../model.safetensors",
    "/etc/passwd",
    "..",
    ".",
    "",
    "config.json",
    "gone.safetensors",
    "sub",
    "a\\b",
    "~",
]
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
NAMES = [*PATHS, *SHARDS, "model.safetensors.index.json"]


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few of the things that disks, networks and editors do."""
    damaged = bytearray(data)
    kind = rng.randrange(6)
    place = rng.randrange(len(damaged)) if damaged else 0
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    elif kind == 1:
        damaged[place] ^= 1 << rng.randrange(8)
    elif kind == 2:
        del damaged[place:]
    elif kind == 3:
        del damaged[place : place + rng.randint(1, 20)]
    elif kind == 4:
        damaged[place:place] = rng.randbytes(rng.randint(1, 20))
    else:
        piece = damaged[place : place + rng.randint(1, 40)]
        damaged[place:place] = piece * rng.choice([1, 2, 1000])
    return bytes(damaged)


def mutate_json(value: Any, rng: random.Random) -> Any:
    """Replace, drop or rename something, anywhere in the tree."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        result, key = dict(value), rng.choice(list(value))
        action = rng.randrange(8)
        if action == 0:
            del result[key]
        elif action == 1:
            result[rng.choice([*value, "extra", "", "\ud800", "__metadata__"])] = result.pop(key)
        elif action == 2:
            result[key] = value[rng.choice(list(value))]
        else:
            result[key] = mutate_json(value[key], rng)
        return result
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], mutate_json(value[place], rng), *value[place + 1 :]]
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice([-8, -2, -1, 1, 2, 8, 2**32])
    return rng.choice(NAMES if isinstance(value, str) and rng.random() < 0.5 else BAD_VALUES)


def mutate_text(text: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(text, rng)
    value = json.loads(text)
    for _ in range(rng.randint(1, 2)):
        value = mutate_json(value, rng)
    return json.dumps(value).encode()


def mutate_weights(data: bytes, rng: random.Random) -> bytes:
    """Damage the header (its length kept true, or not), or cut the file short."""
    (length,) = struct.unpack("<Q", data[:8])
    header, payload = data[8 : 8 + length], data[8 + length :]
    kind = rng.random()
    if kind < 0.1:
        return mutate_bytes(data[: 8 + length], rng) + payload
    if kind < 0.2:
        near = [0, 1, length - 1, length + 1, len(data)]
        far = [2**24, 2**31, 2**63, 2**64 - 1, rng.getrandbits(64)]
        return struct.pack("<Q", rng.choice(near + far)) + data[8:]
    if kind < 0.3:
        return (
            data[: rng.randrange(len(data))]
            if rng.random() < 0.7
            else data + rng.randbytes(rng.randint(1, 9))
        )
    damaged = mutate_text(header, rng)
    return struct.pack("<Q", len(damaged)) + damaged + payload


def stored_tensors(file: Path) -> dict[str, bytes]:
    """Every tensor's bytes, read in the plainest possible way."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    spans = {name: entry["data_offsets"] for name, entry in header.items()}
    return {name: data[8 + length + start : 8 + length + end] for name, (start, end) in spans.items()}


def check_load(checkpoint: Checkpoint, raw: dict[str, Any]) -> None:
    """Compare a load with the files, read again without our code."""
    config = checkpoint.config
    stored: dict[str, bytes] = {}
    for file in checkpoint.tensors.files():
        stored.update(stored_tensors(file))
    for name, shape in expected_tensors(config).items():
        tensor = checkpoint.tensors.get(name)
        assert tuple(tensor.shape) == shape, name
        assert tensor.contiguous().view(torch.uint8).numpy().tobytes() == stored[name], name
    same = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
    }
    for field, value in same.items():
        assert raw.get(field, value) in (value, None), field
    if not raw.get("rope_scaling") and not raw.get("rope_parameters"):
        assert raw.get("rope_theta", 10000.0) == config.rope_theta


def targets(directory: Path, kind: str) -> tuple[Path, Callable[[bytes, random.Random], bytes]]:
    shapes = {
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "attention_bias": True,
        "mlp_bias": True,
    }
    if kind == "config":
        write_checkpoint(directory, raw_config(**shapes))
        return directory / "config.json", mutate_text
    write_checkpoint(directory, raw_config(**shapes), shards=2 if kind == "index" else 1)
    if kind == "index":
        (directory / "sub").mkdir()
        return directory / "model.safetensors.index.json", mutate_text
    return directory / "model.safetensors", mutate_weights


def main(kind: str, count: int, seed: int) -> None:
    directory = Path(tempfile.mkdtemp())
    outcomes: Counter[str] = Counter()
    try:
        victim, mutate = targets(directory / "checkpoint", kind)
        shutil.copy(victim, directory / "model.safetensors")  # bait for '../model.safetensors'
        original = victim.read_bytes()
        config = victim.parent / "config.json"
        check_load(open_checkpoint(str(victim.parent)), json.loads(config.read_text()))
        process = psutil.Process()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        limit = process.memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for case in range(count):
            sys.stderr.write(f"{kind} {seed} {case}\n")  # the last line names the case that crashed
            signal.alarm(SECONDS)
            victim.write_bytes(mutate(original, random.Random(f"{seed} {case}")))
            try:
                checkpoint = open_checkpoint(str(victim.parent))
            except CheckpointError as error:
                outcomes["refused"] += 1
                sentence = str(error)
                assert sentence.isprintable(), sentence
                assert len(sentence) < 800, sentence
            else:
                outcomes["loaded"] += 1
                check_load(checkpoint, json.loads(config.read_text()))
        signal.alarm(0)
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        sys.stdout.write(json.dumps({**outcomes, "growth": growth}))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
