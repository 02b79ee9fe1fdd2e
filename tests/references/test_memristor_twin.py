"""The numpy twin of the memristor against scipy's integrator and the closed forms of eq. 9.

The references below are written out from the equations and import nothing of the package.
"""

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from hvae_mnn.circuit.programming import TwinCells
from hvae_mnn.circuit.pulse_response import PulseResponse
from hvae_mnn.hardware.memristors import AistMemristor

SET_A = {
    "r_on": 5e3,
    "r_off": 100e3,
    "v_set": 0.1,
    "v_reset": -0.1,
    "mobility": 5e-15,
    "thickness": 3e-9,
    "i_0": 1e-6,
    "i_off": 2e-10,
    "i_on": 1.0,
    "window": "paper",
    "window_p": 10,
    "window_floor": 0.01,
    "v_soft": 2e-3,
    "pole_width": 0.02,
}
FAST = SET_A | {"mobility": 5e-11}
LOW_G = SET_A | {"r_on": 50e3, "r_off": 1e6, "i_0": 1e-7, "i_off": 2e-12}
OTHER = {  # nothing as in Set A, no two values alike
    "r_on": 3e3,
    "r_off": 70e3,
    "v_set": 0.3,
    "v_reset": -0.2,
    "mobility": 2e-14,
    "thickness": 5e-9,
    "i_0": 2.5e-6,
    "i_off": 7e-10,
    "i_on": 1.7,
    "window": "paper",
    "window_p": 3,
    "window_floor": 0.05,
    "v_soft": 0.01,
    "pole_width": 0.1,
}
WINDOWS = [{"window": "paper"}, {"window": "paper", "window_floor": 0.0}, {"window": "directional"}]
WINDOW_NAMES = ["paper", "paper without floor", "directional"]
STATES = (0.0, 1e-6, 3e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9997, 1 - 1e-6, 1.0)


def resistance(x, d):
    return d["r_on"] * x + d["r_off"] * (1 - x)


def reference_rate(x, v, d):
    """dx/dt of eq. 9: SET K i_off/(i - i_0) f above v_set, RESET K i/i_on f below v_reset."""
    x = min(max(x, 0.0), 1.0)
    k = d["mobility"] * d["r_on"] / d["thickness"] ** 2
    i = v / resistance(x, d)
    p = 2 * d["window_p"]
    both = 1 - (2 * x - 1) ** p
    if v > d["v_set"]:
        u = min((v - d["v_set"]) / d["v_soft"], 1.0)
        f = 1 - x**p if d["window"] == "directional" else max(both, d["window_floor"] * (1 - x))
        distance = i - d["i_0"]
        h = (distance + math.hypot(distance, d["pole_width"] * d["i_0"])) / 2 + 1e-6 * d["i_0"]
        return k * d["i_off"] / h * f * (3 * u**2 - 2 * u**3)
    if v < d["v_reset"]:
        u = min((d["v_reset"] - v) / d["v_soft"], 1.0)
        f = 1 - (1 - x) ** p if d["window"] == "directional" else max(both, d["window_floor"] * x)
        return k * i / d["i_on"] * f * (3 * u**2 - 2 * u**3)
    return 0.0


def integrate(x, v, times, d):
    """States and energies at some times, by scipy; energy in units of v^2/r_off times the longest time."""
    unit = v * v / d["r_off"] * times[-1]

    def motion(_, y):
        return [reference_rate(y[0], v, d), v * v / resistance(min(max(y[0], 0), 1), d) / unit]

    found = solve_ivp(motion, (0, times[-1]), [x, 0], "LSODA", times, rtol=1e-10, atol=1e-13, max_step=times[-1] / 40)
    assert found.success
    return np.clip(found.y[0], 0, 1), found.y[1] * unit


def crossing_time(v, d):
    """About how long a voltage takes from end to end: the longest of x/(dx/dt) at some x."""
    return max(1 / abs(reference_rate(x, v, d)) for x in (0.05, 0.5, 0.95))


def resistance_after_set(r_0, v, t, d):
    """Solve v ln(R/R_0) - i_0 (R - R_0) = -dR K i_off t by bisection: the left side grows with R."""
    k = d["mobility"] * d["r_on"] / d["thickness"] ** 2
    low, high = d["r_on"] / 10, r_0
    for _ in range(200):
        r = (low + high) / 2
        if v * math.log(r / r_0) - d["i_0"] * (r - r_0) > -(d["r_off"] - d["r_on"]) * k * d["i_off"] * t:
            high = r
        else:
            low = r
    return r


def state(r, d):
    return (d["r_off"] - r) / (d["r_off"] - d["r_on"])


@pytest.mark.parametrize("window", WINDOWS, ids=WINDOW_NAMES)
@pytest.mark.parametrize("device", [SET_A, OTHER], ids=["set A", "other"])
def test_the_rate_is_equation_9(device, window):
    d = device | window
    x = np.array([-0.1, *STATES, 1.2])
    v = np.array([-2, -0.3, -0.203, -0.1005, -0.05, 0, 0.05, 0.1, 0.1005, 0.15, 0.301, 0.305, 1])
    found = AistMemristor(**d).rate(x[:, None], v)
    expected = [[reference_rate(each, volts, d) for volts in v.tolist()] for each in x.tolist()]
    assert np.count_nonzero(found) > 50
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("window", WINDOWS, ids=WINDOW_NAMES)
@pytest.mark.parametrize("v", [0.1011, 0.2, 1.0, -0.1011, -0.5, -2.0])
def test_a_pulse_moves_a_state_as_the_equation_does(v, window):
    """From end to end of the range, for short pulses and for those that reach the other end."""
    d = SET_A | window
    times = crossing_time(v, d) * np.array([1e-4, 0.01, 0.1, 0.4, 1.0, 3.0])
    response = PulseResponse(v, AistMemristor(**d))
    for x in STATES:
        expected, joules = integrate(x, v, times, d)
        found = response.move(np.full(times.shape, x), times)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        np.testing.assert_allclose(response.energy(np.full(times.shape, x), found, times), joules, rtol=1e-4)


def test_a_pulse_in_another_device():
    """Nothing about the tables is particular to Set A."""
    for v in (0.305, 0.31, 0.8, -0.205, -0.7):
        times = crossing_time(v, OTHER) * np.array([0.01, 0.3, 2.0])
        for x in STATES:
            found = PulseResponse(v, AistMemristor(**OTHER)).move(np.full(3, x), times)
            np.testing.assert_allclose(found, integrate(x, v, times, OTHER)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("x", [1e-12, 1e-100, 1e-290])
def test_leaving_the_very_ends_takes_its_logarithmic_time(x):
    """Without a floor x' = 4p c x near x = 0: from x to 1e-6 takes ln(1e-6/x)/(4p c).

    c = K i_off/(i - i_0) with i - i_0 = 1 uA, larger by 1e-4 for the smoothed pole.
    """
    d = SET_A | {"window_floor": 0.0}
    c = d["mobility"] * d["r_on"] / d["thickness"] ** 2 * d["i_off"] / (1e-6 * (1 + 1e-4))
    way = math.log(1e-6 / x)
    start, time = np.array([x]), np.array([way / (40 * c)])
    response = PulseResponse(0.2, AistMemristor(**d))
    found = response.move(start, time)
    assert math.log(found[0] / x) == pytest.approx(way, abs=1e-3)
    assert response.energy(start, found, time)[0] == pytest.approx(0.04 / 100e3 * time[0], rel=1e-4)


@pytest.mark.parametrize("window", WINDOWS, ids=WINDOW_NAMES)
def test_a_reset_without_end_approaches_its_end_exponentially(window):
    """x' = -c n x near x = 0, c = K |v|/(r_off i_on), n = 4p or, direction-aware, 2p."""
    d = SET_A | window
    c = d["mobility"] * d["r_on"] / d["thickness"] ** 2 * 0.5 / 100e3
    n = 20 if d["window"] == "directional" else 40
    start, time = np.array([1e-5]), np.array([200 / (n * c)])
    response = PulseResponse(-0.5, AistMemristor(**d))
    found = response.move(start, time)
    assert math.log(found[0] / 1e-5) == pytest.approx(-200, abs=1e-3)
    assert response.energy(start, found, time)[0] == pytest.approx(0.25 / 100e3 * time[0], rel=1e-4)


# volt and second; SET and RESET in turn, some run into an end
SEQUENCE = [
    (0.2, 3e-3),
    (-0.5, 4e-3),
    (0.15, 5e-3),
    (-1.0, 60e-3),
    (0.5, 20e-3),
    (-0.3, 2e-3),
    (1.0, 200e-3),
    (-0.2, 30e-3),
]


@pytest.mark.parametrize("window", WINDOWS[::2], ids=WINDOW_NAMES[::2])
@pytest.mark.parametrize(("device", "factor"), [(SET_A, 1), (FAST, 1e4), (LOW_G, 1)], ids=["set A", "fast", "low G"])
def test_a_sequence_of_pulses(device, factor, window):
    d = device | window
    starts = np.array([0.02, 0.3, 0.8, 0.98])
    expected, found = starts.copy(), starts.copy()
    for v, width in SEQUENCE:
        before = expected
        expected = np.array([integrate(x, v, np.array([width / factor]), d)[0][0] for x in before.tolist()])
        found = PulseResponse(v, AistMemristor(**d)).move(found, np.full(4, width / factor))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
        assert np.all((expected - before) * v > 0)


def test_scaled_sets_move_alike():
    """Mobility times 1e4 is time divided by 1e4; (10 R, i_0/10, i_off/100) leaves x(t) as it is."""
    x = np.linspace(0, 1, 101)
    for v, width in ((0.2, 1e-3), (-0.5, 3e-3)):
        found = PulseResponse(v, AistMemristor(**SET_A)).move(x, np.full(101, width))
        fast = PulseResponse(v, AistMemristor(**FAST)).move(x, np.full(101, width / 1e4))
        low_g = PulseResponse(v, AistMemristor(**LOW_G)).move(x, np.full(101, width))
        assert np.abs(found - x).max() > 0.05
        np.testing.assert_allclose(fast, found, rtol=0, atol=1e-9)
        np.testing.assert_allclose(low_g, found, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("v", "x", "expected"), [(0.2, 0.3, 0.535824), (-1.0, 0.8, 0.702914)])
def test_a_millisecond_by_the_closed_forms(v, x, expected):
    """Both end states are published with the device's numbers; the closed forms give them again."""
    if v > 0:
        by_hand = state(resistance_after_set(resistance(x, SET_A), v, 1e-3, SET_A), SET_A)
    else:
        k = SET_A["mobility"] * SET_A["r_on"] / SET_A["thickness"] ** 2
        by_hand = state(math.sqrt(resistance(x, SET_A) ** 2 + 2 * 95e3 * k * abs(v) * 1e-3), SET_A)
    assert by_hand == pytest.approx(expected, abs=1e-6)
    device = AistMemristor(**SET_A)
    time = device.time_between(1 / resistance(x, SET_A), 1 / resistance(by_hand, SET_A), v)
    assert time == pytest.approx(1e-3, rel=1e-9)
    found = PulseResponse(v, device).move(np.array([x]), np.array([1e-3]))
    assert found[0] == pytest.approx(expected, abs=2e-5)  # the smoothed pole is 1e-5 of that


@pytest.mark.parametrize(
    ("v", "milliseconds"),
    [
        (0.105, 4.0),
        (0.15, 6.4),
        (0.2, 9.4),
        (0.5, 27),
        (1.0, 52),
        (-0.15, 136),
        (-0.2, 102),
        (-0.5, 39),
        (-1.0, 20),
        (-2.0, 9.4),
    ],
)
def test_times_from_end_to_end(v, milliseconds):
    """x 0.02 <-> 0.98 with the window: the integral dx/(dx/dt), and a table that was read off a time grid."""
    device = AistMemristor(**SET_A)
    start, stop = (0.02, 0.98) if v > 0 else (0.98, 0.02)
    time = quad(lambda x: 1 / reference_rate(x, v, SET_A), start, stop, epsrel=1e-10, limit=200)[0]
    assert PulseResponse(v, device).move(np.array([start]), np.array([time]))[0] == pytest.approx(stop, abs=1e-6)
    assert 0.9 * milliseconds < 1e3 * time < milliseconds
    bare = device.time_between(1 / resistance(start, SET_A), 1 / resistance(stop, SET_A), v)
    without_window = quad(lambda x: 1 / reference_rate(x, v, SET_A | {"window_p": 100_000}), 0.02, 0.98)[0]
    assert bare == pytest.approx(abs(without_window), rel=1e-3)


@pytest.mark.parametrize("window", WINDOWS, ids=WINDOW_NAMES)
@pytest.mark.parametrize("v", [0.0, 0.05, -0.08, 0.1, -0.1])
def test_below_threshold_nothing_moves(v, window):
    device = AistMemristor(**(SET_A | window))
    x = np.array([0, 1e-300, 1e-9, 0.3, 0.99, 1 - 1e-12, 1])
    response = PulseResponse(v, device)
    moved = response.move(x, np.full(7, 1e6))
    assert (moved == x).all()
    expected = [v * v / resistance(each, SET_A) * 1e6 for each in x.tolist()]
    np.testing.assert_allclose(response.energy(x, moved, np.full(7, 1e6)), expected, rtol=1e-12)
    assert (device.rate(x, v) == 0).all()


def test_without_a_floor_the_ends_are_locked():
    x = np.array([0.0, 1.0])
    for v in (0.2, -0.5):
        response = PulseResponse(v, AistMemristor(**(SET_A | {"window_floor": 0.0})))
        assert (response.move(x, np.full(2, 1e3)) == x).all()
        joules = response.energy(x, x, np.full(2, 1e3))
        np.testing.assert_allclose(joules, [v * v / 100e3 * 1e3, v * v / 5e3 * 1e3], rtol=1e-12)


@pytest.mark.parametrize("window", WINDOWS[::2], ids=WINDOW_NAMES[::2])
def test_other_windows_let_go_of_the_ends(window):
    device = AistMemristor(**(SET_A | window))
    for v, x in ((0.2, 0.0), (-0.5, 1.0)):
        response = PulseResponse(v, device)
        time = np.array([crossing_time(v, SET_A)])
        assert abs(response.move(np.array([x]), time)[0] - x) > 0.1
        assert response.move(np.array([1 - x]), 100 * time)[0] == 1 - x  # and hold at the end they drive to
        assert response.move(np.array([x]), 100 * time)[0] == pytest.approx(1 - x, abs=1e-9)


def test_a_rate_of_a_cell_is_a_factor_on_its_mobility():
    """State and energy of a pulse with rates, against a device of another mobility."""
    starts, rates, width = np.array([0.1, 0.4, 0.4, 0.95]), np.array([0.5, 1.7, 0.0, 3.0]), 2e-3
    for v in (0.2, -0.5):
        cells = TwinCells(starts, AistMemristor(**SET_A))
        joules = cells.pulse(np.full(4, v), np.full(4, width), rates)
        for k, (x, rate) in enumerate(zip(starts.tolist(), rates.tolist(), strict=True)):
            d = SET_A | {"mobility": SET_A["mobility"] * rate}
            expected, energy = integrate(x, v, np.array([width]), d)
            assert cells.read()[k] == pytest.approx(1 / resistance(expected[0], SET_A), rel=2e-5)
            assert joules[k] == pytest.approx(energy[0], rel=1e-4)


def test_energy_is_the_integral_of_v_squared_g():
    """A trapezoid over states that scipy gives, and a pulse whose cell stands at its end most of the time."""
    for v, x, width in ((0.2, 0.1, 5e-3), (-0.5, 0.97, 30e-3), (0.2, 0.9, 1.0), (-2.0, 0.3, 1.0)):
        times = np.linspace(0, width, 20001)
        states = integrate(x, v, times, SET_A)[0]
        expected = np.trapezoid(v * v / resistance(states, SET_A), times)
        response = PulseResponse(v, AistMemristor(**SET_A))
        moved = response.move(np.array([x]), np.array([width]))
        assert response.energy(np.array([x]), moved, np.array([width]))[0] == pytest.approx(expected, rel=1e-4)
