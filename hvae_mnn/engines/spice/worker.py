"""A resident ngspice: holds one deck and reads it. Runs in a process of its own.

The deck stays loaded; `alter` writes codes, and each read in the sampling state is one more point of a DC sweep
that is paused between reads. `op` would solve the same, but ngspice builds and orders the matrix anew for every
`op`, which takes most of its time. The sweep raises the sampling clock, whose switches are closed already, so that no
voltage depends on it. An ngspice keeps only one analysis paused, hence a process a deck.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.spice import names
from hvae_mnn.circuit.spice.tile_deck import EVEN_STEPS, FINE_STEPS
from hvae_mnn.engines.base import DeckSource, ReadCycle
from hvae_mnn.engines.spice.binding import check_version, load_ngspice

Array = NDArray[np.float64]

_NEAR = 0.999  # of the limit: where an amplifier counts as saturated
_STATE = re.compile(names.state(r"(\d+)", r"(\d+)"))
_SWEEP = f"dc {names.clock_source(names.CLOCK)} 1 1e12 1".lower()
_PREPARE = ("save none", f"stop when v({names.CLOCK}) > 0")  # keep the last point alone, and pause at each


@dataclass(slots=True)
class Deck:
    """A loaded deck.

    Attributes:
        path: File it came from.
        rows: Number of rows.
        columns: Number of columns.
        bias_rows: Whether each row is a bias row, whose code never changes.
        state_source: Name of the source that holds where a dynamic memristor's state starts, with
            `{row}` and `{column}`; empty where memristors are static.
        noise_sources: Names of the voltage sources that are set anew before each read.
        how: How its cycles are run in time.
        codes: Codes its sources have now; NaN before the first read, (rows,).
        states: States of the dynamic memristors that moved in the last cycle, by cell: the next
            one starts from them. The others stay as they are, since ngspice may read a number
            one unit in the last place away.
        moved: States of all that ever moved, by cell.
    """

    path: str
    rows: int
    columns: int
    bias_rows: NDArray[np.bool_]
    state_source: str
    noise_sources: tuple[str, ...]
    how: ReadCycle
    codes: Array
    states: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)


class SpiceWorker:
    """One ngspice with its deck."""

    def __init__(self) -> None:
        self._ngspice = load_ngspice()
        self._deck: Deck
        self._prepared = self._paused = False  # whether for a sweep, and whether one waits for its next point
        self._places: list[Any] = []  # where a paused sweep leaves codes and held voltages
        self.version = check_version(self._ngspice)
        self.klu = self._ngspice.uses_klu()

    def describe(self) -> dict[str, str | bool]:
        """Return version, extensions and library of this ngspice."""
        return {
            "version": self.version,
            "xspice": bool(self._ngspice.has_xspice),
            "klu": self.klu,
            "library": str(self._ngspice.library_path),
        }

    def load(self, folder: str, deck: DeckSource, full_wires: bool, how: ReadCycle) -> None:
        """Load a deck of a Build.

        A deck with every segment of the wires is solved by KLU where ngspice has it: many times faster there, and
        no gain elsewhere.
        """
        os.chdir(folder)
        path, rows = str(Path(folder, deck.name)), len(deck.bias)
        self._ngspice.load(deck.name, path, klu=full_wires and self.klu)
        codes = np.full(rows, np.nan)
        bias = np.array(deck.bias)
        self._deck = Deck(path, rows, deck.columns, bias, deck.state_source, deck.noise_sources, how, codes)

    def read(self, batch: Array, noise: Array | None) -> tuple[Array, Array]:
        """Read the deck in the sampling state, or at the end of a cycle where time matters.

        Args:
            batch: Codes of its rows, (batch, rows).
            noise: Of its noise sources, volt, (batch, sources); None where it has none.

        Returns:
            ADC codes and the held column voltage, each (batch, columns).
        """
        deck = self._deck
        codes, held = np.empty((len(batch), deck.columns)), np.empty((len(batch), deck.columns))
        for i, row in enumerate(batch):
            self._write(deck, row)
            self._write_noise(deck, None if noise is None else noise[i])
            if deck.how.read is None:
                self._settle(deck)
                ends = np.fromiter((place[0] for place in self._places), np.float64)
                codes[i], held[i] = ends[: deck.columns], ends[deck.columns :]
            else:
                self._run_cycle(deck, deck.how.read)
                codes[i], held[i] = self._ends(deck)
                self._ngspice.run("destroy", deck.path)
        return codes, held

    def cycle(self, codes: Array, noise: Array | None, keep: bool = True) -> tuple[Array, Array, dict[str, Array]]:
        """Run one read cycle of the deck in time (`tran`), from rest.

        Args:
            codes: Codes of its rows, (rows,).
            noise: Of its noise sources, volt, (sources,); None where it has none.
            keep: Whether its waveforms are wanted.

        Returns:
            ADC codes and the held column voltage at the cycle's end, each (columns,); `time`, second, and the nodes
            that are wanted, volt, each (points,), nothing if none are.
        """
        deck = self._deck
        self._write(deck, codes)
        self._write_noise(deck, noise)
        self._carry(deck)
        self._run_cycle(deck, deck.how.command)
        saved = self._ngspice.saved()
        signals = self._waveforms(deck, saved) if keep else {}
        read, held = self._ends(deck)
        if deck.state_source:
            states = {name[1:]: self._ngspice.vector(name, deck.path) for name in saved if _STATE.fullmatch(name)}
            deck.states = {cell: float(x[-1]) for cell, x in states.items() if x[-1] != x[0]}
            deck.moved |= deck.states
        self._ngspice.run("destroy", deck.path)
        return read, held, signals

    def states(self) -> dict[str, float]:
        """Return the states of the dynamic memristors that moved, by cell."""
        return self._deck.moved

    def restore(self, states: dict[str, float]) -> None:
        """Let the dynamic memristors go on from states."""
        self._deck.states, self._deck.moved = dict(states), dict(states)

    def _waveforms(self, deck: Deck, saved: list[str]) -> dict[str, Array]:
        """Return time and the wanted nodes in the deck's order; ngspice names the newest first."""
        nodes = [name for name in reversed(saved) if name != "time" and deck.how.wants(name)]
        signals = {name: self._ngspice.vector(name, deck.path) for name in ("time", *nodes)}
        last = len(signals["time"]) - 1
        points = np.unique(np.append(np.arange(0, last, deck.how.every), last))
        return {name: values[points] for name, values in signals.items()}

    def _ends(self, deck: Deck) -> tuple[Array, Array]:
        """Return codes and held voltages at the end of the current plot, each (columns,)."""
        columns = range(deck.columns)
        codes, held = (
            np.array([self._ngspice.vector(node(k), deck.path)[-1] for k in columns])
            for node in (names.adc, names.hold)
        )
        return codes, held

    def _settle(self, deck: Deck) -> None:
        """Solve the sampling state: one more point of the sweep, or the first of a new one."""
        for command in () if self._prepared else _PREPARE:
            self._ngspice.run(command, deck.path)
        self._prepared = True
        command, self._paused = "resume" if self._paused else _SWEEP, False  # after an error a new sweep starts
        self._ngspice.run(command, deck.path)
        if command == _SWEEP:
            nodes = [node(k) for node in (names.adc, names.hold) for k in range(deck.columns)]
            self._places = self._ngspice.places(nodes, deck.path)
        self._paused = True

    def _run_cycle(self, deck: Deck, command: str) -> None:
        """Run a cycle; one in which an integrator reached its limit again, with steps that its corners decide."""
        self._ngspice.run(command, deck.path)
        limit = deck.how.limit
        if limit is None or max(self._peak(deck, k) for k in range(deck.columns)) < _NEAR * limit:
            return
        self._ngspice.run("destroy", deck.path)
        self._ngspice.run(f"option trtol={FINE_STEPS}", deck.path)
        try:
            self._ngspice.run(command, deck.path)
        finally:
            self._ngspice.run(f"option trtol={EVEN_STEPS}", deck.path)

    def _peak(self, deck: Deck, column: int) -> float:
        return float(np.abs(self._ngspice.vector(names.out(column), deck.path)).max())

    def _write(self, deck: Deck, codes: Array) -> None:
        """Set the code sources that changed."""
        changed = np.flatnonzero((codes != deck.codes) & ~deck.bias_rows)
        deck.codes = np.full(deck.rows, np.nan)  # until all are written
        values = codes[changed].tolist()
        sources = [names.code_source(j).lower() for j in changed.tolist()]
        commands = [f"alter {source} = {code:.17g}" for source, code in zip(sources, values, strict=True)]
        self._ngspice.run_all(commands, deck.path)
        deck.codes = codes

    def _write_noise(self, deck: Deck, noise: Array | None) -> None:
        """Set the noise sources."""
        if noise is None:
            return
        volts = zip(deck.noise_sources, noise.tolist(), strict=True)
        self._ngspice.run_all([f"alter {name} = {volt:.17g}" for name, volt in volts], deck.path)

    def _carry(self, deck: Deck) -> None:
        """Start dynamic memristors from their state of the cycle before."""
        for cell, state in deck.states.items():
            row, column = cell.split("_")
            source = deck.state_source.format(row=row, column=column)
            self._ngspice.run(f"alter {source} = {state:.17g}", deck.path)
