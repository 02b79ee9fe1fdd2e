"""One memristor by itself to SPICE text: written pulse by pulse, or under a sine."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.spice.device_library import DEVICE_LIBRARY
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.memristors import DynamicMemristor

Array = NDArray[np.float64]


def format_cell_deck(config: HardwareConfig) -> str:
    """Return a deck of one memristor, to be pulsed and then read.

    The cell hangs from its pulse source, which stands on the read source; that one is 0 V while a
    pulse runs. A bare run sets the cell from g_min half of the way to g_max, and reads it.

    Args:
        config: The hardware, with an AIST memristor and `programming`.
    """
    return "\n".join(_emit_cell_deck(config)) + "\n.end\n"


def format_hysteresis_deck(memristor: DynamicMemristor, state: float, amplitude: float, frequency: float) -> str:
    """Return a deck: a cell from a state, 0..1, through two periods of a sine, volt and hertz.

    Saved are `v(drive)`, the terminal voltage, `i(vdrive)`, minus the device's current, and `v(x)`, its state.
    """
    period = 1 / frequency
    lines = (
        f"* memristor under a sine of {amplitude:g} V and {frequency:g} Hz",
        "* units: volt, ampere, second; x is the state, 0..1",
        *_emit_includes(memristor),
        *emit_cell_options(),
        f"Vdrive drive 0 SIN(0 {amplitude:.17g} {frequency:.17g})",
        f"Xm drive 0 x {memristor.model} x0={state:.17g}",
        ".save v(drive) v(x) i(vdrive)",
        f".tran {period / 1000:.9g} {2 * period:.9g} 0 {period / 1000:.9g}",
    )
    return "\n".join(lines) + "\n.end\n"


def emit_cell_options() -> Iterator[str]:
    """Yield tolerances that follow a state to some 1e-6."""
    yield ".options reltol=1e-8 trtol=1 abstol=1e-18 vntol=1e-12 gmin=1e-15"


def _emit_includes(memristor: DynamicMemristor) -> Iterator[str]:
    for name in (memristor.library, DEVICE_LIBRARY):
        yield f".include ../lib/{name}.lib"


def pulse_edge(width: float, config: HardwareConfig) -> float:
    """Return the rise and fall time of a pulse, second: the hardware's, but no more than 1e-5 of its width."""
    return min(config.timing.edge, 1e-5 * width)


def _emit_cell_deck(config: HardwareConfig) -> Iterator[str]:
    memristor, pulses = config.dynamic_memristor("a deck of a cell"), config.write_pulses()
    low, high = np.array([config.array.g_min]), np.array([config.array.g_max])
    width = float(memristor.time_between(low, high, pulses.v_set)[0]) / 2
    edge, read_edge = pulse_edge(width, config), pulse_edge(pulses.read_time, config)
    start = width + edge + read_edge
    stop = start + read_edge + pulses.read_time
    yield "* one memristor with its pulse source on a read source"
    yield "* units: volt, ampere, second; v(x) is the state, 0..1"
    yield "* ports: vpulse the pulse, vread the read; conductance = -i(vpulse) / v(drive) at the end"
    yield from _emit_includes(memristor)
    yield from emit_cell_options()
    yield f"Vread read 0 PULSE(0 {config.drive.v_read:.17g} {start:.9g} {read_edge:.9g} {read_edge:.9g} {2 * stop:.9g})"
    yield f"Vpulse drive read PULSE(0 {pulses.v_set:.17g} 0 {edge:.9g} {edge:.9g} {width - edge:.9g})"
    yield f"Xm drive 0 x {memristor.model} x0={float(memristor.state(low)[0]):.17g}"
    yield ".save v(drive) v(x) i(vpulse)"
    yield f".tran {stop / 100:.9g} {stop:.9g} 0 {stop / 50:.9g}"
    yield ".print tran v(drive) v(x) i(vpulse)"
