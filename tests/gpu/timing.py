"""Kernel times against the time that moving the bytes must take."""

import torch


def milliseconds(call, repeats: int = 30) -> float:
    """Median device time of a call, captured in a CUDA graph so that the host's launches do not count.

    Between calls 256 MB are overwritten, so that nothing is left in the L2 cache.
    """
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times = []
    for _ in range(repeats):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def bandwidth() -> float:
    """Bytes per second that a large copy reaches on this device, reads and writes together."""
    source = torch.empty(2**30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / (milliseconds(lambda: target.copy_(source), 10) / 1e3)
