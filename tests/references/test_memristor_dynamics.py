"""The dynamic memristor in a stock ngspice against eqs. 8 and 9, written out here and integrated by scipy.

Set HVAE_MNN_REFERENCE_CELL to a library with another cell of the same equations, `.subckt aist p n x`, to compare
with it on one deck.
"""

import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from support import complaints, parse_raw, run_ngspice

pytestmark = pytest.mark.ngspice

NETLISTS = Path(__file__).resolve().parents[2] / "netlists"
REFERENCE_CELL = os.environ.get("HVAE_MNN_REFERENCE_CELL")

TIGHT = ".options reltol=1e-6 abstol=1e-14 vntol=1e-9 gmin=1e-15"  # as in the decks of a build
WINDOWS = pytest.mark.parametrize("window", [0, 1], ids=["paper", "directional"])
WHOLE_RANGE = (0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1)

DEFAULTS = {
    "r_on": 5e3,
    "r_off": 100e3,
    "v_set": 0.1,
    "v_reset": -0.1,
    "mobility": 5e-15,
    "thickness": 3e-9,
    "i_0": 1e-6,
    "i_off": 2e-10,
    "i_on": 1.0,
    "window": 0,
    "window_p": 10,
    "window_floor": 0.01,
    "v_soft": 2e-3,
    "pole_width": 0.02,
}


# --- the equations, and scipy ----------------------------------------------------------------------


class Cell(NamedTuple):
    """A memristor, its start, and a resistor between its source and itself (0 for none)."""

    x0: float
    parameters: dict
    r_series: float = 0.0


def cell(x0, r_series=0.0, **changed):
    return Cell(x0, DEFAULTS | changed, r_series)


class Drive(NamedTuple):
    """A source as a line of ngspice says it, as a function of time, and the times at which it bends."""

    source: str
    voltage: Callable[[float], float]
    bends: Sequence[float]


def pwl(*corners):
    times, volts = (np.array(column, float) for column in zip(*corners, strict=True))
    source = "PWL(" + "\n+ ".join(f"{float(t)!r} {float(v)!r}" for t, v in corners) + ")"
    return Drive(source, lambda t: float(np.interp(t, times, volts)), times.tolist())


def pulses(edge, *steps):
    """Return a drive of (volt, second) steps from 0 V and back to it, with linear edges."""
    corners, start = [(0.0, 0.0)], 0.0
    for volt, duration in [*steps, (0.0, edge)]:
        corners += [(start + edge, volt), (start + duration, volt)] if duration > edge else [(start + edge, volt)]
        start += duration
    return pwl(*corners)


def sine(amplitude, frequency, stop):
    quarters = np.arange(0, 4 * frequency * stop + 1) / (4 * frequency)
    source = f"SIN(0 {amplitude!r} {frequency!r})"
    return Drive(source, lambda t: amplitude * math.sin(2 * math.pi * frequency * t), quarters.tolist())


def cubic_step(a):
    a = min(max(a, 0.0), 1.0)
    return a * a * (3 - 2 * a)


def velocity(m, v, x):
    """dx/dt of eq. 9 with a threshold, a pole and windows as the header of the library says."""
    x = min(max(x, 0.0), 1.0)
    rate, two_p = m["mobility"] * m["r_on"] / m["thickness"] ** 2, 2 * m["window_p"]
    i = v / (m["r_on"] * x + m["r_off"] * (1 - x))
    paper = 1 - (2 * x - 1) ** two_p
    if v > 0:
        window = 1 - x**two_p if m["window"] else max(paper, m["window_floor"] * (1 - x))
        from_pole, width = i - m["i_0"], m["pole_width"] * m["i_0"]
        h = (from_pole + math.sqrt(from_pole**2 + width**2)) / 2 + 1e-6 * m["i_0"]
        return rate * window * cubic_step((v - m["v_set"]) / m["v_soft"]) * m["i_off"] / h
    window = 1 - (1 - x) ** two_p if m["window"] else max(paper, m["window_floor"] * x)
    return rate * window * cubic_step((m["v_reset"] - v) / m["v_soft"]) * i / m["i_on"]


def follow(c, drive, times):
    """Return x at rising times: LSODA, anew from each bend of the drive and each end of a threshold's width."""
    times = np.asarray(times)
    found, x = np.full(len(times), float(c.x0)), float(c.x0)
    for start, stop in pairwise(_cuts(c, drive, times[-1])):
        inside = (times > start) & (times <= stop)
        x, found[inside] = _integrate(c, drive, x, start, stop, times[inside])
    return found


def _cuts(c, drive, end):
    m = c.parameters
    levels = (m["v_set"], m["v_set"] + m["v_soft"], m["v_reset"], m["v_reset"] - m["v_soft"])
    bends = sorted({0.0, end, *(t for t in drive.bends if 0 < t < end)})
    cuts = set(bends)
    for start, stop in pairwise(bends):  # a drive is monotonic between bends
        for level in levels:
            first, last = drive.voltage(start) - level, drive.voltage(stop) - level
            if first * last < 0:
                cuts.add(brentq(lambda t, level=level: drive.voltage(t) - level, start, stop, xtol=1e-300, rtol=1e-15))
    return sorted(cuts)


def _integrate(c, drive, x, start, stop, times):
    m, duration = c.parameters, stop - start

    def per_duration(s, state):
        v = drive.voltage(start + s * duration)
        if c.r_series:
            r = m["r_off"] - (m["r_off"] - m["r_on"]) * min(max(state[0], 0.0), 1.0)
            v *= r / (r + c.r_series)
        return [duration * velocity(m, v, state[0])]

    at = np.clip((times - start) / duration, 0, 1)
    # with a divider thresholds are passed at times not known beforehand
    longest = 2e-3 if c.r_series else 0.05
    done = solve_ivp(per_duration, (0, 1), [x], "LSODA", np.union1d(at, [1.0]), rtol=1e-9, atol=1e-11, max_step=longest)
    assert done.success, done.message
    return done.y[0, -1], done.y[0, np.searchsorted(done.t, at)]


def after_reset(x, v, t):
    """R^2 = R_0^2 + 2 dR K |v| t / i_on: eq. 9 away from its window, for the default device."""
    m = DEFAULTS
    dr, rate = m["r_off"] - m["r_on"], m["mobility"] * m["r_on"] / m["thickness"] ** 2
    r_0 = m["r_off"] - dr * x
    return (m["r_off"] - math.sqrt(r_0**2 + 2 * dr * rate * abs(v) * t / m["i_on"])) / dr


def after_set(x, v, t):
    """v ln(R/R_0) - i_0 (R - R_0) = -dR K i_off t."""
    m = DEFAULTS
    dr, rate = m["r_off"] - m["r_on"], m["mobility"] * m["r_on"] / m["thickness"] ** 2
    r_0 = m["r_off"] - dr * x
    short = brentq(
        lambda r: v * math.log(r / r_0) - m["i_0"] * (r - r_0) + dr * rate * m["i_off"] * t, 1.0, r_0, xtol=1e-6
    )
    return (m["r_off"] - short) / dr


# --- ngspice -----------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """Return a function that runs deck lines with the memristor included, to their end and without complaint."""

    def run_lines(*lines, stop=None):
        deck, raw = tmp_path / "deck.cir", tmp_path / "deck.raw"
        raw.unlink(missing_ok=True)
        library = f'.include "{NETLISTS / "memristor_dynamic.lib"}"'
        deck.write_text("\n".join(["* memristors", library, *lines, ".end"]) + "\n")
        printed = run_ngspice(["-r", str(raw), str(deck)])
        assert complaints(printed) == []
        assert "too small" not in printed and "aborted" not in printed
        found = parse_raw(raw.read_bytes())[-1]
        assert stop is None or found["time"][-1] == pytest.approx(stop, rel=1e-6)
        assert all(np.isfinite(vector).all() for vector in found.values())
        return found

    return run_lines


def instance(k, c, node):
    """Return the lines of cell k between a node and ground, its state on node x<k>."""
    named = " ".join(f"{name}={value!r}" for name, value in c.parameters.items())
    if not c.r_series:
        return [f"X{k} {node} 0 x{k} memristor_dynamic x0={c.x0!r} {named}"]
    return [f"R{k} {node} a{k} {c.r_series!r}", f"X{k} a{k} 0 x{k} memristor_dynamic x0={c.x0!r} {named}"]


def run_cells(run, drive, cells, stop, step, options=(), uic=""):
    """Return times and (cell, time) states of cells under one drive."""
    lines = [line for k, c in enumerate(cells) for line in instance(k, c, "a")]
    found = run(*options, f"V1 a 0 {drive.source}", *lines, f".tran {step!r} {stop!r} 0 {step!r} {uic}", stop=stop)
    return found["time"], np.array([found[f"v(x{k})"] for k in range(len(cells))])
