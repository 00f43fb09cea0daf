"""Times of the verification plugins on this machine: `python benchmarks/kernels.py [--device cuda]`.

On a CPU these are the references that the `torch` backend calls every round; on a GPU the kernels. Each row
is the median of many calls, in microseconds, the host's part included.
"""

import argparse
import statistics
import sys
import time

import torch

from saguaro.plugins import gumbel, kv_compact, pack_ancestors, perturbed_scores, tree_accept, tree_attention


def microseconds(call, device: str, repeats: int = 200) -> float:
    for _ in range(10):
        call()
    times = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def cases(device: str, batch: int, nodes: int, vocabulary: int) -> dict:
    """Name -> call, for one shape of tree."""
    logits = torch.randn(batch, nodes, vocabulary, device=device) * 3
    tokens = torch.randint(0, vocabulary, (batch, nodes), device=device)
    parents = torch.arange(-1, nodes - 1, device=device).expand(batch, -1)
    seed, position = list(range(batch)), [100] * batch
    positions = torch.arange(100, 100 + nodes, device=device).expand(batch, -1)
    ancestors = pack_ancestors(parents)
    q = torch.randn(batch, 8, nodes, 64, device=device)
    k, v = torch.randn(2, batch, 2, 1024, 64, device=device)
    prefix = torch.full((batch,), 900, device=device)
    path = torch.tensor([[0, 2, 4]], device=device).expand(batch, -1)

    def accept(*sampling):
        return lambda: tree_accept(logits, tokens, parents, seed, position, *sampling)

    return {
        "tree_accept, greedy": accept(0.0),
        "tree_accept, T 1": accept(1.0),
        "tree_accept, T 0.8 top-k 20 top-p 0.9": accept(0.8, 20, 0.9),
        "perturbed_scores, T 1": lambda: perturbed_scores(logits, seed, positions, 1.0),
        "gumbel": lambda: gumbel(seed, positions, vocabulary),
        "pack_ancestors": lambda: pack_ancestors(parents),
        "tree_attention, 8 heads, 1024 rows": lambda: tree_attention(q, k, v, ancestors, prefix),
        "kv_compact, 8 layers": lambda: kv_compact([k] * 8, [v] * 8, path, prefix),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--vocabulary", type=int, default=4096)
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    for batch, nodes in ((1, 6), (1, 24), (8, 6)):
        sys.stdout.write(f"{batch} sequences, {nodes} nodes, {chosen.vocabulary} tokens\n")
        for name, call in cases(chosen.device, batch, nodes, chosen.vocabulary).items():
            sys.stdout.write(f"  {name:<40} {microseconds(call, chosen.device):10.1f} us\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
