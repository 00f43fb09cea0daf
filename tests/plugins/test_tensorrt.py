"""The TensorRT registrations without TensorRT: shapes, types, launch parameters and calling convention."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def answers() -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.plugins.tensorrt_check", "89"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_plugin_registers(answers):
    assert answers["registered"] == [
        "saguaro::tree_attention_split", "saguaro::tree_attention_merge",
        "saguaro::tree_sample", "saguaro::tree_walk", "saguaro::kv_compact",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("plugin", "outputs", "aliased"),
    [
        ("tree_attention_split", [["FLOAT", [4, 2, 32, 8, 128]], ["FLOAT", [4, 2, 32, 8]]], [None, None]),
        ("tree_attention_merge", [["BF16", [2, 32, 8, 128]]], [None]),
        ("tree_sample", [["FLOAT", [2, 8, 8]], ["INT32", [2, 8, 8]], ["FLOAT", [2, 8, 8]]], [None] * 3),
        ("tree_walk", [["INT64", [2, 7]], ["INT64", [2]], ["INT64", [2]]], [None] * 3),
        ("kv_compact", [["HALF", [2, 8, 1000, 80]]] * 2, [0, 1]),
    ],
)
def test_output_shapes_and_types(answers, plugin, outputs, aliased):
    assert answers[f"saguaro::{plugin}"]["outputs"] == outputs
    assert answers[f"saguaro::{plugin}"]["aliased"] == aliased


@pytest.mark.parametrize(
    ("plugin", "grids", "extra"),
    [
        # 4 query heads a group times 8 queries: two tiles of 16, or one of 32
        (
            "tree_attention_split", [[2, 16, 4], [1, 16, 4]],
            [32 * 8 * 128, 8 * 128, 128, *[8 * 1000 * 128, 1000 * 128, 128] * 2, 32, 8, 8, 1000, 2, 4],
        ),
        ("tree_attention_merge", [[128, 1, 1]], [512, 4]),  # 4 rows a program
        ("tree_sample", [[16, 8, 1]] * 3, [8, 32001, 8]),
        ("tree_walk", [[2, 1, 1]], [8, 32001, 8]),
        ("kv_compact", [[2, 16, 1]], [8, 1000, 6]),
    ],
)  # fmt: skip
def test_launch_parameters(answers, plugin, grids, extra):
    found = answers[f"saguaro::{plugin}"]["answers"]
    assert [answer["grid"] for answer in found] == grids
    assert all(answer["extra"] == extra for answer in found)
    assert all(answer["block"][0] in (128, 256) and answer["block"][1:] == [1, 1] for answer in found)


def test_parameters_are_inputs_then_integers_then_outputs(answers):
    counts = {
        "tree_attention_split": (5, 15, 2), "tree_attention_merge": (2, 2, 1), "tree_sample": (6, 3, 3),
        "tree_walk": (12, 3, 3), "kv_compact": (4, 3, 2),
    }  # fmt: skip
    for plugin, (inputs, integers, outputs) in counts.items():
        for answer in answers[f"saguaro::{plugin}"]["answers"]:
            assert answer["parameters"] == ["u64"] * inputs + ["u32"] * integers + ["u64"] * outputs, plugin


def test_every_tactic_assembles_from_old_ptx_without_spills(answers):
    for plugin in answers["registered"]:
        for answer in answers[plugin]["answers"]:
            assert answer["spills"] == 0
            assert answer["version"] == "8.0"
    assert [a["tactic"] for a in answers["saguaro::tree_attention_split"]["answers"]] == [1, 2]
    assert [a["tactic"] for a in answers["saguaro::tree_sample"]["answers"]] == [1, 2, 3]
