"""What does a trial of a sweep cost: the nodal engine with plain PyTorch, and with ngspice?

Sentences are what the model itself says from latents drawn from the prior, so that no corpus is needed. PyTorch does in
float32 what a trial does of the same sentences: encode, decode teacher-forced for -log p, decode freely. A trial of the
nodal engine also draws its die (programming error of every cell, tiles solved), which is timed by itself, and compares
every reading with the exact sum. Each has one thread, in one process and then in a process a core, as
`sweep-variation` has them. ngspice has all cores and reads as many sentences of one die as `--spice-sentences` says,
decks loaded before; its seconds for all sentences are in proportion. Memory: of one process, after 100 trials of 8
sentences and after `--memory-trials`.

Ends with an error if a trial, its die not counted, takes more than twice PyTorch's time or more than 1/100 of
ngspice's, or if memory grows by more than 5 %.

    python benchmarks/sweep_speed.py [--model ptb] [--sentences 100] [--spice-sentences 2] [--memory-trials 1000]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from threadpoolctl import threadpool_limits

from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model, draw_die
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.experiments.sweep.bench import TrialBench
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.evaluation.posteriors import reconstruction
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.text.corpus import EOS, PAD
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise

PYTORCH_GOAL, SPICE_GOAL, MEMORY_GOAL = 2.0, 100.0, 1.05
ROUNDS, EACH = 5, 8  # times that one process, and each of many, does it
Sentences = list[tuple[int, ...]]
_worker: list[Any] = []


def main() -> None:
    options = parse_options()
    limit_threads(1)
    checkpoint, hardware = open_model(options.model), load_hardware("default", ["device.sigma=0.02"])
    sentences = draw_sentences(checkpoint, options.sentences)
    bench = TrialBench(checkpoint, sentences)
    length = np.mean([len(ids) for ids in sentences])
    print(f"model {options.model}, preset default, {len(sentences)} sentences of {length:.1f} words")
    print(f"{os.cpu_count()} cores\n")

    build = compile_model(checkpoint, hardware, "default")
    model = checkpoint.build_model()
    torch_one = median_time(lambda: evaluate(model, sentences))
    die = median_time(lambda: NodalEngine(draw_die(build, 1)))
    trial = median_time(lambda: bench.measure(hardware, [1]))
    torch_all, trial_all = time_all_cores(checkpoint, hardware, sentences)
    spice = time_spice(draw_die(build, 1), sentences, options.spice_sentences)

    print("| way | ms a trial | over PyTorch |\n|---|---|---|")
    for name, seconds, reference in (
        ("PyTorch float32, 1 thread", torch_one, torch_one),
        ("nodal, 1 process, die drawn", trial, torch_one),
        ("of that, the die", die, torch_one),
        (f"PyTorch float32, {os.cpu_count()} processes", torch_all, torch_all),
        (f"nodal, {os.cpu_count()} processes, die drawn", trial_all, torch_all),
        (f"ngspice, {options.spice_sentences} sentences run, {len(sentences)} counted", spice, torch_all),
    ):
        print(f"| {name} | {1000 * seconds:.0f} | {seconds / reference:.2f} |")
    missed = []
    for name, ratio in (("1 core", (trial - die) / torch_one), ("all cores", (trial_all - die) / torch_all)):
        print(f"\nnodal without its die over PyTorch, {name}: {ratio:.2f} (goal {PYTORCH_GOAL:.0f})", end="")
        missed += [name] if ratio > PYTORCH_GOAL else []
    print(f"\nngspice over nodal, all cores: {spice / trial_all:.0f} (goal {SPICE_GOAL:.0f})")
    missed += ["ngspice"] if spice / trial_all < SPICE_GOAL else []
    growth = measure_memory(bench, hardware, options.memory_trials)
    missed += ["memory"] if growth > MEMORY_GOAL else []
    if missed:
        sys.exit(f"missed: {', '.join(missed)}")


def draw_sentences(checkpoint: Checkpoint, count: int) -> Sentences:
    """Return what the model says from latents of the prior."""
    model, config = checkpoint.build_model(), checkpoint.config
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((4 * count, 1, config.latent))).float()
    rows = [
        tuple(word for word in row if word not in (PAD, EOS)) for row in model.greedy(z, config.max_length).tolist()
    ]
    return [row for row in rows if row][:count]


def evaluate(model: TextVae, sentences: Sentences) -> None:
    """Encode, decode freely and teacher-forced by PyTorch."""
    noises = [model.config.draw_noise(len(ids), i) for i, ids in enumerate(sentences)]
    found = model.reconstruct_all(sentences, noises)
    reconstruction(model, sentences, [torch.from_numpy(np.atleast_2d(each.z)).float() for each in found])


def median_time(action: Callable[[], object]) -> float:
    action()
    return statistics.median(time_once(action) for _ in range(ROUNDS))


def time_once(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def time_all_cores(checkpoint: Checkpoint, hardware: HardwareConfig, sentences: Sentences) -> tuple[float, float]:
    """Return seconds of an evaluation by PyTorch and of a trial, with a process a core."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, get_context("spawn"), start_worker, (checkpoint, sentences)) as pool:
        seconds = []
        for task in (run_pytorch, run_trials):
            list(pool.map(task, [hardware] * cores, [range(1)] * cores))
            began = time.perf_counter()
            list(pool.map(task, [hardware] * EACH * cores, [range(1)] * EACH * cores))
            seconds.append((time.perf_counter() - began) / (EACH * cores))
    return seconds[0], seconds[1]


def start_worker(checkpoint: Checkpoint, sentences: Sentences) -> None:
    limit_threads(1)
    _worker.extend([TrialBench(checkpoint, sentences), checkpoint.build_model(), sentences])


def run_pytorch(hardware: HardwareConfig, seeds: range) -> None:
    evaluate(*_worker[1:])


def run_trials(hardware: HardwareConfig, seeds: range) -> None:
    _worker[0].measure(hardware, seeds)


def time_spice(build: Build, sentences: Sentences, count: int) -> float:
    """Return seconds of a trial in ngspice, of some sentences in proportion to all; compiling and loading left out."""
    some = sentences[:count]
    noises = [draw_noise(build, ids, i) for i, ids in enumerate(some)]
    with tempfile.TemporaryDirectory() as folder, SpiceEngine(save_build(build, Path(folder) / "build")) as engine:
        simulation = Simulation(build, engine)
        began = time.perf_counter()
        latents = simulation.encode(some, noises)
        simulation.read_along(some, latents)
        simulation.speak(latents, 1)
        return (time.perf_counter() - began) * len(sentences) / count


def measure_memory(bench: TrialBench, hardware: HardwareConfig, trials: int) -> float:
    """Print the resident memory after some trials, and return by what it grew from the hundredth to the last."""
    process, sizes = psutil.Process(), []
    few = TrialBench(bench._checkpoint, bench._sentences[:8])
    for part in (range(100), range(100, trials)):
        for start in range(part.start, part.stop, 20):
            few.measure(hardware, range(start, min(start + 20, part.stop)))
        sizes.append(process.memory_info().rss)
    before, after = (size / 2**20 for size in sizes)
    print(f"memory after 100 trials {before:.0f} MiB, after {trials} {after:.0f} MiB: x {after / before:.3f}")
    return after / before


def limit_threads(count: int) -> None:
    torch.set_num_threads(count)
    threadpool_limits(count)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ptb")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--spice-sentences", type=int, default=2)
    parser.add_argument("--memory-trials", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
