"""How much faster is write-verify in numpy than cell by cell with an integrator?

Both write the same targets into cells of the same hardware, with the same random numbers and the
same controller, in the same run:

numpy     `TwinCells`: a pulse for all cells is a look-up in a table of the motion at that voltage
plain     for each cell and pulse `scipy.integrate.solve_ivp` on eq. 9 written with `math`

The plain way is run on a sample of the cells, and the time of its pulses alone is multiplied out;
that of numpy is all of it, random numbers and controller included. Sampled cells must take the
same number of pulses, 95 of 100 at least, and end at the same conductance both ways. The script
ends with an error if they do not, or if numpy takes more than a minute for a million cells.

    python benchmarks/programming_speed.py [--cells N] [--plain-cells N] [--hardware PRESET] [--seed N]
"""

import argparse
import math
import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from hvae_mnn.circuit.programming import REACHED, Draws, TwinCells, Written, write_verify
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.memristors import AistMemristor

Array = NDArray[np.float64]

GOAL = 60e-6  # seconds a cell
AGREEMENT = 1e-4  # of the conductance range


def main() -> None:
    options = parse_options()
    config = load_hardware(options.hardware, [f"device.seed={options.seed}"])
    span = config.array.g_max - config.array.g_min
    targets = np.random.default_rng(options.seed).uniform(config.array.g_min, config.array.g_max, options.cells)

    began = time.perf_counter()
    draws = Draws([("benchmark", options.cells, None)], config)
    written = write_verify(
        TwinCells(draws.start_states(config), config.dynamic_memristor("this")), targets, draws, config
    )
    seconds = time.perf_counter() - began

    chosen = np.arange(min(options.plain_cells, options.cells))
    draws = Draws([("benchmark", options.cells, chosen)], config)
    bank = PlainCells(draws.start_states(config), config.dynamic_memristor("this"))
    plain = write_verify(bank, targets[chosen], draws, config)
    plain_seconds = bank.seconds * options.cells / len(chosen)

    report(written, config, span)
    print(f"\n{'way':<34}{'seconds':>10}{'cells/s':>12}{'ratio':>9}")
    for name, took in ((f"plain ({len(chosen)} cells run)", plain_seconds), ("numpy", seconds)):
        print(f"{name:<34}{took:>10.1f}{options.cells / took:>12.0f}{f'1/{plain_seconds / took:.0f}':>9}")
    compare(written, plain, chosen, span)
    if seconds > GOAL * max(options.cells, 100_000):
        sys.exit(f"numpy takes {1e6 * seconds / options.cells:.0f} s for a million cells; the goal is {1e6 * GOAL:.0f}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time write-verify in numpy against cell by cell with solve_ivp.")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--plain-cells", type=int, default=100, help="cells that the plain way writes")
    parser.add_argument("--hardware", default="default", help="preset or file")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def report(written: Written, config: HardwareConfig, span: float) -> None:
    """Print how well the cells were written."""
    error = np.abs(written.g - written.g_target) / span
    print(f"{len(error):,} cells, memristor of {config.memristor.r_on:g} to {config.memristor.r_off:g} ohm")
    print(f"within 1 % of the range {100 * np.mean(error <= 0.01):.4f} %, largest error {100 * error.max():.2f} %")
    pulses = written.pulses
    print(f"pulses: mean {pulses.mean():.2f}, 99th percentile {np.percentile(pulses, 99):.0f}, most {pulses.max()}")
    print(f"reached {np.count_nonzero(written.status == REACHED):,}, {written.energy.sum() / len(error):.2e} J a cell")


def compare(written: Written, plain: Written, chosen: NDArray[np.int64], span: float) -> None:
    """End the script if the two ways disagree; a read at the very edge of the tolerance may fall to either side."""
    same = written.pulses[chosen] == plain.pulses
    largest = np.abs(written.g[chosen] - plain.g)[same].max(initial=0) / span
    count = np.count_nonzero(same)
    print(f"equal pulse counts in {count} of {len(chosen)} cells; largest difference {largest:.1e} of the range")
    if count < 0.95 * len(chosen) or largest > AGREEMENT:
        sys.exit("the two ways disagree")


class PlainCells:
    """A CellBank as one would write it first: a loop over cells, an integrator for each pulse."""

    def __init__(self, states: Array, memristor: AistMemristor) -> None:
        self.seconds = 0.0
        self._states = states.tolist()
        self._memristor = memristor

    def read(self) -> Array:
        """Return the conductances, siemens."""
        return np.array([1 / self._resistance(x) for x in self._states])

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        """Give each cell a pulse; return energies, joule."""
        began, energy = time.perf_counter(), np.zeros(len(volts))
        for cell, (v, width, rate) in enumerate(zip(volts.tolist(), widths.tolist(), rates.tolist(), strict=True)):
            if v != 0:
                self._states[cell], energy[cell] = self._integrate(self._states[cell], v, width, rate)
        self.seconds += time.perf_counter() - began
        return energy

    def _integrate(self, x: float, v: float, width: float, rate: float) -> tuple[float, float]:
        def motion(_: float, y: Array) -> tuple[float, float]:
            state = min(max(float(y[0]), 0.0), 1.0)
            return rate * self._rate(state, v), 1e9 * v * v / self._resistance(state)

        found = solve_ivp(motion, (0, width), [x, 0], "LSODA", rtol=1e-8, atol=1e-10)
        return min(max(float(found.y[0, -1]), 0.0), 1.0), float(found.y[1, -1]) / 1e9

    def _resistance(self, x: float) -> float:
        return self._memristor.r_on * x + self._memristor.r_off * (1 - x)

    def _rate(self, x: float, v: float) -> float:
        m, i = self._memristor, v / self._resistance(x)
        both = 1 - (2 * x - 1) ** (2 * m.window_p)
        if v > m.v_set:
            window = 1 - x ** (2 * m.window_p) if m.window == "directional" else max(both, m.window_floor * (1 - x))
            over = i - m.i_0
            drive = m.i_off / ((over + math.hypot(over, m.pole_width * m.i_0)) / 2 + 1e-6 * m.i_0)
            ramp = min((v - m.v_set) / m.v_soft, 1.0)
        elif v < m.v_reset:
            window = 1 - (1 - x) ** (2 * m.window_p) if m.window == "directional" else max(both, m.window_floor * x)
            drive = i / m.i_on
            ramp = min((m.v_reset - v) / m.v_soft, 1.0)
        else:
            return 0.0
        return m.mobility * m.r_on / m.thickness**2 * drive * window * ramp * ramp * (3 - 2 * ramp)


if __name__ == "__main__":
    main()
