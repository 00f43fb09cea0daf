"""Tests on a CUDA device, skipped without one. Run alone: `pytest tests/gpu`.

Where a device is present the kernels are imported here, before anything could choose Triton's interpreter.
"""

import pytest
import torch

if torch.cuda.is_available():
    import saguaro.plugins.kv_compact.kernel
    import saguaro.plugins.noise.kernel
    import saguaro.plugins.tree_accept.kernel
    import saguaro.plugins.tree_attention.kernel  # noqa: F401


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "tests/gpu" in str(item.path).replace("\\", "/"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
