"""Memristors pulsed and read in ngspice against scipy's integrator.

The reference is eqs. 8 and 9 written out for a rectangular pulse; it imports nothing of the package.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support import complaints, run_ngspice, run_ngspice_batch

from hvae_mnn.engines.spice.cells import SpiceCells, trace_decks
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

pytestmark = [pytest.mark.ngspice, pytest.mark.timeout(120)]

R_ON, R_OFF, MOBILITY, THICKNESS = 5e3, 100e3, 5e-15, 3e-9
I_0, I_OFF, I_ON = 1e-6, 2e-10, 1.0
V_SET, V_RESET, V_SOFT, POLE_WIDTH, P, FLOOR = 0.1, -0.1, 2e-3, 0.02, 10, 0.01
ACCURACY = 1e-5
"""Of a state after a pulse."""
WINDOWS = {
    "paper": (),
    "paper-printed": ("memristor.window_floor=0",),
    "directional": ("memristor.window=directional",),
}


def resistance(x):
    return R_ON * x + R_OFF * (1 - x)


def step(u):
    u = min(max(u, 0.0), 1.0)
    return u * u * (3 - 2 * u)


def window(x, up, kind):
    """f(x) for a move towards 1 (`up`) or 0."""
    if kind == "directional":
        return 1 - (x if up else 1 - x) ** (2 * P)
    floor = 0.0 if kind == "paper-printed" else FLOOR
    return max(1 - (2 * x - 1) ** (2 * P), floor * (1 - x if up else x))


def rate_of(x, v, kind):
    """dx/dt, 1/s: K i_off/(i - i_0) f above v_set, K i/i_on f below v_reset."""
    x = min(max(x, 0.0), 1.0)
    i = v / resistance(x)
    k = MOBILITY * R_ON / THICKNESS**2
    if v > 0:
        above = ((i - I_0) + math.hypot(i - I_0, POLE_WIDTH * I_0)) / 2 + 1e-6 * I_0
        return k * I_OFF / above * window(x, True, kind) * step((v - V_SET) / V_SOFT)
    return k * i / I_ON * window(x, False, kind) * step((V_RESET - v) / V_SOFT)


def pulsed(x, v, width, rate=1.0, kind="paper"):
    """State after a rectangular pulse and the energy of it, joule, by scipy."""

    def motion(t, y):
        return [rate * rate_of(y[0], v, kind), v * v / resistance(y[0])]

    done = solve_ivp(motion, (0, width), [x, 0.0], method="LSODA", rtol=1e-11, atol=[1e-13, 1e-26])
    assert done.success
    return done.y[:, -1]


def all_pulsed(states, volts, widths, rates, kind="paper"):
    return np.array([pulsed(*cell, kind) for cell in zip(states, volts, widths, rates, strict=True)]).T


def hardware(kind: str = "paper") -> HardwareConfig:
    return load_hardware("default", WINDOWS[kind])


@pytest.mark.parametrize("kind", WINDOWS)
def test_pulses_of_widely_different_widths_side_by_side(tmp_path, kind):
    states = np.array([0.05, 0.9, 0.3, 0.98, 0.2, 0.6, 0.01, 0.99, 0.4, 0.7, 0.12, 0.95])
    volts = np.array([0.2, -0.5, 0.2, -0.5, 0.2, -0.5, 0.2, -0.5, 1.0, -2.0, 0.105, -0.15])
    widths = np.array([1e-7, 1e-7, 3e-6, 2.4e-6, 2e-4, 1.1e-4, 3.3e-3, 9e-3, 7e-3, 5e-4, 1e-3, 5e-2])
    rates = np.array([1, 1, 0.5, 2, 2, 0.5, 1, 1, 0.5, 2, 1, 1])
    expected, energies = all_pulsed(states, volts, widths, rates, kind)
    with SpiceCells(tmp_path, states, hardware(kind), workers=1) as cells:
        taken = cells.pulse(volts, widths, rates)
        np.testing.assert_allclose(cells.states, expected, rtol=0, atol=ACCURACY)
        np.testing.assert_allclose(cells.states - states, expected - states, rtol=1e-3, atol=1e-10)
        np.testing.assert_allclose(taken, energies, rtol=0.01)
        np.testing.assert_allclose(cells.read(), 1 / resistance(cells.states), rtol=1e-6)
    assert np.all((expected - states) * volts > 1e-6)  # SET up, RESET down


def test_rates_scale_the_speed_and_0_is_stuck(tmp_path):
    rates = np.array([0, 0.5, 1, 2, 0, 0.5, 1, 2])
    states, widths = np.array([0.3] * 4 + [0.8] * 4), np.array([6e-4] * 4 + [2e-3] * 4)
    volts = np.array([0.2] * 4 + [-0.5] * 4)
    expected, energies = all_pulsed(states, volts, widths, rates)
    with SpiceCells(tmp_path, states, hardware(), workers=1) as cells:
        taken = cells.pulse(volts, widths, rates)
        np.testing.assert_allclose(cells.states, expected, rtol=0, atol=ACCURACY)
        np.testing.assert_allclose(cells.states[[0, 4]], states[[0, 4]], rtol=0, atol=1e-12)
        np.testing.assert_allclose(taken, energies, rtol=0.01)
    moved = np.abs(expected - states)
    assert np.all(np.diff(moved[:4]) > 0.02) and np.all(np.diff(moved[4:]) > 0.02)


def test_states_go_on_from_pulse_to_pulse(tmp_path):
    expected = states = np.array([0.2, 0.7, 0.5])
    widths = np.array([[1.5e-3, 4e-3, 1e-4], [6e-3, 5e-7, 2e-3], [2e-4, 3e-3, 3e-3], [5e-4, 1e-3, 1e-6]])
    volts = np.array([[0.2, -0.5, 0.2], [-0.5, 0.2, -0.5], [0.2, -0.5, 0.2], [0.2, 0.2, -0.5]])
    rates = np.array([[1.0, 0.7, 1.3], [0.8, 1.2, 1.0], [1.5, 1.0, 0.4], [1.0, 1.1, 0.9]])
    energies = np.zeros(3)
    with SpiceCells(tmp_path, states, hardware(), workers=1) as cells:
        np.testing.assert_allclose(cells.read(), 1 / resistance(states), rtol=1e-9)
        for round_ in zip(volts, widths, rates, strict=True):
            expected, energy = all_pulsed(expected, *round_)
            energies += energy
            taken = cells.pulse(*round_)
            np.testing.assert_allclose(taken, energy, rtol=0.01)
            np.testing.assert_allclose(cells.states, expected, rtol=0, atol=len(widths) * ACCURACY)
            np.testing.assert_allclose(cells.read(), 1 / resistance(cells.states), rtol=1e-6)
    assert np.abs(expected - states).min() > 0.02


def test_a_cell_without_a_pulse_stays_as_it_is(tmp_path):
    states = np.array([0.123456789012345, 0.5, 0.987654321098765, 0.0, 1.0, 0.25])
    on = np.array([False, True, False, False, False, True])
    with SpiceCells(tmp_path, states, hardware(), workers=1) as cells:
        before = cells.read()
        for _ in range(3):
            taken = cells.pulse(np.where(on, 0.2, 0.0), np.where(on, 2e-4, 0.0), np.ones(6))
        assert np.array_equal(cells.states[~on], states[~on])
        assert np.array_equal(cells.read()[~on], before[~on])
        assert np.array_equal(taken[~on], np.zeros(4))
        assert np.all(cells.states[on] > states[on] + 0.05) and np.all(taken[on] > 0)
        np.testing.assert_allclose(before, 1 / resistance(states), rtol=1e-9)


def test_a_pulse_within_the_thresholds_takes_energy_and_moves_nothing(tmp_path):
    states, volts, widths = np.array([0.2, 0.9, 0.5]), np.array([0.1, -0.1, 0.05]), np.array([1e-6, 1e-3, 5e-2])
    with SpiceCells(tmp_path, states, hardware(), workers=1) as cells:
        taken = cells.pulse(volts, widths, np.ones(3))
        np.testing.assert_array_equal(cells.states, states)
    np.testing.assert_allclose(taken, volts**2 / resistance(states) * widths, rtol=1e-3)


@pytest.mark.parametrize("kind", ["paper", "directional"])
def test_cells_at_the_ends(tmp_path, kind):
    """From exactly 0 and 1, which the window of eq. 9 as printed would never let go."""
    states, volts = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.2, -0.5, -0.5, 0.2])
    widths = np.array([2e-3, 2e-2, 1e-3, 1e-3])
    expected, _ = all_pulsed(states, volts, widths, np.ones(4), kind)
    with SpiceCells(tmp_path, states, hardware(kind), workers=1) as cells:
        cells.pulse(volts, widths, np.ones(4))
        np.testing.assert_allclose(cells.states, expected, rtol=0, atol=ACCURACY)
    np.testing.assert_allclose(expected[2:], states[2:], rtol=0, atol=1e-9)
    assert expected[0] > 0.1 and expected[1] < 0.9


def test_workers_share_the_cells_and_change_nothing(tmp_path):
    states = np.linspace(0.05, 0.95, 7)
    volts, rates = np.array([0.2, -0.5, 0.2, 0.0, 0.2, -0.5, -0.5]), np.array([1, 2, 0.5, 1, 1.5, 1, 0.7])
    widths = np.array([1e-6, 2e-3, 3e-4, 1e-3, 4e-5, 1e-2, 1e-7])
    results = []
    for workers in (1, 2, 3):
        with SpiceCells(tmp_path / str(workers), states, hardware(), workers=workers) as cells:
            taken = [cells.pulse(volts, widths, rates), cells.pulse(-volts, widths, rates)]
            results.append(np.array([*taken, cells.states, cells.read()]))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
    moved = np.abs(results[0][2] - states)
    assert np.all(moved[volts != 0] > 1e-8) and moved[3] == 0


def test_a_deck_by_itself_in_stock_ngspice(tmp_path):
    """Runs as it is from its folder: the state follows the pulse that it shows, and the read is eq. 8."""
    with SpiceCells(tmp_path, np.array([0.4, 0.6]), hardware(), workers=1):
        pass
    folder = tmp_path / "decks"
    decks = sorted(folder.iterdir())
    assert decks and all(deck.suffix == ".cir" for deck in decks)
    for deck in decks:
        printed = run_ngspice([deck.name], folder)
        assert complaints(printed) == []
        assert "v(x)" in printed
        run = run_ngspice_batch(deck, tmp_path)
        time, volts, state = run["time"], run["v(drive)"], run["v(x)"]
        assert volts.max() == pytest.approx(0.2, abs=1e-12) and volts[-1] == pytest.approx(0.05, abs=1e-12)
        on = time[volts > 0.1]
        expected, _ = pulsed(state[0], 0.2, on[-1] - on[0])
        assert abs(expected - state[0]) > 0.1
        assert state[-1] == pytest.approx(expected, abs=ACCURACY)
        assert -run["i(vpulse)"][-1] / volts[-1] == pytest.approx(1 / resistance(state[-1]), rel=1e-9)


def test_decks_are_traced_as_they_are(tmp_path):
    divider = "* divider\nV1 a 0 {volts}\nR1 a b 1k\nR2 b 0 3k\n.tran 1u 10u\n.end\n"
    decks = {"p": divider.format(volts=4), "q": divider.format(volts=8)}
    traces = trace_decks(tmp_path, decks, load_hardware("aist").dynamic_memristor("a test"))
    assert list(traces) == ["p", "q"]
    for name, expected in (("p", 3.0), ("q", 6.0)):
        assert traces[name]["time"][-1] == pytest.approx(1e-5)
        np.testing.assert_allclose(traces[name]["b"], expected, rtol=1e-9)
        assert Path(tmp_path, "decks", f"{name}.cir").read_text() == decks[name]
