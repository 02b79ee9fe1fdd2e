"""Memristors by themselves to SPICE text: cells to be written pulse by pulse, and one under a sine.

Names say which cell: `Vp_7` is the pulse source of cell 7, `Xm_7` the memristor, `x7` its state.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.decks import format_memristor
from hvae_mnn.hardware import AistMemristor, HardwareConfig
from hvae_mnn.physics.memristor import closed_form_time

Array = NDArray[np.float64]

_REPLAY = 20
"""A bare run replays one pulse of this part of the way from end to end."""


def format_cell_deck(states: Array, title: str, config: HardwareConfig) -> str:
    """Return a deck of independent cells.

    Each cell hangs from its own pulse source, and all pulse sources stand on a common read
    source, which is 0 V while pulses run. A bare run gives the even cells a SET pulse and the
    odd ones a RESET pulse, and reads them all.

    Args:
        states: States at the start, 0..1, (cells,).
        title: What the cells are.
        config: The hardware, with an AIST memristor and `programming`.
    """
    return "\n".join(_emit_cell_deck(states, title, config)) + "\n.end\n"


def format_hysteresis_deck(memristor: AistMemristor, state: float, amplitude: float, frequency: float) -> str:
    """Return a deck: a cell from a state, 0..1, through two periods of a sine, volt and hertz.

    Saved are `v(drive)`, the terminal voltage, `i(vdrive)`, minus the device's current, and `v(x)`, its state.
    """
    period = 1 / frequency
    lines = (
        f"* memristor under a sine of {amplitude:g} V and {frequency:g} Hz",
        "* units: volt, ampere, second; x is the state, 0..1",
        ".include ../lib/memristor_dynamic.lib",
        *emit_cell_options(),
        f"Vdrive drive 0 SIN(0 {amplitude:.17g} {frequency:.17g})",
        f"Xm drive 0 x memristor_dynamic {format_memristor(memristor, state)}",
        ".save v(drive) v(x) i(vdrive)",
        f".tran {period / 1000:.9g} {2 * period:.9g} 0 {period / 1000:.9g}",
    )
    return "\n".join(lines) + "\n.end\n"


def emit_cell_options() -> Iterator[str]:
    """Yield tolerances that follow a state to some 1e-6."""
    yield ".options reltol=1e-8 trtol=1 chgtol=1e-8 abstol=1e-15 vntol=1e-9 gmin=1e-15"


def pulse_edge(width: float, config: HardwareConfig) -> float:
    """Return the rise and fall time of a pulse, second: the hardware's, or 1/1000 of a short pulse."""
    return min(config.timing.edge, width / 1000)


def _emit_cell_deck(states: Array, title: str, config: HardwareConfig) -> Iterator[str]:
    memristor, pulses = config.aist("a deck of cells"), config.write_pulses()
    low, high = np.array([config.array.g_min]), np.array([config.array.g_max])
    way_up = float(closed_form_time(low, high, pulses.v_set, memristor)[0]) / _REPLAY
    way_down = float(closed_form_time(high, low, pulses.v_reset, memristor)[0]) / _REPLAY
    edge = pulse_edge(pulses.read_time, config)
    start = max(way_up, way_down) + 2 * edge
    yield f"* {title}: {len(states)} memristors, each with its own pulse source on a common read source"
    yield "* units: volt, ampere, second; v(x<cell>) is the state, 0..1"
    yield "* ports: vp_<cell> pulses, vread the read; conductance = -i(vp_<cell>) / v(d<cell>) at the end"
    yield ".include ../lib/memristor_dynamic.lib"
    yield from emit_cell_options()
    yield f"Vread read 0 PULSE(0 {config.drive.v_read:.17g} {start:.9g} {edge:.9g} {edge:.9g} {pulses.read_time:.9g})"
    for cell, state in enumerate(states.tolist()):
        volts, width = (pulses.v_set, way_up) if cell % 2 == 0 else (pulses.v_reset, way_down)
        yield f"Vp_{cell} d{cell} read PULSE(0 {volts:.17g} 0 {edge:.9g} {edge:.9g} {width - edge:.9g})"
        yield f"Xm_{cell} d{cell} 0 x{cell} memristor_dynamic {format_memristor(memristor, state)}"
        yield f".save v(d{cell}) v(x{cell}) i(vp_{cell})"
    stop = start + edge + pulses.read_time
    yield f".tran {stop / 200:.9g} {stop:.9g} 0 {stop / 100:.9g}"
    yield ".print tran " + " ".join(f"v(x{cell})" for cell in range(len(states)))
