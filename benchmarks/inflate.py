"""Turn a small Llama checkpoint into one of any larger shape that computes the same function.

    python benchmarks/inflate.py examples/demo/target /tmp/8b --like llama-3.1-8b --dtype bf16

For timing big shapes with real text and real acceptance rates on machines that cannot download weights.
`--like` sets a known model's sizes, the other options go before it one by one, and what none of them sets
stays as it is. Why the function is the same: `inflation/tensors.py`.
"""

from inflation.command import main

if __name__ == "__main__":
    main()
