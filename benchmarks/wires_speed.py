"""How fast is a crossbar with wires solved, against badcrossbar and against ngspice?

All ways run on one BLAS thread in the same run, and must agree; goals are on the ratios.

one tile      one input on a 128 x 128 tile: `solve_ports` and a read against badcrossbar; with
              `--ngspice` against ngspice's `op` of the same tile written out as resistors, whose
              time, for --size 128, is one to three minutes
many inputs   160 inputs on 96 x 256, against one call of badcrossbar
further read  a read of a tile that is solved already, against numpy's `g.T @ v`
layer         all tiles of a layer of 769 rows and 4 gates of 256 columns, 64 x 64, two row lines
              a row: seconds and peak memory

badcrossbar is asked for the columns' currents alone. It and `solve_ports` take turns; medians count.
The script ends with an error if two ways disagree or a goal is missed.

    python benchmarks/wires_speed.py [--ngspice] [--size N] [--rounds N]
"""

# ruff: noqa: E402 (numpy reads the number of threads when it is loaded)

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.wires import RowLines, solve_ports

with warnings.catch_warnings(record=True):  # that its plots cannot be had
    import badcrossbar

Array = NDArray[np.float64]

R_WIRE = 1.0  # ohm
G_RANGE = (10e-6, 200e-6)  # siemens
TOLERANCE = 1e-10  # of the largest current
NGSPICE_TOLERANCE = 1e-6
GOALS = {"one tile": 2, "one tile, ngspice": 500, "many inputs": 5, "further read": 3}
LAYER_SECONDS, LAYER_BYTES = 60, 4e9
LAYER_ROWS, LAYER_COLUMNS, TILE = 769, 4 * 256, 64


def main() -> None:
    options = parse_options()
    logging.disable(logging.INFO)  # badcrossbar reports its progress
    rng = np.random.default_rng(0)
    missed = [
        *time_layer(rng),  # first, for the peak of memory is its own
        *compare_one_tile(rng, options.size, options.rounds, options.ngspice),
        *compare_many_inputs(rng, options.rounds),
        *compare_further_read(rng, options.size),
    ]
    if missed:
        sys.exit("missed: " + ", ".join(missed))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the exact solution of crossbars with wires.")
    parser.add_argument("--ngspice", action="store_true", help="compare one tile with ngspice as well (minutes)")
    parser.add_argument("--size", type=int, default=128, help="rows and columns of the one tile (128)")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each way (7)")
    return parser.parse_args()


def compare_one_tile(rng: np.random.Generator, size: int, rounds: int, with_ngspice: bool) -> list[str]:
    """Compare one input on one tile; return the goals missed."""
    g, volts = draw_g(rng, (size, size)), rng.uniform(-0.1, 0.1, (size, 1))
    ours, theirs = take_turns(rounds, lambda: solve_and_read(g, volts), lambda: run_badcrossbar(g, volts))
    missed = report("one tile", f"{size} x {size}, badcrossbar", theirs, ours)
    if with_ngspice:
        began = time.perf_counter()
        currents, seconds = run_ngspice(g, volts[:, 0])
        print(f"{'':<14}ngspice took {seconds:.1f} s, {time.perf_counter() - began:.1f} s with writing the deck")
        check_equal(solve_and_read(g, volts)[0], currents, NGSPICE_TOLERANCE)
        missed += report("one tile, ngspice", f"{size} x {size}, ngspice op", seconds, ours)
    return missed


def compare_many_inputs(rng: np.random.Generator, rounds: int) -> list[str]:
    """Compare 160 inputs on one array; return the goals missed."""
    g, volts = draw_g(rng, (96, 256)), rng.uniform(-0.1, 0.1, (96, 160))
    ours, theirs = take_turns(rounds, lambda: solve_and_read(g, volts), lambda: run_badcrossbar(g, volts))
    return report("many inputs", "160 on 96 x 256, badcrossbar", theirs, ours)


def compare_further_read(rng: np.random.Generator, size: int) -> list[str]:
    """Compare a read of a solved tile with a product without wires; return the goals missed."""
    g, volts = draw_g(rng, (size, size)), rng.uniform(-0.1, 0.1, size)
    transfer = solve_ports([RowLines(1, g)], R_WIRE, 0.0).transfer
    reads = [[time_of(read) for _ in range(2000)] for read in (lambda: volts @ transfer, lambda: g.T @ volts)]
    ours, theirs = (float(np.median(times)) for times in reads)
    print(f"{'further read':<14}{f'{size} x {size}, g.T @ v':<34}{theirs:>11.2e} s{ours:>11.2e} s{theirs / ours:>9.1f}")
    return [] if ours <= GOALS["further read"] * theirs else ["further read"]


def time_layer(rng: np.random.Generator) -> list[str]:
    """Solve all tiles of a layer and print the table's head; return the goals missed."""
    before, began, tiles = peak_memory(), time.perf_counter(), []
    for top in range(0, LAYER_ROWS, TILE):
        for _ in range(0, LAYER_COLUMNS, TILE):
            shape = (min(TILE, LAYER_ROWS - top), TILE)
            lines = (RowLines(1, np.full(shape, np.mean(G_RANGE))), RowLines(-1, draw_g(rng, shape)))
            tiles.append(solve_ports(lines, R_WIRE, 0.0))
    seconds, after = time.perf_counter() - began, peak_memory()
    print(
        f"layer: {LAYER_ROWS} x {LAYER_COLUMNS} in {len(tiles)} tiles, all kept: {seconds:.1f} s (goal {LAYER_SECONDS})"
    )
    print(f"peak memory: {after / 1e6:.0f} MB, of them {before / 1e6:.0f} before (goal {LAYER_BYTES / 1e6:.0f})\n")
    print(f"{'':<14}{'against':<34}{'theirs':>13}{'ours':>13}{'ratio':>9}")
    return [] if seconds <= LAYER_SECONDS and after <= LAYER_BYTES else ["layer"]


def draw_g(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.uniform(*G_RANGE, shape)


def solve_and_read(g: Array, volts: Array) -> Array:
    return volts.T @ solve_ports([RowLines(1, g)], R_WIRE, 0.0).transfer


def run_badcrossbar(g: Array, volts: Array) -> Array:
    answer = badcrossbar.compute(volts, 1 / g, R_WIRE, node_voltages=False, all_currents=False)
    return np.asarray(answer.currents.output)


def take_turns(rounds: int, ours: Callable[[], Array], theirs: Callable[[], Array]) -> tuple[float, float]:
    """Return the median seconds of both, and compare what they return."""
    check_equal(ours(), theirs(), TOLERANCE)  # not timed: the first call of either loads its libraries
    times = [(time_of(ours), time_of(theirs)) for _ in range(rounds)]
    own, other = np.median(times, axis=0)
    return float(own), float(other)


def time_of(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def check_equal(found: Array, expected: Array, tolerance: float) -> None:
    """End the script if two answers differ by more than a part of the largest."""
    worst = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"{'':<14}largest difference of a current: {worst:.1e} of the largest")
    if not worst <= tolerance:
        sys.exit(f"the two ways disagree by more than {tolerance:g}")


def report(goal: str, what: str, theirs: float, ours: float) -> list[str]:
    """Print a row; return the goal if it is missed."""
    ratio, name = theirs / ours, goal.split(",")[0]
    print(f"{name:<14}{what:<34}{theirs:>11.4f} s{ours:>11.4f} s{ratio:>9.1f} (goal {GOALS[goal]})", flush=True)
    return [] if ratio >= GOALS[goal] else [goal]


def run_ngspice(g: Array, volts: Array) -> tuple[Array, float]:
    """Return the columns' currents from ngspice, and the seconds the whole process took."""
    with tempfile.TemporaryDirectory() as folder:
        deck = Path(folder, "tile.cir")
        deck.write_text("\n".join(emit_deck(g, volts)) + "\n")
        began = time.perf_counter()
        done = subprocess.run(["ngspice", "-b", str(deck)], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
    found = dict(line.split(" = ") for line in done.stdout.splitlines() if line.startswith("i(vc"))
    return np.array([[float(found[f"i(vc{k})"]) for k in range(g.shape[1])]]), seconds


def emit_deck(g: Array, volts: Array) -> Iterator[str]:
    """Yield a tile as plain resistors between sources, columns at 0 V."""
    rows, columns = g.shape
    yield "tile"
    yield ".options reltol=1e-6 abstol=1e-15 vntol=1e-12 gmin=1e-18"
    for j in range(rows):
        yield f"Vr{j} p{j}_in 0 {volts[j]:.17g}"
        for k in range(columns):
            yield f"Rp{j}_{k} p{j}_{k - 1 if k else 'in'} p{j}_{k} {R_WIRE:.17g}"
            yield f"Rg{j}_{k} p{j}_{k} b{j}_{k} {1 / g[j, k]:.17g}"
            yield f"Rb{j}_{k} b{j}_{k} {f'b{j + 1}_{k}' if j + 1 < rows else f'c{k}'} {R_WIRE:.17g}"
    yield from (f"Vc{k} c{k} 0 0" for k in range(columns))
    yield from (".control", "op", "set numdgt=12")
    yield from (f"print i(vc{k})" for k in range(columns))
    yield from ("quit 0", ".endc", ".end")


def peak_memory() -> int:
    """Return the most memory this process has held so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
