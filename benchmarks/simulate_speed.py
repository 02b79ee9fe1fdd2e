"""How much faster is the spice engine than the plain way to drive ngspice from Python?

Both simulate the same sentence on the same tiles in the same run: a model, the shipped `ptb` unless
another is named, on preset `default`, compiling excluded.

spice engine  decks loaded once into resident ngspice processes; each cycle writes codes,
              runs `op` and reads codes (loading the decks is counted)
plain way     for every tile of every cycle a PySpice `Circuit` built anew from element objects
              (a `circuit.R` for each crosspoint resistor, a `circuit.X` for each converter,
              amplifier and sample-and-hold, from the same .lib files), then
              `simulator.operating_point()`

The plain way is run on a sample, every tile of every layer once at some step of the sentence,
and multiplied out to the sentence's number of cycles; `--full` runs all of them, `--plain-tiles`
only so many tiles of each layer, drawn at random. The column values of both must agree. The script
ends with an error if they do not, or if the engine takes more than 1/20 of the plain way's time.

    python benchmarks/simulate_speed.py [--model ptb] [--sentence "..."] [--workers N] [--full | --plain-tiles N]
"""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySpice.Spice.Netlist import Circuit
from PySpice.Spice.NgSpice.Shared import NgSpiceShared

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.plan import Tile, row_inputs
from hvae_mnn.circuit.spice.tile_deck import library_names
from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.simulation.orchestrator import Simulation
from hvae_mnn.simulation.sentence import draw_noise, read_sentence

Array = NDArray[np.float64]

SENTENCE = "the company said it will sell its shares next year"
TOLERANCE = 1e-4  # of full scale, as between any two engines
GOAL = 20
LIBRARY = "libngspice.so.0"  # what Debian's libngspice0 installs


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        hardware = load_hardware("default")
        build = save_build(compile_model(open_model(options.model), hardware, "default"), Path(folder, "build"))
        print(f"model {options.model}, preset default, {len(build.tiles)} tiles, {build.memristors():,} memristors")
        seconds, simulation = time_engine(build, options.sentence, options.workers)
        plain_seconds = time_plain_way(build, simulation, options.full, options.plain_tiles)
    ratio = plain_seconds / seconds
    print(f"\nspice engine {seconds:10.1f} s\nplain way    {plain_seconds:10.1f} s")
    print(f"ratio        1/{ratio:.0f} (goal: 1/{GOAL} or less)")
    if ratio < GOAL:
        sys.exit(f"the spice engine takes more than 1/{GOAL} of the plain way's time")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the spice engine against plain PySpice.")
    parser.add_argument("--model", default="ptb", help="a shipped model or a file")
    parser.add_argument("--sentence", default=SENTENCE)
    parser.add_argument("--workers", type=int, help="ngspice processes of the engine (as many as cores)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="run the plain way on every cycle, not on a sample")
    size.add_argument("--plain-tiles", type=int, help="tiles of each layer that the plain way reads (all)")
    return parser.parse_args()


def time_engine(build: Build, text: str, workers: int | None) -> tuple[float, Simulation]:
    """Simulate the sentence, loading of decks included."""
    ids = read_sentence(build, text).ids
    began = time.perf_counter()
    with SpiceEngine(build, workers) as engine:
        loaded = time.perf_counter()
        simulation = Simulation(build, engine)
        (outcome,) = simulation.run([ids], [draw_noise(build, ids, seed=0)])
    ended = time.perf_counter()
    print(f'"{text}"\n-> "{build.checkpoint.vocabulary.decode(outcome.tokens)}"')
    print(f"spice engine: decks loaded in {loaded - began:.1f} s, sentence in {ended - loaded:.1f} s")
    return ended - began, simulation


def time_plain_way(build: Build, simulation: Simulation, full: bool, tiles: int | None) -> float:
    """Read the sentence's cycles, or some of each layer's tiles, with circuits built anew; return the time of all."""
    logging.disable(logging.WARNING)  # PySpice warns that it does not know this version of ngspice
    if "{}" in NgSpiceShared.LIBRARY_PATH:  # no NGSPICE_LIBRARY_PATH in the environment
        NgSpiceShared.LIBRARY_PATH = LIBRARY
    total, worst = 0.0, 0.0
    print(f"\n{'layer':<10}{'tiles':>6}{'steps':>7}{'reads':>7}{'of them run':>13}{'s a read':>10}")
    for layer in build.manifest.layers:
        trace = simulation.traces[layer.name]
        steps, times = len(trace.inputs), []
        outputs = list(layer.tile_outputs())
        for number in draw_places(len(outputs), tiles):
            plan, columns = outputs[number]
            for step in range(steps) if full else [number % steps]:
                codes = simulation.engine.dac.encode(trace.inputs[step])
                rows = row_inputs(plan.inputs, codes, bias=simulation.engine.dac.code_max)[0]
                began = time.perf_counter()
                found = plain_read(build, build.tiles[plan.name], rows)
                times.append(time.perf_counter() - began)
                worst = max(worst, float(np.abs(found - trace.analog[step][0, columns]).max()))
        reads = steps * len(layer.tiles)
        total += reads * float(np.mean(times))
        row = f"{layer.name:<10}{len(layer.tiles):>6}{steps:>7}{reads:>7}{len(times):>13}{np.mean(times):>10.2f}"
        print(row, flush=True)
    print(f"largest difference of a column value: {worst:.1e} of full scale")
    if worst > TOLERANCE:
        sys.exit(f"the two ways disagree by more than {TOLERANCE:g} of full scale")
    return total


def draw_places(count: int, wanted: int | None) -> list[int]:
    """Draw that many of some tiles' places, a fixed choice; all if None."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return sorted(np.random.default_rng(0).choice(count, wanted, replace=False).tolist())


def plain_read(build: Build, tile: Tile, codes: Array) -> Array:
    """Build a tile's circuit, solve it and return its columns as fractions of full scale."""
    assert build.folder is not None
    circuit = plain_circuit(build, tile, codes)
    analysis = circuit.simulator(temperature=27, nominal_temperature=27).operating_point()
    volts = np.array([float(analysis[f"hold{k}"][0]) for k in range(tile.plan.columns)])
    return volts / build.manifest.hardware.adc.v_full_scale


def plain_circuit(build: Build, tile: Tile, codes: Array) -> Circuit:
    """Return a `paired` tile in its sampling state, from element objects."""
    config, plan = build.manifest.hardware, tile.plan
    circuit = Circuit(plan.name)
    for name in library_names(config)[:-1]:  # the last is the device: here cells are resistors
        circuit.include(str(build.folder / "lib" / f"{name}.lib"))
    circuit.V("en", "en", circuit.gnd, 1)
    circuit.V("clk", "clk", circuit.gnd, 1)
    dac, adc, amplifier = Converter(config.dac.bits), Converter(config.adc.bits), config.amplifier
    for j, code in enumerate(codes):
        circuit.V(f"code_{j}", f"code{j}", circuit.gnd, float(code))
        nodes = (f"code{j}", "en", f"rp{j}", f"rn{j}")
        circuit.X(f"dac_{j}", "dac", *nodes, code_max=dac.code_max, v_ref=config.drive.v_read)
    for j, k in np.ndindex(tile.g.shape):
        circuit.R(f"s_{j}_{k}", f"rp{j}", f"c{k}", plan.r_s)
        circuit.R(f"m_{j}_{k}", f"rn{j}", f"c{k}", float(1 / tile.g[j, k]))
    for k in range(plan.columns):
        circuit.X(
            f"amp_{k}",
            "transimpedance",
            f"c{k}",
            f"out{k}",
            r_f=plan.r_f,
            gain=amplifier.gain,
            gain_bandwidth=amplifier.gain_bandwidth,
            offset=amplifier.offset,
            v_saturation=amplifier.v_saturation,
        )
        circuit.X(f"hold_{k}", "sample_hold", f"out{k}", f"hold{k}", "clk")
        circuit.X(f"adc_{k}", "adc", f"hold{k}", f"adc{k}", code_max=adc.code_max, v_full_scale=config.adc.v_full_scale)
    return circuit


if __name__ == "__main__":
    main()
