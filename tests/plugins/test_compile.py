"""The cross-compiler's table: reading ptxas, telling failures, and one real compilation without a GPU."""

import os
import subprocess
import sys

import pytest

from saguaro.plugins import compile as compiler
from saguaro.plugins.tree_accept.kernel import SLICE
from saguaro.plugins.tree_accept.variants import BLOCKS
from saguaro.plugins.tree_attention import HEAD_SIZES
from saguaro.plugins.variants import Binary, without_scratch_parameters

REPORT = """ptxas info    : 11 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, {static} bytes smem
"""


def test_numbers_are_read_from_ptxas():
    text = REPORT.format(stack=64, stores=24, loads=36, registers=168, static=128)
    assert compiler.parse_usage(text, 2048) == compiler.Usage(168, 24, 36, 2176)
    with pytest.raises(ValueError, match="reported no registers"):
        compiler.parse_usage("ptxas fatal", 0)


def test_spills_too_much_shared_memory_and_errors_are_failures():
    assert compiler.complaint(compiler.Usage(255, 0, 0, 99 * 1024), 86) == ""
    assert compiler.complaint(compiler.Usage(255, 4, 0, 0), 86) == "spills"
    assert compiler.complaint(compiler.Usage(255, 0, 4, 0), 86) == "spills"
    assert "shared memory" in compiler.complaint(compiler.Usage(40, 0, 0, 99 * 1024 + 1), 86)
    assert compiler.complaint(compiler.Usage(40, 0, 0, 99 * 1024 + 1), 90) == ""
    assert compiler.complaint("CompilationError: no", 90) == "CompilationError: no"


PTX = ".visible .entry k(\n\t.param .u64 k_param_0,\n\t.param .u64 k_param_1\n)\n.reqntid 32\n{{ {body} }}\n"


def test_scratch_parameters_are_taken_off_only_if_unread():
    clean = Binary("k", PTX.format(body="ld.param.b64 %rd1, [k_param_0];"), b"", 1, 0)
    assert "k_param_1" not in without_scratch_parameters(clean, 1)
    assert ".param .u64 k_param_0\n)" in without_scratch_parameters(clean, 1)
    read = Binary("k", PTX.format(body="ld.param.b64 %rd1, [k_param_1];"), b"", 1, 0)
    assert without_scratch_parameters(read, 2).count("k_param_1") == 2
    with pytest.raises(ValueError, match="reads its scratch parameter 1"):
        without_scratch_parameters(read, 1)
    with pytest.raises(ValueError, match="has 2 parameters in PTX, expected 3"):
        without_scratch_parameters(clean, 3)


def test_every_type_and_head_size_is_compiled_for_the_six_targets_and_each_variant_once():
    assert compiler.TARGETS == (80, 86, 89, 90, 100, 120)
    names = {
        plugin: [(v.kernel.__name__, v.name) for v in compiler.plugin_variants(plugin)] for plugin in compiler.PLUGINS
    }
    assert all(len(set(found)) == len(found) for found in names.values())
    for dtype in ("fp32", "fp16", "bf16"):
        for size in HEAD_SIZES:
            assert ("split_kernel", f"{dtype} D {size} M 16") in names["tree_attention"]
            assert ("merge_kernel", f"{dtype} D {size}") in names["tree_attention"]
            assert ("compact_pair_kernel", f"{dtype} D {size} rows 8") in names["kv_compact"]
        for block in BLOCKS.values():
            assert ("sample_kernel", f"{dtype} slice {SLICE} block {block} odd V") in names["tree_accept"]
        assert ("walk_kernel", f"{dtype} N 64 slices 64 odd V") in names["tree_accept"]


def test_a_plugin_compiles_for_two_targets_and_the_table_says_so():
    """The whole table is `make kernels`; it takes minutes."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [
        sys.executable,
        "-m",
        "saguaro.plugins.compile",
        "--plugin",
        "noise",
        "--cc",
        "80",
        "--cc",
        "120",
    ]
    done = subprocess.run([*command, "--jobs", "1"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["kernel", "variant", "cc", "regs", "spill", "st/ld", "shared"]
    assert len(lines) == 1 + 8 + 1
    assert all(" 0/0 " in line for line in lines[1:-1])
    assert lines[-1] == "8 compiled for 2 targets, 0 failed"


def test_compiling_while_interpreting_is_refused():
    from saguaro.plugins.noise.variants import variants
    from saguaro.plugins.variants import compile_variant

    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton was imported without its interpreter")
    with pytest.raises(RuntimeError, match="unset it"):
        compile_variant(variants()[0], 80)
