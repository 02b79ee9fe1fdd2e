"""A resident ngspice that pulses and reads one memristor after another. Runs in a worker process."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.spice import names
from hvae_mnn.engines.spice.binding import check_version, load_ngspice

Array = NDArray[np.float64]

_CAPACITANCE, _FROZEN = 1.0, 1e15
"""Capacitance that holds a state and that of a cell without any answer to pulses, farad; it divides the speed."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A pulse for a cell, and the read after it.

    Attributes:
        state: State before it, 0..1.
        volts: Amplitude, volt; 0 for a read alone.
        width: Length at half height, second.
        edge: Rise and fall time, second.
        rate: Factor on the speed of the state.
        v_read: Voltage of the read, volt.
        read_edge: Rise time of the read, second.
        read_time: Length of the read, second.
    """

    state: float
    volts: float
    width: float
    edge: float
    rate: float
    v_read: float
    read_edge: float
    read_time: float


class CellWorker:
    """One ngspice with decks of `hvae_mnn.circuit.spice.cell_deck`."""

    def __init__(self) -> None:
        self._ngspice = load_ngspice()
        check_version(self._ngspice)
        self._path = ""

    def load(self, folder: str, name: str) -> None:
        """Load a deck: its name in a folder."""
        os.chdir(folder)
        self._path = str(Path(folder, name))
        self._ngspice.load(name, self._path)

    def pulse(self, pulses: list[Pulse]) -> list[tuple[float, float, float]]:
        """Pulse and read cells, all with the one memristor of the deck.

        Returns:
            For each the state after, 0..1, the conductance, siemens, and the pulse's energy, joule.
        """
        return [self._run(pulse) for pulse in pulses]

    def trace(self) -> dict[str, Array]:
        """Run the deck as it is; return `time` and every saved vector, each (points,)."""
        self._ngspice.run("run", self._path)
        signals = {name: self._ngspice.vector(name, self._path) for name in self._ngspice.saved()}
        self._ngspice.run("destroy", self._path)
        return signals

    def _run(self, pulse: Pulse) -> tuple[float, float, float]:
        """Run the pulse and then the read: steps that suit the one would not suit the other."""
        capacitance = _CAPACITANCE / pulse.rate if pulse.rate > 0 else _FROZEN
        self._ngspice.run(f"alter {names.moved_capacitor(names.CELL)} = {capacitance:.17g}", self._path)
        state, energy = pulse.state, 0.0
        if pulse.volts:
            self._set_sources(pulse.volts, 0.0, pulse.edge, pulse.width)
            time, states, volts, amps = self._measure(pulse.state, pulse.width + pulse.edge)
            state, energy = pulse.state + float(states[-1] - states[0]), float(-np.trapezoid(volts * amps, time))
        self._set_sources(0.0, pulse.v_read, pulse.read_edge, 2 * pulse.read_time)
        _, _, volts, amps = self._measure(state, pulse.read_time)
        return state, float(-amps[-1] / volts[-1]), energy

    def _set_sources(self, pulse: float, read: float, edge: float, width: float) -> None:
        for source, volts in (("vpulse", pulse), ("vread", read)):
            values = f"0 {volts:.17g} 0 {edge:.17g} {edge:.17g} {width - edge:.17g}"
            self._ngspice.run(f"alter @{source}[pulse] = [ {values} ]", self._path)

    def _measure(self, state: float, stop: float) -> tuple[Array, ...]:
        """Run from a state; return time, states, terminal voltages and source currents, each (points,)."""
        self._ngspice.run(f"alter {names.state_source(names.CELL)} = {state:.17g}", self._path)
        self._ngspice.run(f"tran {stop / 100:.9g} {stop:.17g} 0 {stop / 50:.9g}", self._path)
        vectors = tuple(self._ngspice.vector(name, self._path) for name in ("time", "x", "drive", "vpulse#branch"))
        self._ngspice.run("destroy", self._path)
        return vectors
