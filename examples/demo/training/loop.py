"""The training loop that target and draft share.

The time is given, not the number of steps: the learning rate follows the share of the minutes used. These are
minutes of the cores' work, so that other jobs on the machine, or a pause, delay the training and do not shorten it.
Each core runs its own part of a batch with one thread; that loses less to a busy machine than splitting every
single operation does.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from .optimiser import Muon
from .progress import say

CHECKPOINT_SECONDS = 180
Batches = Callable[[float], list[Tensor]]


def learning_rate(share: float, step: int) -> float:
    """Warm up for 50 steps, hold, and fall linearly to zero over the last 70 % of the time."""
    return min(1.0, (step + 1) / 50) * min(1.0, max(0.0, 1 - share) / 0.7)


def train(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    batches: Batches,
    minutes: float,
    checkpoint: Path,
    workers: int = 2,
) -> None:
    """Train for `minutes` in all, continuing from `checkpoint` when there is one.

    `batches(share)` gives the step's microbatches, `share` being the part of the time already used.
    """
    optimiser, used, step = Muon(model), 0.0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        used, step = state["used"], state["step"]
        say(f"resumed at step {step}, {used / 60:.1f} minutes")
    parameters = list(model.parameters())

    def save() -> None:
        partial = checkpoint.with_suffix(".partial")
        torch.save(
            {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "used": used, "step": step},
            partial,
        )
        partial.replace(checkpoint)

    def gradients(batch: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        value = loss(batch)
        return value.detach(), torch.autograd.grad(value, parameters)

    torch.set_num_threads(1)  # before the first compilation: it is compiled for this many threads
    saved, shown, tokens, clock, smooth = used, step, 0, time.process_time(), 0.0
    shape: torch.Size | None = None
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        while used < 60 * minutes:
            parts = batches(used / (60 * minutes))
            if parts[0].shape != shape:  # let one thread compile
                shape = parts[0].shape
                gradients(parts[0])
            results = list(pool.map(gradients, parts))
            for index, parameter in enumerate(parameters):
                parameter.grad = torch.stack([found[index] for _, found in results]).mean(0)
            optimiser.step(learning_rate(used / (60 * minutes), step))
            value = torch.stack([one for one, _ in results]).mean().item()
            smooth = value if smooth == 0 else 0.95 * smooth + 0.05 * value
            step += 1
            tokens += sum(part.numel() for part in parts)
            now = time.process_time()
            used, clock = used + (now - clock) / workers, now
            if step % 20 == 0:
                speed = tokens / max(1e-9, used - saved) if shown else 0.0
                say(
                    f"step {step}  {used / 60:5.1f} of {minutes:g} min  loss {smooth:.4f}  "
                    f"{speed:.0f} entries/s",
                )
                shown = step
            if used - saved > CHECKPOINT_SECONDS:
                save()
                saved, tokens = used, 0
    save()
