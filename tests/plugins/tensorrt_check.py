"""Run by test_tensorrt.py in a process of its own, where Triton compiles, not interprets.

Registers every plugin with the stand-in, asks it what TensorRT would ask, and prints the answers as JSON.
"""

import json
import re
import sys

from tests.plugins import tensorrt_double as double

# plugin id -> inputs (type, shape), attributes
CASES = {
    "saguaro::tree_attention_split": (
        [("BF16", (2, 32, 8, 128)), ("BF16", (2, 8, 1000, 128)), ("BF16", (2, 8, 1000, 128)),
         ("INT32", (2, 8, 2)), ("INT32", (2,))],
        {"head_size": 128, "pairs": 32, "splits": 4, "scale": 0.125},
    ),
    "saguaro::tree_attention_merge": (
        [("FLOAT", (4, 2, 32, 8, 128)), ("FLOAT", (4, 2, 32, 8))],
        {"head_size": 128, "precision": "bf16"},
    ),
    "saguaro::tree_sample": (
        [("FLOAT", (2, 8, 32001)), ("INT64", (2, 8)), ("INT64", (2, 8)), ("INT64", (2,)), ("INT64", (2,)),
         ("FLOAT", (2,))],
        {"slice_size": 4096},
    ),
    "saguaro::tree_walk": (
        [("HALF", (2, 8, 32001)), ("INT64", (2, 8)), ("INT64", (2, 8)), ("INT64", (2,)), ("INT64", (2,)),
         ("FLOAT", (2,)), ("INT32", (2,)), ("FLOAT", (2,)), ("FLOAT", (2,)),
         ("FLOAT", (2, 8, 8)), ("INT32", (2, 8, 8)), ("FLOAT", (2, 8, 8))],
        {"max_nodes": 20, "max_slices": 8},
    ),
    "saguaro::kv_compact": (
        [("HALF", (2, 8, 1000, 80)), ("HALF", (2, 8, 1000, 80)), ("INT32", (2, 6)), ("INT32", (2,))],
        {"head_size": 80, "max_rows": 6},
    ),
}  # fmt: skip


def ask(plugin_id: str, capability: int) -> dict:
    from saguaro.plugins.compile import usage
    from saguaro.plugins.variants import Binary

    plugin = sys.modules["tensorrt.plugin"]
    entry = double.registry()[plugin_id]
    inputs, attributes = CASES[plugin_id]
    descs = [plugin.TensorDesc(double.dimensions(shape), double.DataType[kind]) for kind, shape in inputs]
    made = entry.register_func(*descs, **attributes)
    outputs = made if isinstance(made, tuple) else (made,)
    tuned = entry.autotune_func(*descs, *attributes.values(), outputs)
    if hasattr(tuned[0], "_get_combinations"):  # NVIDIA's package spells the combinations out
        assert all(len(c.types) == len(descs) + len(outputs) for c in tuned[0]._get_combinations())
    answers = []
    for tactic in tuned[0]._tactics or [0]:
        name, ptx, launch, extra = entry.aot_impl_func(*descs, *attributes.values(), outputs, tactic)
        assert isinstance(launch, plugin.KernelLaunchParams)
        assert all(isinstance(item, plugin.SymInt32) for item in extra)
        parameters = re.search(rf"\.entry {name}\((.*?)\)", ptx, re.DOTALL).group(1)
        used = usage(Binary(name, ptx, b"", 0, double.value(launch.shared_mem)), capability)
        answers.append({
            "tactic": tactic,
            "name": name,
            "parameters": re.findall(r"\.param \.(u\d+)", parameters),
            "version": re.search(r"\.version (\S+)", ptx).group(1),
            "grid": [double.value(getattr(launch, f"grid_{x}")) for x in "xyz"],
            "block": [double.value(getattr(launch, f"block_{x}")) for x in "xyz"],
            "extra": [double.value(item) for item in extra],
            "spills": used.spill_stores + used.spill_loads,
        })  # fmt: skip
    sources = [desc.get_aliased() for desc in outputs]
    return {
        "outputs": [[desc.dtype.name, [double.value(d) for d in desc.shape_expr]] for desc in outputs],
        "aliased": [next((i for i, d in enumerate(descs) if d is source), None) for source in sources],
        "types": [combination.io_types for combination in tuned],
        "answers": answers,
    }


if __name__ == "__main__":
    package = double.install()
    from saguaro.plugins.embedding import register_all

    target = int(sys.argv[1])
    registered = register_all(target)
    result = {"package": package, "registered": registered}
    json.dump(result | {name: ask(name, target) for name in registered}, sys.stdout)
