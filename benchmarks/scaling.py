"""How do seconds and memory of the spice engine grow with the number of memristors?

Models with random weights: embedding twice the hidden size, z an eighth of it, three lstm layers, preset `default`.
For each size its compiling is timed, all decks are loaded, and some steps are run, each of which reads every tile
once; the median of the steps after the first counts. Memory is the sum of the proportional set sizes of the
processes that hold the decks, after those steps. Exponents are fitted by least squares in the logarithms: 1 is a
cost a memristor that stays the same. Small models have tiles that are partly filled and cost a process each all the
same, which makes exponents smaller than those of full tiles; the script ends with an error if seconds grow with
more than the power 1.15.

    python benchmarks/scaling.py [--hidden 32,64,128,256] [--steps 6] [--workers N]
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from paper_size import gigabytes, sum_pss
from step_cost import time_step

from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.calibration import calibrate
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.network.vae import ModelConfig, TextVae
from hvae_mnn.model.text.corpus import Vocabulary

GOAL = 1.15  # exponent of seconds
WORDS = [f"word{number}" for number in range(100)]
WEIGHT_SCALE = 3.0  # over what torch starts them with, so that gates saturate as trained ones do


@dataclass(frozen=True)
class Size:
    """What a model of some hidden size cost."""

    hidden: int
    memristors: int
    tiles: int
    compiling: float
    step: float
    memory: float

    def __str__(self) -> str:
        sizes = f"| {self.hidden} | {self.memristors:,} | {self.tiles} "
        return f"{sizes}| {self.compiling:.1f} | {self.step:.3f} | {gigabytes(self.memory)} |"


def main() -> None:
    options = parse_options()
    print(f"{options.workers} workers, {os.cpu_count()} cores\n")
    print("| hidden | memristors | tiles | compiling, s | a step, s | memory of decks |\n|---|---|---|---|---|---|")
    sizes = []
    for hidden in options.hidden:
        sizes.append(measure(hidden, options.steps, options.workers))
        print(sizes[-1], flush=True)
    if len(sizes) < 2:
        return
    exponents = {
        "seconds a step": fit_exponent(sizes, [size.step for size in sizes]),
        "memory": fit_exponent(sizes, [size.memory for size in sizes]),
    }
    print("\n| grows with memristors to the power | exponent | goal |\n|---|---|---|")
    for name, exponent in exponents.items():
        print(f"| {name} | {exponent:.3f} | {GOAL if name == 'seconds a step' else ''} |")
    if exponents["seconds a step"] > GOAL:
        sys.exit(f"missed: seconds a step grow with the power {exponents['seconds a step']:.3f}, goal {GOAL}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fit how the spice engine's cost grows with the model.")
    parser.add_argument("--hidden", type=numbers, default=[32, 64, 128, 256], help="hidden sizes (32,64,128,256)")
    parser.add_argument("--steps", type=int, default=6, help="steps that count (6)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="ngspice workers (the cores)")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measure(hidden: int, steps: int, workers: int) -> Size:
    """Compile a random model, load it and run some steps."""
    checkpoint = random_checkpoint(hidden)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        build = save_build(compile_model(checkpoint, load_hardware("default"), "default"), Path(folder, "build"))
        compiling = time.perf_counter() - began
        step, memory = run_steps(build, steps, workers)
    return Size(hidden, build.memristors(), len(build.tiles), compiling, step, memory)


def run_steps(build: Build, steps: int, workers: int) -> tuple[float, int]:
    """Return the median seconds of a step after the first, and the bytes of the processes that hold decks."""
    with SpiceEngine(build, workers) as engine:
        times = [time_step(build, engine, number) for number in range(steps + 1)]
        return float(np.median(times[1:])), sum_pss(engine.deck_pids().values())


def random_checkpoint(hidden: int) -> Checkpoint:
    """Return a model of random weights with its calibration on random sentences."""
    vocabulary = Vocabulary.from_sentences([WORDS])
    config = ModelConfig(
        vocabulary_size=len(vocabulary),
        embedding=2 * hidden,
        hidden=hidden,
        latent=max(1, hidden // 8),
        encoder=("lstm", "lstm"),
        decoder="lstm",
        max_length=20,
    )
    torch.manual_seed(0)
    model = TextVae(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "embedding" in name else WEIGHT_SCALE)
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 21, 100)
    sentences = [tuple(rng.integers(4, len(vocabulary), length).tolist()) for length in lengths]
    calibration = calibrate(model, sentences, seed=0)
    weights = {name: value.numpy().astype(np.float32) for name, value in model.state_dict().items()}
    return Checkpoint(config, vocabulary, weights, calibration.samples, calibration.ranges)


def fit_exponent(sizes: list[Size], values: list[float]) -> float:
    """Return the exponent of values against memristors, by least squares in the logarithms."""
    slope, _ = np.polyfit(np.log([size.memristors for size in sizes]), np.log(values), 1)
    return float(slope)


if __name__ == "__main__":
    main()
