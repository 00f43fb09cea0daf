"""Text that the target writes itself: what the draft will be asked to predict.

Prompts are definitions from the training files. Half of the continuations are greedy, half sampled.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from .model import Llama
from .progress import say
from .windows import WindowSampler

LENGTH = 257  # one more than a training window
BATCH = 128
SHORTEST_PROMPT, LONGEST_PROMPT = 8, 96


@torch.no_grad()
def continue_all(model: Llama, prompts: Tensor, length: int, temperatures: Tensor) -> tuple[Tensor, Tensor]:
    """Extend prompts of one length to `length` tokens; temperature 0 is greedy.

    Returns the rows and the model's last hidden states of all their tokens but the last.
    """
    batch, start = prompts.shape
    rows = torch.empty(batch, length, dtype=torch.int64)
    rows[:, :start] = prompts
    cache = model.new_cache(batch, length)
    states = torch.empty(batch, length - 1, model.shape.hidden, dtype=model.dtype)
    states[:, :start] = model.hidden(prompts, cache)
    for position in range(start, length):
        logits = model.head(states[:, position - 1]).float()
        uniform = torch.rand_like(logits).clamp_min_(1e-20)
        noise = uniform.log_().neg_().clamp_min_(1e-20).log_().neg_()
        rows[:, position] = (logits + temperatures[:, None] * noise).argmax(-1)
        if position + 1 < length:
            states[:, position] = model.hidden(rows[:, position : position + 1], cache, position)[:, 0]
    return rows, states


def generate(model: Llama, sampler: WindowSampler, minutes: float, workers: int = 2) -> tuple[Tensor, Tensor]:
    """Rows of `LENGTH` tokens, as many as fit in the time, with the hidden states they came from."""
    end = time.process_time() + 60 * minutes * workers
    torch.set_num_threads(1)
    temperatures = torch.zeros(BATCH)
    temperatures[BATCH // 2 :] = torch.linspace(0.5, 1.0, BATCH - BATCH // 2)

    def prompts() -> Tensor:
        length = int(sampler.random.integers(SHORTEST_PROMPT, LONGEST_PROMPT))
        return torch.stack([sampler.draw_definition(length) for _ in range(BATCH)])

    rows: list[Tensor] = []
    states: list[Tensor] = []
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        while time.process_time() < end:
            jobs = [pool.submit(continue_all, model, prompts(), LENGTH, temperatures) for _ in range(workers)]
            for job in jobs:
                tokens, hidden = job.result()
                rows.append(tokens)
                states.append(hidden)
            say(f"{BATCH * len(rows)} rows of {LENGTH} tokens")
    return torch.cat(rows), torch.cat(states)
