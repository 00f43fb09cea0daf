"""Train the demo pair from scratch: `python train.py --work /tmp/demo-pair`.

Everything that is not finished lives in the work folder, so an interrupted run continues where it was.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALLOCATOR = {  # keep freed memory: giving pages back and faulting them in again costs a third of the speed
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and generated text")
    parser.add_argument("--out", type=Path, default=HERE, help="where target/ and draft/ are written")
    parser.add_argument("--target-minutes", type=float, default=46)
    parser.add_argument("--draft-minutes", type=float, default=24)
    parser.add_argument("--text-minutes", type=float, default=12, help="for the target's own text")
    parser.add_argument(
        "--stages", default="tokenizer,target,text,draft,prompts,evaluate", help="comma-separated"
    )
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})

    from training import stages
    from training.progress import say

    arguments.work.mkdir(parents=True, exist_ok=True)
    for stage in arguments.stages.split(","):
        say(f"== {stage}")
        getattr(stages, stage)(arguments)


if __name__ == "__main__":
    main()
