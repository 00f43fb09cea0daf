"""Tree acceptance as two TensorRT plugins: the pass over the logits, then the walk. See embedding.py."""

from ..embedding import NAMESPACE, TENSORRT_NAMES, Target, implementation, triton_type
from .variants import BLOCKS, sample_variant, walk_variant

SAMPLE, WALK = f"{NAMESPACE}::tree_sample", f"{NAMESPACE}::tree_walk"


def register(trt, trtp, target: Target) -> list[str]:
    """Registers both plugins.

    tree_sample(logits [B, N, V] float32, float16 or bfloat16, tokens, parents [B, N] int64, seed, position
    [B] int64, temperature [B] float32; slice_size) -> score float32, token int32, top float32, each
    [B, N, ceil(V / slice_size)]. `slice_size` is a multiple of 2048.

    tree_walk(logits, tokens, parents, seed, position, temperature, top_k [B] int32, top_p, min_p [B]
    float32, score, token, top; max_nodes, max_slices) -> path [B, N - 1], length [B], bonus [B], int64.
    The two numbers bound N and ceil(V / slice_size).
    """
    Desc = trtp.TensorDesc

    @trtp.register(SAMPLE)
    def describe_sample(
        logits: Desc,
        tokens: Desc,
        parents: Desc,
        seed: Desc,
        position: Desc,
        temperature: Desc,
        slice_size: int,
    ) -> tuple[Desc, Desc, Desc]:
        batch, nodes, vocabulary = logits.shape_expr
        made = [logits.like() for _ in range(3)]
        types = (trt.DataType.FLOAT, trt.DataType.INT32, trt.DataType.FLOAT)
        for desc, dtype in zip(made, types, strict=True):
            desc.dtype = dtype
            desc.shape_expr = trtp.ShapeExprs.from_tuple((batch, nodes, trtp.cdiv(vocabulary, slice_size)))
        return tuple(made)

    @trtp.autotune(SAMPLE)
    def tune_sample(
        logits: Desc, tokens: Desc, parents: Desc, seed: Desc, position: Desc, temperature: Desc,
        slice_size: int, outputs: tuple[Desc],
    ) -> list[trtp.AutoTuneCombination]:  # fmt: skip
        floats = "*".join(TENSORRT_NAMES.values())
        types = f"{floats}, INT64, INT64, INT64, INT64, FP32, FP32, INT32, FP32"
        return [trtp.AutoTuneCombination(types, "LINEAR", list(BLOCKS))]

    @trtp.aot_impl(SAMPLE)
    def implement_sample(
        logits: Desc, tokens: Desc, parents: Desc, seed: Desc, position: Desc, temperature: Desc,
        slice_size: int, outputs: tuple[Desc], tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:  # fmt: skip
        batch, nodes, vocabulary = logits.shape_expr
        slices = trtp.cdiv(vocabulary, slice_size)
        variant = sample_variant(triton_type(logits.dtype), slice_size, BLOCKS[tactic or 1], aligned=False)
        grid = (batch * nodes, slices)
        return implementation(trtp, variant, target, grid, [nodes, vocabulary, slices])

    @trtp.register(WALK)
    def describe_walk(
        logits: Desc, tokens: Desc, parents: Desc, seed: Desc, position: Desc, temperature: Desc,
        top_k: Desc, top_p: Desc, min_p: Desc, score: Desc, token: Desc, top: Desc,
        max_nodes: int, max_slices: int,
    ) -> tuple[Desc, Desc, Desc]:  # fmt: skip
        batch, nodes = tokens.shape_expr
        path, length, bonus = tokens.like(), seed.like(), seed.like()
        path.dtype = length.dtype = bonus.dtype = trt.DataType.INT64
        path.shape_expr = trtp.ShapeExprs.from_tuple((batch, nodes - 1))
        return path, length, bonus

    @trtp.autotune(WALK)
    def tune_walk(
        logits: Desc, tokens: Desc, parents: Desc, seed: Desc, position: Desc, temperature: Desc,
        top_k: Desc, top_p: Desc, min_p: Desc, score: Desc, token: Desc, top: Desc,
        max_nodes: int, max_slices: int, outputs: tuple[Desc],
    ) -> list[trtp.AutoTuneCombination]:  # fmt: skip
        floats = "*".join(TENSORRT_NAMES.values())
        types = f"{floats}, INT64, INT64, INT64, INT64, FP32, INT32, FP32, FP32, FP32, INT32, FP32, INT64, INT64, INT64"
        return [trtp.AutoTuneCombination(types, "LINEAR")]

    @trtp.aot_impl(WALK)
    def implement_walk(
        logits: Desc, tokens: Desc, parents: Desc, seed: Desc, position: Desc, temperature: Desc,
        top_k: Desc, top_p: Desc, min_p: Desc, score: Desc, token: Desc, top: Desc,
        max_nodes: int, max_slices: int, outputs: tuple[Desc], tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:  # fmt: skip
        batch, nodes, vocabulary = logits.shape_expr
        sizes = [1 << (size - 1).bit_length() for size in (max_nodes, max_slices)]
        variant = walk_variant(triton_type(logits.dtype), *sizes, aligned=False)
        integers = [nodes, vocabulary, score.shape_expr[2]]
        return implementation(trtp, variant, target, (batch,), integers)

    return [SAMPLE, WALK]
