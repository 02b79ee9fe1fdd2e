"""States and conductances, signs and shapes; the motion itself is in tests/references/test_memristor_twin.py."""

import numpy as np
import pytest

from hvae_mnn.circuit.pulse_response import PulseResponse
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.memristors import AistMemristor

WINDOWS = ["memristor.window=paper", "memristor.window=directional"]


def memristor(*overrides: str) -> AistMemristor:
    return load_hardware("default", overrides).dynamic_memristor("a test")


def test_a_state_is_a_part_of_the_resistance() -> None:
    """R = 5 kohm x + 100 kohm (1 - x)."""
    x = np.array([0.0, 0.2, 0.5, 0.99, 1.0])
    g = np.array([1 / 100e3, 1 / 81e3, 1 / 52.5e3, 1 / 5950, 1 / 5e3])
    np.testing.assert_allclose(memristor().conductance(x), g, rtol=1e-12)
    np.testing.assert_allclose(memristor().state(g), x, rtol=0, atol=1e-12)


def test_rates_broadcast_and_point_the_right_way() -> None:
    rates = memristor().rate(np.array([[0.2], [0.7]]), np.array([0.2, 0.05, -0.5]))
    assert rates.shape == (2, 3)
    assert (np.sign(rates) == [[1, 0, -1], [1, 0, -1]]).all()
    assert memristor().rate(0.5, 0.2).shape == ()


def test_beyond_the_ends_a_state_counts_as_at_the_end() -> None:
    device = memristor()
    for v in (0.2, -0.5):
        assert (device.rate(np.array([-0.1, 1.1]), v) == device.rate(np.array([0.0, 1.0]), v)).all()


def test_the_threshold_sets_in_over_its_width() -> None:
    """The cubic step is 1/2 at half of v_soft and 1 at its end, where the current is that of its voltage."""
    device = memristor("memristor.v_soft=4 mV")
    low, half, full, twice = device.rate(0.5, np.array([-0.1, -0.102, -0.104, -0.208]))
    assert low == 0
    assert half / full == pytest.approx(0.5 * 0.102 / 0.104, rel=1e-9)
    assert twice / full == pytest.approx(2, rel=1e-9)


def test_closed_form_times_broadcast_add_up_and_have_a_direction() -> None:
    g = np.array([12e-6, 40e-6, 160e-6])
    for v in (0.2, -0.5):
        there = memristor().time_between(g[:, None], g, v)
        assert there.shape == (3, 3)
        np.testing.assert_allclose(there, -there.T, rtol=1e-12, atol=1e-18)
        assert there[0, 2] == pytest.approx(there[0, 1] + there[1, 2], rel=1e-12)
        assert (there[0, 1] > 0) == (v > 0)
    both = memristor().time_between(g[0], g[1], np.array([0.2, -0.5]))
    assert both[0] > 0 > both[1]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("v", [0.2, -0.5])
def test_two_pulses_are_one_of_their_length(v: float, window: str) -> None:
    response = PulseResponse(v, memristor(window))
    rng = np.random.default_rng(0)
    x, first, second = rng.uniform(0, 1, 1000), rng.uniform(0, 5e-3, 1000), rng.uniform(0, 5e-3, 1000)
    middle = response.move(x, first)
    end = response.move(middle, second)
    np.testing.assert_allclose(response.move(x, first + second), end, rtol=0, atol=1e-10)
    joules = response.energy(x, middle, first) + response.energy(middle, end, second)
    np.testing.assert_allclose(response.energy(x, end, first + second), joules, rtol=1e-4)


@pytest.mark.parametrize("window", [*WINDOWS, "memristor.window_floor=0"])
@pytest.mark.parametrize("v", [0.1005, 0.2, -0.5])
def test_no_pulse_leads_back_and_none_moves_nothing(v: float, window: str) -> None:
    response = PulseResponse(v, memristor(window))
    x = np.concatenate([[0, 1e-300, 1e-20], np.linspace(1e-3, 1 - 1e-3, 997), [1 - 1e-9, 1 - 1e-15, 1]])
    for duration in (1e-12, 1e-7, 1e-3, 1e3):
        moved = response.move(x, np.full(x.shape, duration))
        assert ((moved - x) * v >= 0).all()
        assert (np.diff(moved) >= 0).all()
        assert moved.min() >= 0 and moved.max() <= 1
        assert (response.energy(x, moved, np.full(x.shape, duration)) > 0).all()
    assert (response.move(x, np.zeros(x.shape)) == x).all()


def test_a_state_outside_its_range_is_taken_as_the_end() -> None:
    """state_of(1 / r_off) may be -1e-17."""
    for v in (0.2, -0.5, 0.05):
        response, time = PulseResponse(v, memristor()), np.full(2, 1e-3)
        assert (response.move(np.array([-1e-9, 1 + 1e-9]), time) == response.move(np.array([0.0, 1.0]), time)).all()
