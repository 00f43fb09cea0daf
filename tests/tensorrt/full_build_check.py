"""Run by test_full_build.py in a process of its own, where Triton compiles, not interprets: `saguaro` with the full
library and a GPU of compute capability 8.9, both played by doubles."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import torch

from saguaro.cli import main
from tests.tensorrt.full_library import installed

if __name__ == "__main__":
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: 0
    torch.cuda.get_device_capability = lambda index: (8, 9)
    torch.cuda.get_device_properties = lambda index: SimpleNamespace(multi_processor_count=128)
    torch.cuda.device = lambda index: nullcontext()  # type: ignore[assignment,misc]
    with installed():
        main(sys.argv[1:])
