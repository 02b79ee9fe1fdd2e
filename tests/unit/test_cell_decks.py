"""Decks of one memristor as text: what a reader is told, and pulses of the area that was asked for."""

import math
import re

import numpy as np
import pytest

from hvae_mnn.circuit.spice.cell_deck import format_cell_deck, format_hysteresis_deck, pulse_edge
from hvae_mnn.circuit.spice.device_library import format_device_library
from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.files import load_hardware

OVERRIDES = (
    "memristor.r_on=4 kohm",
    "memristor.r_off=80 kohm",
    "memristor.window=directional",
    "drive.v_read=30 mV",
    "programming.v_set=0.25 V",
    "programming.read_time=300 ns",
    "array.g_min=14 uS",
    "array.g_max=200 uS",
)


def elements(text: str) -> dict[str, str]:
    """Return the rest of each line by its first word."""
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines() if " " in line}


def pulse_of(line: str) -> list[float]:
    """Return low, high, delay, rise, fall and width of a PULSE source."""
    found = re.search(r"PULSE\(([^)]*)\)", line)
    assert found
    return [float(word) for word in found[1].split()]


def parameters(line: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+)=([-+.\de]+)", line)}


def test_a_cell_deck_says_what_it_is_and_runs_by_itself() -> None:
    text = format_cell_deck(load_hardware("default"))
    header = [line for line in text.splitlines() if line.startswith("*")]
    assert text.startswith("* ")
    assert any("units: volt, ampere, second" in line for line in header)
    assert any("ports:" in line and "conductance" in line for line in header)
    assert [line for line in text.splitlines() if line.startswith(".include")] == [
        ".include ../lib/memristor_dynamic.lib",
        ".include ../lib/device.lib",
    ]
    assert text.endswith("\n.end\n")
    assert ".control" not in text
    assert sum(line.startswith(".tran ") for line in text.splitlines()) == 1
    assert all(len(line) < 500 for line in text.splitlines())


def test_a_cell_deck_has_the_device_of_the_hardware() -> None:
    config = load_hardware("default", OVERRIDES)
    device = parameters(format_device_library(config.dynamic_memristor("a test"), dynamic=True))
    assert (device["r_on"], device["r_off"], device["window"]) == (4e3, 80e3, 1)
    assert parameters(elements(format_cell_deck(config))["Xm"])["x0"] == pytest.approx(
        (80e3 - 1 / 14e-6) / 76e3, rel=1e-12
    )


def test_a_bare_run_sets_half_of_the_way_and_then_reads() -> None:
    config = load_hardware("default", OVERRIDES)
    parts = elements(format_cell_deck(config))
    low, high, delay, rise, fall, flat = pulse_of(parts["Vpulse"])
    assert (low, high, delay) == (0, 0.25, 0)
    width = flat + (rise + fall) / 2  # at half height, so that the area is high * width
    r_0, r_1 = 1 / 14e-6, 1 / 200e-6  # v ln(R_0/R) - i_0 (R_0 - R) = dR K i_off t, i_0 = 1 uA
    whole = (0.25 * math.log(r_0 / r_1) - 1e-6 * (r_0 - r_1)) / (76e3 * 5e-15 * 4e3 / 3e-9**2 * 2e-10)
    assert width == pytest.approx(whole / 2, rel=1e-6)
    assert rise == fall and 0 < rise <= width / 100

    read_low, read_high, start, read_rise, _, read_flat = pulse_of(parts["Vread"])
    assert (read_low, read_high) == (0, 0.03)
    assert start >= rise + flat + fall
    stop = float(parts[".tran"].split()[1])
    assert stop == pytest.approx(start + read_rise + 300e-9, rel=1e-6)
    assert start + read_rise + read_flat > stop


@pytest.mark.parametrize("width", [5e-9, 1e-7, 3e-6, 1e-3, 5e-2])
def test_edges_are_the_hardware_s_and_shorter_in_short_pulses(width: float) -> None:
    config = load_hardware("default", ["timing.edge=2 ns"])
    edge = pulse_edge(width, config)
    assert 0 < edge <= min(2e-9, width / 100)
    assert pulse_edge(1.0, config) == 2e-9


def test_a_loop_deck_is_two_periods_of_a_sine() -> None:
    config = load_hardware("default", OVERRIDES)
    text = format_hysteresis_deck(config.dynamic_memristor("a loop"), 0.125, 0.3, 40.0)
    parts = elements(text)
    offset, amplitude, frequency = (float(word) for word in re.findall(r"SIN\(([^)]*)\)", text)[0].split())
    assert (offset, amplitude, frequency) == (0, 0.3, 40)
    assert parameters(parts["Xm"])["x0"] == 0.125
    step, stop, _, longest = (float(word) for word in parts[".tran"].split())
    assert stop == pytest.approx(2 / 40) and max(step, longest) <= 1 / 40 / 500
    assert {"v(drive)", "v(x)", "i(vdrive)"} == set(parts[".save"].split())


def test_a_device_without_dynamics_has_no_deck() -> None:
    with pytest.raises(HardwareError, match=r"memristor\.model is static, a device without dynamics; a deck"):
        format_cell_deck(load_hardware("rram-wan2022"))


def test_hardware_that_does_not_say_how_to_write() -> None:
    config = load_hardware("default").model_copy(update={"programming": None})
    with pytest.raises(HardwareError, match=r"no section \[programming\]"):
        format_cell_deck(config)


def test_numbers_keep_their_digits() -> None:
    device = load_hardware("default").dynamic_memristor("a loop")
    state = float(np.nextafter(0.3, 1))
    assert parameters(elements(format_hysteresis_deck(device, state, 0.2, 10.0))["Xm"])["x0"] == state
