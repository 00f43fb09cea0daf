from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.runtime.engines import Engines


@pytest.fixture(autouse=True)
def on_one_thread() -> Iterator[None]:
    """Small tensors on busy cores: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    made = Engines(tmp_path_factory.mktemp("engines"))
    yield made
    made.close()
