"""A resident ngspice: holds many decks and reads one at a time. Runs in a worker process.

Decks stay loaded; `setcirc` switches between them (ngspice numbers circuits newest first),
`alter` writes codes, `op` or `tran` reads. Every result is dropped from ngspice once read,
so memory stays flat.
"""

import ctypes.util
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cffi import FFI
from numpy.typing import NDArray
from PySpice.Spice.NgSpice.Shared import NgSpiceCommandError, NgSpiceShared

from hvae_mnn.errors import EngineError

Array = NDArray[np.float64]

OLDEST = 39
INSTALL = "sudo apt-get install -y libngspice0"
_LIBRARIES = ("libngspice.so.0", "libngspice.so", "libngspice.dylib", "libngspice.0.dylib")
_STATE = re.compile(r"x\d+_\d+")
_FFI = FFI()  # costs more to make than a vector to read
_HARMLESS = re.compile(r"^(Note:|Warning:|Using (SPARSE|KLU)|\s*$)")


@dataclass(slots=True)
class Deck:
    """A loaded deck.

    Attributes:
        path: File it came from.
        rows: Number of rows.
        columns: Number of columns.
        bias_rows: Whether each row is a bias row, whose code never changes.
        state_source: Name of the source that holds where a dynamic memristor's state starts, with
            `{cell}` for its row and column; empty where memristors are static.
        codes: Codes its sources have now; NaN before the first read, (rows,).
        states: Dynamic memristors' states by cell, carried from cycle to cycle.
    """

    path: str
    rows: int
    columns: int
    bias_rows: NDArray[np.bool_]
    state_source: str
    codes: Array
    states: dict[str, float] = field(default_factory=dict)


class _Ngspice(NgSpiceShared):  # type: ignore[misc]
    """PySpice's binding, with chosen vectors read and harmless messages told from errors."""

    def run(self, command: str, what: str) -> str:
        """Execute a command.

        Raises:
            EngineError: ngspice reported something that is not a note or a warning.
        """
        try:
            return str(self.exec_command(command))
        except (NgSpiceCommandError, NameError) as error:
            said = [*self._stderr, *(line for line in self._stdout if "error" in line.lower())]
            serious = [line.strip() for line in said if not _HARMLESS.match(line)]
            if serious or not isinstance(error, NgSpiceCommandError):
                lines = " | ".join(serious[-4:]) or str(error)
                raise EngineError(f"{what}: ngspice failed at `{command[:60]}`: {lines}") from None
            return str(self.stdout)

    def vector(self, name: str, what: str) -> Array:
        """Return a copy of a vector of the current plot.

        Raises:
            EngineError: There is none of that name.
        """
        info = self._ngspice_shared.ngGet_Vec_Info(name.encode())
        if info == _FFI.NULL or info.v_realdata == _FFI.NULL:
            raise EngineError(f"{what}: ngspice has no result `{name}`; it is not saved or not in the deck")
        return np.frombuffer(memoryview(_FFI.buffer(info.v_realdata, info.v_length * 8)), dtype=np.float64).copy()

    def saved(self) -> list[str]:
        """Return the names of the vectors of the current plot."""
        vectors = self._ngspice_shared.ngSpice_AllVecs(self.last_plot.encode())
        return list(self._convert_string_array(vectors))


class SpiceWorker:
    """One ngspice with its decks."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self._ngspice = _load_library()
        self._decks: list[Deck] = []
        self._current = -1
        self.version = _check_version(self._ngspice)

    def describe(self) -> dict[str, str | bool]:
        """Return version, extensions and library of this ngspice."""
        return {
            "version": self.version,
            "xspice": bool(self._ngspice.has_xspice),
            "klu": self._uses_klu(),
            "library": str(self._ngspice.library_path),
        }

    def load(self, folder: str, decks: list[tuple[str, list[bool], int, str]]) -> None:
        """Load decks of a Build: path in it, which rows are bias rows, number of columns, state source.

        ngspice reads only plain characters in a command, so the folder is entered and not named.
        """
        os.chdir(folder)
        for name, bias, columns, state_source in decks:
            path = str(Path(folder, name))
            if "Circuit:" not in self._ngspice.run(f"source {name}", path):
                raise EngineError(f"{path}: ngspice found no circuit in the deck; compile the build again")
            rows = len(bias)
            deck = Deck(path, rows, columns, np.array(bias), state_source, np.full(rows, np.nan))
            self._decks.append(deck)
        self._current = len(self._decks) - 1

    def read(self, jobs: list[tuple[int, Array]]) -> list[tuple[Array, Array]]:
        """Read decks in the sampling state (`op`).

        Args:
            jobs: Deck number and codes of its rows, (batch, rows).

        Returns:
            For each job ADC codes and the held column voltage, each (batch, columns).
        """
        return [self._read_batch(number, codes) for number, codes in jobs]

    def cycle(self, number: int, codes: Array, duration: float) -> dict[str, Array]:
        """Run one read cycle of a deck in time (`tran`), from rest.

        Args:
            number: Deck number.
            codes: Codes of its rows, (rows,).
            duration: Length of the cycle, second.

        Returns:
            `time`, second, and every saved node, volt, each (points,).
        """
        deck = self._decks[number]
        self._select(number)
        self._write(deck, codes)
        self._carry(deck)
        self._ngspice.run(f"tran {duration / 200:.9g} {duration:.9g} 0 {duration / 100:.9g}", deck.path)
        signals = {name: self._ngspice.vector(name, deck.path) for name in self._ngspice.saved()}
        self._ngspice.run("destroy", deck.path)
        if deck.state_source:
            deck.states = {name[1:]: float(v[-1]) for name, v in signals.items() if _STATE.fullmatch(name)}
        return signals

    def _read_batch(self, number: int, batch: Array) -> tuple[Array, Array]:
        deck = self._decks[number]
        self._select(number)
        codes, held = np.empty((len(batch), deck.columns)), np.empty((len(batch), deck.columns))
        for i, row in enumerate(batch):
            self._write(deck, row)
            self._ngspice.run("op", deck.path)
            codes[i] = [self._ngspice.vector(f"adc{k}", deck.path)[0] for k in range(deck.columns)]
            held[i] = [self._ngspice.vector(f"hold{k}", deck.path)[0] for k in range(deck.columns)]
            self._ngspice.run("destroy", deck.path)
        return codes, held

    def _select(self, number: int) -> None:
        if number != self._current:
            self._ngspice.run(f"setcirc {len(self._decks) - number}", self._decks[number].path)
            self._current = number

    def _write(self, deck: Deck, codes: Array) -> None:
        """Set the code sources that changed."""
        for j in np.flatnonzero((codes != deck.codes) & ~deck.bias_rows):
            self._ngspice.run(f"alter vcode_{j} = {codes[j]:.17g}", deck.path)
        deck.codes = codes

    def _carry(self, deck: Deck) -> None:
        """Start dynamic memristors from their state of the cycle before."""
        for cell, state in deck.states.items():
            self._ngspice.run(f"alter {deck.state_source.format(cell=cell)} = {state:.17g}", deck.path)

    def _uses_klu(self) -> bool:
        """Ask by behaviour: a solver that exists names itself when it runs."""
        for line in ("circbyline klu probe", "circbyline v1 1 0 1", "circbyline r1 1 0 1"):
            self._ngspice.run(line, "KLU probe")
        self._ngspice.run("circbyline .options klu", "KLU probe")
        self._ngspice.run("circbyline .end", "KLU probe")
        said = self._ngspice.run("op", "KLU probe") + " ".join(self._ngspice._stderr)
        self._ngspice.run("remcirc", "KLU probe")
        return "KLU" in said


def _load_library() -> _Ngspice:
    found = ctypes.util.find_library("ngspice")
    for name in (NgSpiceShared.LIBRARY_PATH, found, *_LIBRARIES):
        if not name or "{}" in name:
            continue
        _Ngspice.LIBRARY_PATH = name
        try:
            return _Ngspice()
        except OSError:
            continue
    raise EngineError(f"libngspice was not found; install it with: {INSTALL}")


def _check_version(ngspice: _Ngspice) -> str:
    text = ngspice.run("version -f", "version")
    match = re.search(r"ngspice-(\d+)([\w.+]*)", text)
    if match is None or int(match[1]) < OLDEST:
        found = match[0] if match else "no version"
        raise EngineError(f"libngspice is {found}; expected ngspice-{OLDEST} or newer. Upgrade with: {INSTALL}")
    return match[1] + match[2]
