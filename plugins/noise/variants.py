"""What `saguaro.plugins.compile` compiles of the noise kernel."""

from ..variants import Variant
from .kernel import OPTIONS, noise_kernel


def variants() -> list[Variant]:
    types = {
        "seed_ptr": "*i64", "position_ptr": "*i64", "token_ptr": "*i64",
        "stream": "i32", "token_row_stride": "i32", "columns": "i32",
    }  # fmt: skip
    made = []
    for gumbel in (False, True):
        for has_tokens in (False, True):
            constants = {"HAS_TOKENS": has_tokens, "GUMBEL": gumbel, "BLOCK": 1024}
            out = {"out_ptr": "*fp32" if gumbel else "*i32"}
            name = ("gumbel" if gumbel else "bits") + (" ids" if has_tokens else "")
            made.append(Variant(name, noise_kernel, types | out, constants, options=OPTIONS))
    return made
