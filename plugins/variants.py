"""Kernels compiled ahead of time, for a GPU that need not be there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGETS = (80, 86, 89, 90, 100, 120)  # compute capability times ten


@dataclass(frozen=True)
class Variant:
    """One specialisation of a kernel.

    Attributes:
        name: what tells it from the kernel's other variants.
        kernel: a `triton.jit` function.
        types: Triton's type string of each run-time argument, such as "*fp16" or "i32".
        constants: values of the other arguments.
        aligned: integer arguments known to be multiples of 16 (all pointers are taken to be).
        options: num_warps and the like.
    """

    name: str
    kernel: object
    types: Mapping[str, str]
    constants: Mapping[str, object]
    aligned: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Binary:
    """A compiled variant: PTX text, machine code, and what a launch needs to know."""

    name: str
    ptx: str
    cubin: bytes
    warps: int
    shared_bytes: int


def compile_variant(variant: Variant, capability: int, **options) -> Binary:
    """Compiles for a compute capability (times ten), such as 89; no GPU is used."""
    if not isinstance(variant.kernel, triton.JITFunction):
        raise RuntimeError("kernels cannot be compiled while TRITON_INTERPRET is set: unset it")
    names = variant.kernel.arg_names
    signature = {name: variant.types.get(name, "constexpr") for name in names}
    missing = [n for n in names if n not in variant.types and n not in variant.constants]
    if missing:
        raise ValueError(f"variant {variant.name} of {variant.kernel.__name__} says nothing about {missing}")
    sixteens = [i for i, n in enumerate(names) if variant.types.get(n, "").startswith("*") or n in variant.aligned]
    source = ASTSource(
        variant.kernel,
        signature,
        constexprs={(names.index(n),): value for n, value in variant.constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in sixteens},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={**variant.options, **options})
    return Binary(
        compiled.metadata.name,
        compiled.asm["ptx"],
        compiled.asm["cubin"],
        compiled.metadata.num_warps,
        compiled.metadata.shared,
    )


def without_scratch_parameters(binary: Binary, parameters: int) -> str:
    """The PTX with just its first `parameters` parameters.

    Triton ends every kernel's list with pointers to scratch memory (one or two, by version) that its own
    launcher passes. Another launcher does not, so they are taken off; right only if nothing reads them.
    """
    entry = re.search(rf"\.entry {re.escape(binary.name)}\(\s*(.*?)\s*\)\n", binary.ptx, re.DOTALL)
    if entry is None:
        raise ValueError(f"the PTX has no entry {binary.name}")
    declared = [line.strip() for line in entry.group(1).split(",\n")]
    body = binary.ptx[entry.end() :]
    for index in range(parameters, len(declared)):
        if re.search(rf"\[{re.escape(binary.name)}_param_{index}\b", body):
            raise ValueError(f"{binary.name} reads its scratch parameter {index}: it needs Triton's launcher")
    if len(declared) < parameters:
        raise ValueError(f"{binary.name} has {len(declared)} parameters in PTX, expected {parameters}")
    kept = ",\n".join("\t" + line for line in declared[:parameters])
    return binary.ptx[: entry.start(1)].rstrip() + "\n" + kept + "\n)\n" + body
