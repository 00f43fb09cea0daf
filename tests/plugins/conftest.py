"""The kernels run in Triton's interpreter here, which must be chosen before Triton is first imported."""

import os
import sys

import pytest
import torch

if "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"

pytest.importorskip("triton", reason="the kernels' tests need Triton, also on a CPU")


def pytest_configure(config):
    config.addinivalue_line("markers", "interpreted: runs a kernel in Triton's interpreter")


def pytest_collection_modifyitems(items):
    if os.environ.get("TRITON_INTERPRET") == "1":
        return
    reason = "Triton was imported before, without its interpreter: run tests/plugins in a process of its own"
    for item in items:
        if "interpreted" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """Small tensors on busy cores: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
