"""A resident ngspice that pulses and reads memristors by themselves. Runs in a worker process."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.engines.ngspice import check_version, load_ngspice

Array = NDArray[np.float64]

_CAPACITANCE, _FROZEN = 1e-6, 1e9
"""Capacitance that holds a state and that of a cell without any answer to pulses, farad; it divides the speed."""


@dataclass(frozen=True, slots=True)
class Pulses:
    """One pulse for each cell of a deck, and a read after the longest.

    Attributes:
        volts: Amplitudes, volt, (cells,); 0 for none.
        widths: Lengths at half height, second, (cells,).
        edges: Rise and fall times, second, (cells,).
        rates: Factors on the speed of the state, (cells,).
        v_read: Voltage of the read, volt.
        read_edge: Rise time of the read, second.
        read_time: Length of the read, second.
    """

    volts: Array
    widths: Array
    edges: Array
    rates: Array
    v_read: float
    read_edge: float
    read_time: float


class CellWorker:
    """One ngspice with decks of `hvae_mnn.compiler.cell_decks`."""

    def __init__(self) -> None:
        self._ngspice = load_ngspice()
        check_version(self._ngspice)
        self._paths: list[str] = []

    def load(self, folder: str, names: list[str]) -> None:
        """Load decks: their names in a folder."""
        os.chdir(folder)
        for name in names:
            self._paths.append(str(Path(folder, name)))
            self._ngspice.load(name, self._paths[-1])

    def pulse(self, number: int, pulses: Pulses) -> tuple[Array, Array, Array]:
        """Pulse and read the cells of a deck.

        Returns:
            States after, 0..1, conductances, siemens, and energies, joule, each (cells,).
        """
        path = self._paths[number]
        self._ngspice.select(number, path)
        begin = self._write(pulses, path)
        stop = begin + pulses.read_edge + pulses.read_time
        longest = max(begin, pulses.read_time)
        self._ngspice.run(f"tran {longest / 100:.9g} {stop:.17g} 0 {longest / 50:.9g}", path)
        time = self._ngspice.vector("time", path)
        cells = [self._measure(cell, time, begin, path) for cell in range(len(pulses.volts))]
        self._ngspice.run("destroy", path)
        states, conductances, energies = np.array(cells).T
        return states, conductances, energies

    def trace(self, number: int) -> dict[str, Array]:
        """Run a deck as it is; return `time` and every saved vector, each (points,)."""
        path = self._paths[number]
        self._ngspice.select(number, path)
        self._ngspice.run("run", path)
        signals = {name: self._ngspice.vector(name, path) for name in self._ngspice.saved()}
        self._ngspice.run("destroy", path)
        return signals

    def _write(self, pulses: Pulses, path: str) -> float:
        """Set every source; return when the read begins, second."""
        begin = 0.0
        for cell, (volts, width, edge, rate) in enumerate(
            zip(pulses.volts, pulses.widths, pulses.edges, pulses.rates, strict=True)
        ):
            self._set_pulse(f"vp_{cell}", volts, 0.0, edge, width - edge, path)
            capacitance = _CAPACITANCE / rate if rate > 0 else _FROZEN
            self._ngspice.run(f"alter c.xm_{cell}.c_moved = {capacitance:.17g}", path)
            begin = max(begin, (width + edge) * (volts != 0))
        begin += pulses.read_edge
        self._set_pulse("vread", pulses.v_read, begin, pulses.read_edge, 2 * pulses.read_time, path)
        return begin

    def _set_pulse(self, source: str, volts: float, start: float, edge: float, flat: float, path: str) -> None:
        values = f"0 {volts:.17g} {start:.17g} {edge:.17g} {edge:.17g} {flat:.17g}"
        self._ngspice.run(f"alter @{source}[pulse] = [ {values} ]", path)

    def _measure(self, cell: int, time: Array, begin: float, path: str) -> tuple[float, float, float]:
        """Return a cell's state, conductance and pulse energy; the next pulse starts from that state."""
        state, volts = (self._ngspice.vector(f"{node}{cell}", path) for node in ("x", "d"))
        amps = -self._ngspice.vector(f"vp_{cell}#branch", path)
        if state[-1] != state[0]:
            self._ngspice.run(f"alter i.xm_{cell}.i_start = {state[-1]:.17g}", path)
        pulsed = time <= begin
        energy = np.trapezoid(volts[pulsed] * amps[pulsed], time[pulsed])
        return float(state[-1]), float(amps[-1] / volts[-1]), float(energy)
