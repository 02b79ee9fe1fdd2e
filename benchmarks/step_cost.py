"""What does one step of the spice engine cost on other hardware than preset `default`?

A step reads every tile of the model once. All variants are loaded in the same run and take turns;
the medians' ratios to `default` count. The script ends with an error if wires reduced to their
ports cost more than 1.5 times the decks without wires.

    python benchmarks/step_cost.py [--model grammar] [--rounds 9] [--workers N]
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware

VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "default": ("default", ()),
    "wires, reduced": ("default", ("array.r_wire=1 ohm",)),
    "converters with errors": ("default", ("dac.inl=0.5", "adc.inl=0.5")),
    "bit-serial": ("bit-serial", ()),
    "pulse-width": ("pulse-width", ()),
}
GOALS = {"wires, reduced": 1.5}


def main() -> None:
    options = parse_options()
    checkpoint = open_model(options.model)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        steps = {}
        for i, (name, (preset, overrides)) in enumerate(VARIANTS.items()):
            hardware = load_hardware(preset, overrides)
            build = save_build(compile_model(checkpoint, hardware, name), folder / str(i))
            steps[name] = (build, stack.enter_context(SpiceEngine(build, options.workers)))
        times: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(options.rounds + 1):  # the first is not counted: ngspice orders its matrices
            for name, (build, engine) in steps.items():
                times[name].append(time_step(build, engine, number))
    report(options.model, len(build.tiles), {name: float(np.median(each[1:])) for name, each in times.items()})


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time steps of the spice engine on several kinds of hardware.")
    parser.add_argument("--model", default="grammar", help="a shipped model or a file")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each variant (9)")
    parser.add_argument("--workers", type=int, help="ngspice processes (as many as cores)")
    return parser.parse_args()


def time_step(build: Build, engine: SpiceEngine, seed: int) -> float:
    """Return the seconds of one step on calibration inputs, which differ from step to step."""
    fractions = {
        layer.name: layer.fractions(_groups(build, layer.name, np.random.default_rng(seed)))
        for layer in build.manifest.layers
    }
    codes = {name: engine.dac.encode(values) for name, values in fractions.items()}
    began = time.perf_counter()
    engine.step(codes)
    return time.perf_counter() - began


def _groups(build: Build, layer: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return one calibration vector of a layer, cut to its groups."""
    samples = build.checkpoint.calibration[layer].astype(np.float64)
    vector, groups = samples[[rng.integers(len(samples))]], build.layer(layer).groups
    edges = np.cumsum([group.size for group in groups])[:-1]
    return dict(zip((group.name for group in groups), np.split(vector, edges, axis=1), strict=True))


def report(model: str, tiles: int, seconds: dict[str, float]) -> None:
    """Print the table; end with an error if a goal is missed."""
    print(f"model {model}, {tiles} tiles\n\n| hardware | seconds a step | ratio |\n|---|---|---|")
    ratios = {name: value / seconds["default"] for name, value in seconds.items()}
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {ratios[name]:.2f} |")
    missed = [f"{name} costs {ratios[name]:.2f} times, goal {goal}" for name, goal in GOALS.items()]
    missed = [line for line, (name, goal) in zip(missed, GOALS.items(), strict=True) if ratios[name] > goal]
    if missed:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
