"""How much faster is a training step with the output layer in bfloat16 than in float32?

Both train a model of preset `paper`, and of embedding, width and latent 64, 64 and 32, on the same batches of random
sentences as long as those of the Penn Treebank, over 10,002 words, and take turns; medians count. What differs at
the end is printed too: the loss of the same batch, in float32, after all steps.

    python benchmarks/training_arithmetic.py [--steps 12] [--threads 1]
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.training.settings import ARITHMETICS, PRESETS, TrainConfig

WORDS, LENGTH, SPREAD = 10_002, 21, 10  # of the Penn Treebank's sentences, in words


def main() -> None:
    options = parse_options()
    torch.set_num_threads(options.threads)
    sizes = {"embedding 64": replace(PRESETS["tiny"], batch=64), "preset paper": PRESETS["paper"]}
    print(f"{'size':<16}{'float32, ms':>14}{'bfloat16, ms':>14}{'ratio':>8}{'losses, nats a sentence':>28}")
    for name, config in sizes.items():
        runs = {arithmetic: Run(config, arithmetic) for arithmetic in ARITHMETICS}
        for batch in make_batches(options.steps + 1, config.batch):
            for run in runs.values():
                run.step(batch)
        last = make_batches(1, config.batch, seed=1)[0]
        times = [float(np.median(run.seconds[1:])) for run in runs.values()]  # the first allocates memory
        losses = [run.measure(last) for run in runs.values()]
        print(
            f"{name:<16}{1e3 * times[0]:>14.0f}{1e3 * times[1]:>14.0f}{times[1] / times[0]:>8.2f}"
            f"{f'{losses[0]:.3f} {losses[1]:.3f}':>28}"
        )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time training steps in float32 and with bfloat16 scores.")
    parser.add_argument("--steps", type=int, default=12, help="steps of each (12)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (1)")
    return parser.parse_args()


def make_batches(count: int, size: int, seed: int = 0) -> list[Tensor]:
    """Return batches of random words, each of sentences of similar length."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.normal(LENGTH, SPREAD, count), 2, 60).astype(int)
    return [pad_batch([tuple(rng.integers(5, WORDS, length)) for _ in range(size)]) for length in lengths]


class Run:
    """A model in training, and how long each step took."""

    def __init__(self, config: TrainConfig, arithmetic: str) -> None:
        torch.manual_seed(0)
        self.model = TextVae(config.model_config(WORDS))
        self.model.output.training_dtype = getattr(torch, arithmetic)
        self.objective = config.make_objective()
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.seconds: list[float] = []

    def step(self, tokens: Tensor) -> None:
        """Take one step."""
        began = time.perf_counter()
        self.optimiser.zero_grad()
        self.objective.loss(self.model, tokens, 1.0).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.seconds.append(time.perf_counter() - began)

    def measure(self, tokens: Tensor) -> float:
        """Return the loss of a batch in float32, nats a sentence; same noise for each run."""
        self.model.eval()
        torch.manual_seed(1)
        with torch.no_grad():
            return float(self.objective.loss(self.model, tokens, 1.0))


if __name__ == "__main__":
    main()
