"""A memristor by itself: its numbers, its current-voltage loops and its staircase, from ngspice."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.programming import CellBank, TwinCells
from hvae_mnn.circuit.spice.cell_deck import format_hysteresis_deck
from hvae_mnn.engines.spice.cells import SpiceCells, trace_decks
from hvae_mnn.hardware.cells import Programming
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.memristors import DynamicMemristor

Array = NDArray[np.float64]

_FREQUENCIES = (1, 5, 25)
_PULSES = 20
_AMPLITUDE = 3.0


@dataclass(frozen=True, slots=True)
class Loop:
    """A current-voltage loop.

    Attributes:
        frequency: Of the sine, hertz.
        time: Second, (points,), over two periods.
        volts: Terminal voltage, (points,).
        amps: Current, (points,).
        states: State, 0..1, (points,).
    """

    frequency: float
    time: Array
    volts: Array
    amps: Array
    states: Array


@dataclass(frozen=True, slots=True)
class Staircase:
    """Identical SET pulses and then as many RESET pulses, a read after each.

    Attributes:
        width_set: Width of a SET pulse, second.
        width_reset: Width of a RESET pulse, second.
        spice: Conductance at each read in ngspice, siemens, (1 + 2 pulses,).
        numpy: The same by the numpy twin.
    """

    width_set: float
    width_reset: float
    spice: Array
    numpy: Array


@dataclass(frozen=True, slots=True)
class DeviceCurves:
    """What a device does.

    Attributes:
        name: Preset or file.
        config: The hardware it is from.
        set_time: From g_min to g_max at the SET pulse's voltage without the window, second.
        reset_time: From g_max to g_min at the RESET pulse's voltage without the window, second.
        loops: Current-voltage loops, slowest first.
        staircase: Potentiation and depression.
    """

    name: str
    config: HardwareConfig
    set_time: float
    reset_time: float
    loops: tuple[Loop, ...]
    staircase: Staircase

    def to_json(self) -> dict[str, Any]:
        """Return what `device --json` prints, as plain values, SI units."""
        device, pulses, array = self.config.dynamic_memristor("a device"), self.config.write_pulses(), self.config.array
        stairs = self.staircase
        return {
            "hardware_preset": self.name,
            "r_on": device.r_on,
            "r_off": device.r_off,
            "g_min": array.g_min,
            "g_max": array.g_max,
            "v_set": pulses.v_set,
            "v_reset": pulses.v_reset,
            "set_time": self.set_time,
            "reset_time": self.reset_time,
            "v_read": self.config.drive.v_read,
            "threshold": device.threshold,
            "frequencies": [loop.frequency for loop in self.loops],
            "staircase_spice": stairs.spice.tolist(),
            "staircase_numpy": stairs.numpy.tolist(),
        }


def characterise(config: HardwareConfig, name: str) -> DeviceCurves:
    """Measure a device in ngspice.

    Raises:
        HardwareError: It has no dynamics, or `programming` is missing.
        EngineError: ngspice failed.
    """
    device, pulses = config.dynamic_memristor("a characterisation"), config.write_pulses()
    low, high = np.array([config.array.g_min]), np.array([config.array.g_max])
    set_time = float(device.time_between(low, high, pulses.v_set)[0])
    reset_time = float(device.time_between(high, low, pulses.v_reset)[0])
    with tempfile.TemporaryDirectory(prefix="hvae-mnn-") as folder:
        loops = _measure_loops(config, device, Path(folder, "loops"))
        staircase = _measure_staircase(config, device, pulses, (set_time, reset_time), Path(folder, "staircase"))
    return DeviceCurves(name, config, set_time, reset_time, loops, staircase)


def _measure_loops(config: HardwareConfig, device: DynamicMemristor, folder: Path) -> tuple[Loop, ...]:
    """Run a sine at three frequencies; the slowest nearly switches the cell from end to end."""
    amplitude = _AMPLITUDE * device.threshold
    low, high = np.array([config.array.g_min]), np.array([config.array.g_max])
    slowest = 0.5 / max(device.time_between(low, high, amplitude)[0], device.time_between(high, low, -amplitude)[0])
    frequencies = [float(slowest * factor) for factor in _FREQUENCIES]
    state = float(device.state(low)[0])
    decks = {
        f"loop_{i}": format_hysteresis_deck(device, state, amplitude, frequency)
        for i, frequency in enumerate(frequencies)
    }
    traces = trace_decks(folder, decks, device)
    return tuple(
        Loop(frequency, trace["time"], trace["drive"], -trace["vdrive#branch"], trace["x"])
        for frequency, trace in zip(frequencies, traces.values(), strict=True)
    )


def _measure_staircase(
    config: HardwareConfig, device: DynamicMemristor, pulses: Programming, times: tuple[float, float], folder: Path
) -> Staircase:
    widths = (times[0] / _PULSES, times[1] / _PULSES)
    start = device.state(np.array([config.array.g_min]))
    with SpiceCells(folder, start, config, workers=1) as cells:
        spice = _climb(cells, pulses, widths)
    return Staircase(widths[0], widths[1], spice, _climb(TwinCells(start, device), pulses, widths))


def _climb(cells: CellBank, pulses: Programming, widths: tuple[float, float]) -> Array:
    """Return what a cell reads before and after each pulse, siemens, (1 + 2 pulses,)."""
    reads = [cells.read()]
    for volts, width in zip((pulses.v_set, pulses.v_reset), widths, strict=True):
        for _ in range(_PULSES):
            cells.pulse(np.array([volts]), np.array([width]), np.ones(1))
            reads.append(cells.read())
    return np.concatenate(reads)
