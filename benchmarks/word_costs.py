"""How much faster are a model's word costs than torch's linear layer and cross-entropy?

What importance weighting spends most of its time on: -log p of words that are given, over 10,002 words and a decoder
of the paper's width, for 500 draws of z for a sentence. Both ways take turns, with as many threads; medians count. The
plain way has its scores in parts of the same size, so that they stay in the processor's cache too.

    python benchmarks/word_costs.py [--rounds 7] [--threads 2]
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hvae_mnn.model.network.output import OutputLayer

WORDS, WIDTH, PLACES, PART = 10_002, 256, 11_000, 104
AGREEMENT = 1e-4  # nats


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layer, hidden, targets = OutputLayer(WIDTH, WORDS), torch.randn(PLACES, WIDTH), torch.randint(0, WORDS, (PLACES,))
    ways = {"plain": plain_costs, "OutputLayer.costs": OutputLayer.costs}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Tensor] = {}
    for _ in range(options.rounds + 1):
        for name, way in ways.items():
            seconds[name].append(clock(lambda way=way: way(layer, hidden, targets), found, name))
    plain, ours = (1e6 * float(np.median(times[1:])) / PLACES for times in seconds.values())
    difference = float((found["plain"] - found["OutputLayer.costs"]).abs().max())
    print(f"{options.threads} threads: plain {plain:.1f} us a word, here {ours:.1f} us, ratio {ours / plain:.2f}")
    print(f"largest difference {difference:.1e} nats")
    if difference > AGREEMENT:
        sys.exit(f"expected at most {AGREEMENT} nats")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time costs of words beside torch's own layers.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of both ways (7)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (2)")
    return parser.parse_args()


@torch.no_grad()
def plain_costs(layer: OutputLayer, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of each target by torch's own layers."""
    parts = zip(torch.split(hidden, PART), torch.split(targets, PART), strict=True)
    return torch.cat([functional.cross_entropy(layer(h), t, reduction="none") for h, t in parts]).double()


def clock(way: Callable[[], Tensor], found: dict[str, Tensor], name: str) -> float:
    """Return the seconds that a way takes; what it finds is kept."""
    start = time.perf_counter()
    found[name] = way()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
