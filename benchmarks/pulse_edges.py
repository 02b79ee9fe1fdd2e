"""How should a deck drive the edges of its pulses?

The same tile of preset `pulse-width` is read by ngspice in two ways, and both must give the column values of the
nodal engine:

shared ticks  as compiled: one ramp of clock ticks, a comparator a row, even time steps
PULSE         a PULSE source a row, which puts time points on its own edges, and ngspice's own step control

Prints time points and seconds of a read, medians of rounds in which both take turns; ends with an error where a
way disagrees by more than 1e-3 of full scale.

    python benchmarks/pulse_edges.py [--model grammar] [--tile encoder1.f.r0c0] [--rounds 5]
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.integrator import solve_pulses
from hvae_mnn.circuit.plan import TilePlan, row_inputs
from hvae_mnn.circuit.spice.tile_deck import format_cycle
from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.spice.binding import Ngspice, load_ngspice
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.timing import PULSE_START, pulse_time

TOLERANCE = 1e-3  # of full scale


def main() -> None:
    options = parse_options()
    hardware = load_hardware("pulse-width")
    with tempfile.TemporaryDirectory() as folder:
        build = save_build(compile_model(open_model(options.model), hardware, "pulse-width"), Path(folder, "build"))
        plan = build.tiles[options.tile].plan
        deck = Path(folder, "build", plan.deck)
        other = deck.with_name("pulse.cir")
        other.write_text(with_pulse_sources(deck.read_text(), build, plan))
        ngspice, decks = load_ngspice(), {"shared ticks": deck, "PULSE": other}
        for path in decks.values():
            ngspice.load(str(path), str(path))
        expected = expected_volts(build, plan)
        times: dict[str, list[float]] = {name: [] for name in decks}
        points = {}
        for _ in range(options.rounds + 1):
            for number, name in enumerate(reversed(decks), 1):  # as `setcirc` counts: the newest first
                seconds, points[name], worst = read(ngspice, number, build, plan, expected)
                times[name].append(seconds)
                if worst > TOLERANCE:
                    sys.exit(f"{name}: {worst:.1e} of full scale from the nodal engine")
    print(f"{options.tile}: {plan.rows} x {plan.columns}\n\n| edges | time points | seconds a read |\n|---|---|---|")
    for name, each in times.items():
        print(f"| {name} | {points[name]} | {np.median(each[1:]):.3f} |")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare two ways to drive the edges of pulses.")
    parser.add_argument("--model", default="grammar", help="a shipped model or a file")
    parser.add_argument("--tile", default="encoder1.f.r0c0")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def with_pulse_sources(text: str, build: Build, plan: TilePlan) -> str:
    """Replace the comparators of a deck by sources with edges of their own."""
    hardware = build.manifest.hardware
    start, length, edge = PULSE_START * hardware.timing.cycle, pulse_time(hardware), hardware.timing.edge
    code_max, period = Converter(hardware.dac.bits).code_max, 2 * hardware.timing.cycle
    lines = [line for line in text.splitlines() if not line.startswith((".options method", "Xdac_"))]
    for i, line in enumerate(lines):
        if found := re.match(r"Xpulse_(\d+) ", line):
            j = found[1]
            code = next(float(each.split()[3]) for each in lines if each.startswith(f"Vcode_{j} "))
            width = max(abs(code) / code_max * length - edge, 0)
            height = np.sign(code) * hardware.drive.v_read
            lines[i] = (
                f"Vp_{j} rp{j} 0 PULSE(0 {height:g} {start:.9g} {edge:g} {edge:g} {width:.9g} {period:g})\n"
                f"En_{j} rn{j} 0 rp{j} 0 -1"
            )
    return "\n".join(lines) + "\n"


def expected_volts(build: Build, plan: TilePlan) -> np.ndarray:
    """Return the nodal engine's column voltages for the vector that the deck replays."""
    hardware, layer = build.manifest.hardware, plan.name.split(".")[0]
    dac = Converter(hardware.dac.bits)
    rows = row_inputs(plan.inputs, dac.encode(build.replay(build.layer(layer))[None]), bias=dac.code_max)
    return solve_pulses(build.tiles[plan.name], hardware).read(dac.decode(rows))[0]


def read(ngspice: Ngspice, number: int, build: Build, plan: TilePlan, expected: np.ndarray) -> tuple[float, int, float]:
    """Run a cycle; return its seconds, its time points and the largest error, full scale."""
    hardware = build.manifest.hardware
    ngspice.run(f"setcirc {number}", plan.name)
    began = time.perf_counter()
    ngspice.run(format_cycle(hardware, hold=False), plan.name)
    seconds = time.perf_counter() - began
    held = np.array([ngspice.vector(f"hold{k}", plan.name)[-1] for k in range(plan.columns)])
    points = len(ngspice.vector("time", plan.name))
    ngspice.run("destroy", plan.name)
    return seconds, points, float(np.abs(held - expected).max() / hardware.adc.v_full_scale)


if __name__ == "__main__":
    main()
