"""Bit planes, drivers and pulses as numbers: what holds for every resolution and every input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.encoding import cycle_inputs, driver, join_cycles, split_cycles
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.timing import (
    ENABLE_STOP,
    PULSE_SHARE,
    PULSE_START,
    RESET_STOP,
    SAMPLE_START,
    SAMPLE_STOP,
    cycles_per_read,
    pulse_ramp,
    pulse_step,
    pulse_ticks,
    pulse_time,
)

Array = NDArray[np.float64]

few = settings(derandomize=True, deadline=None, max_examples=60)
BITS = range(2, 13)
bits = st.integers(2, 12)


def hardware(encoding: str, n: int | None = 8, *overrides: str) -> HardwareConfig:
    resolution = f"dac.bits={'none' if n is None else n}"
    return load_hardware("default", [f"drive.encoding={encoding}", resolution, *overrides])


def all_codes(n: int) -> Array:
    """Return every code of n bits, two columns of different order, (codes, 2)."""
    codes = np.arange(-(2 ** (n - 1)) + 1, 2 ** (n - 1), dtype=np.float64)
    return np.stack([codes, np.roll(codes, 1)], axis=1)


# --- bit planes --------------------------------------------------------------------------


@pytest.mark.parametrize("n", BITS)
def test_planes_are_the_bits_of_the_magnitude_with_the_sign_of_the_code(n: int) -> None:
    codes = all_codes(n)
    planes = split_cycles(codes, hardware("bit-serial", n)).reshape(len(codes), n - 1, 2)
    for code, cycles in zip(codes, planes, strict=True):
        for column in range(2):
            sign = "-" if code[column] < 0 else ""
            highest_first = "".join(str(int(abs(plane))) for plane in cycles[::-1, column])
            assert int(sign + highest_first, 2) == code[column]
            assert set(np.sign(cycles[:, column])) <= {0.0, float(np.sign(code[column]))}


@pytest.mark.parametrize("n", BITS)
def test_joining_undoes_splitting(n: int) -> None:
    config, codes = hardware("bit-serial", n), all_codes(n)
    joined = join_cycles(split_cycles(codes, config), config)
    np.testing.assert_allclose(joined, codes / (2 ** (n - 1) - 1), rtol=0, atol=4e-16)
    np.testing.assert_array_equal(Converter(n).encode(joined), codes)


@few
@given(bits, st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_sentences_cycles_follow_each_other_and_join_linearly(n: int, batch: int, outputs: int, seed: int) -> None:
    """Any linear array between splitting and joining gives what it gives for the whole code."""
    config, rng = hardware("bit-serial", n), np.random.default_rng(seed)
    code_max = 2 ** (n - 1) - 1
    codes = rng.integers(-code_max, code_max + 1, (batch, 3)).astype(np.float64)
    weights = rng.uniform(-1, 1, (3, outputs))
    cycles = split_cycles(codes, config)
    assert cycles.shape == (batch * (n - 1), 3)
    np.testing.assert_allclose(join_cycles(cycles @ weights, config), codes / code_max @ weights, rtol=0, atol=1e-14)


@pytest.mark.parametrize("encoding", ["amplitude", "pulse-width"])
@pytest.mark.parametrize("n", [None, 2, 8])
def test_other_encodings_take_one_cycle(encoding: str, n: int | None) -> None:
    config, values = hardware(encoding, n), np.array([[0.3, -1.0], [0.0, 1.0]])
    assert cycles_per_read(config) == 1
    assert driver(config) == Converter(n)
    for same in (split_cycles, cycle_inputs, join_cycles):
        np.testing.assert_array_equal(same(values, config), values)


@pytest.mark.parametrize("n", BITS)
def test_a_bit_serial_row_has_a_driver_of_one_bit_and_a_sign(n: int) -> None:
    config = hardware("bit-serial", n)
    assert cycles_per_read(config) == n - 1
    assert driver(config).code_max == 1
    codes = all_codes(n)
    cycles = split_cycles(codes, config)
    np.testing.assert_array_equal(driver(config).drive(cycles), cycles)
    np.testing.assert_array_equal(cycle_inputs(codes / (2 ** (n - 1) - 1), config), cycles)


def test_inputs_of_bit_planes_are_rounded_to_codes() -> None:
    """0.49, 0.51, -0.8 and 1.2 of 7 are 3.43, 3.57, -5.6 and 8.4."""
    config = hardware("bit-serial", 4)
    planes = cycle_inputs(np.array([[0.49, 0.51, -0.8, 1.2]]), config)
    assert planes.T.tolist() == [[1, 1, 0], [0, 0, 1], [0, -1, -1], [1, 1, 1]]


# --- pulses ------------------------------------------------------------------------------


def test_phases_follow_each_other() -> None:
    assert 0 < RESET_STOP < PULSE_START < PULSE_START + PULSE_SHARE < SAMPLE_STOP < ENABLE_STOP < 1
    assert 0 < SAMPLE_START < SAMPLE_STOP


@pytest.mark.parametrize("n", BITS)
def test_a_tick_is_a_code(n: int) -> None:
    config = hardware("pulse-width", n, "timing.cycle=5 us")
    assert pulse_ticks(config) == 2 ** (n - 1) - 1
    assert pulse_time(config) == pytest.approx(0.6 * 5e-6, rel=1e-15)


@pytest.mark.parametrize("n", [None, *BITS])
def test_a_ramp_is_a_whole_part_of_a_tick_and_a_small_one_of_full_scale(n: int | None) -> None:
    config = hardware("pulse-width", n)
    parts, ticks = 1 / pulse_ramp(config), pulse_ticks(config)
    assert parts == pytest.approx(round(parts), rel=1e-12)
    assert round(parts) >= 1
    assert pulse_ramp(config) / ticks <= 1 / 96 * (1 + 1e-9)
    if round(parts) > 1:  # no finer than it must be
        assert 1 / (round(parts) - 1) / ticks > 1 / 96
    assert pulse_step(config) == pytest.approx(pulse_time(config) / (ticks * round(parts)), rel=1e-14)


@pytest.mark.parametrize("n", [None, *BITS])
def test_no_pulse_reaches_into_the_reset_or_past_the_sampling_edge(n: int | None) -> None:
    config = hardware("pulse-width", n)
    cycle, half = config.timing.cycle, pulse_step(config) / 2  # a step is a ramp
    assert PULSE_START * cycle - half > RESET_STOP * cycle
    assert PULSE_START * cycle + pulse_time(config) + half < SAMPLE_STOP * cycle


@few
@given(bits, st.floats(-1, 1), st.floats(0, 1), st.integers(1, 3))
def test_even_steps_integrate_a_pulse_of_any_length_exactly(n: int, level: float, phase: float, parts: int) -> None:
    """The shape is that of `netlists/pulse_width.lib`: an edge is a ramp centred on its tick."""
    config = hardware("pulse-width", n)
    ticks, ramp = pulse_ticks(config), pulse_ramp(config)
    tick = pulse_time(config) / ticks
    step = pulse_step(config) / parts
    time = (np.arange(-4 * parts, ticks / ramp * parts + 4 * parts) + phase) * step / tick

    def edge(at: float) -> Array:
        return np.clip((time - at) / ramp + 0.5, 0, 1)

    shape = np.sign(level) * (edge(0) - edge(ticks * abs(level)))
    assert shape[0] == shape[-1] == 0
    assert shape.sum() * step == pytest.approx(level * pulse_time(config), rel=1e-9, abs=1e-12 * pulse_time(config))
