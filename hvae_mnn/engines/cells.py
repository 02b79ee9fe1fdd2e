"""SpiceCells: memristors in ngspice that can be pulsed and read, spread over worker processes."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.cell_decks import format_cell_deck, pulse_edge
from hvae_mnn.engines.cell_worker import Pulses
from hvae_mnn.engines.pool import WorkerPool
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.resources import netlists_folder

Array = NDArray[np.float64]

_FACTORY = "hvae_mnn.engines.cell_worker:CellWorker"


class SpiceCells:
    """A CellBank (`hvae_mnn.physics.programming`) in ngspice, some cells a deck."""

    def __init__(
        self, folder: Path, states: Array, config: HardwareConfig, workers: int | None = None, cells_per_deck: int = 16
    ) -> None:
        """Write the decks, start the workers and load them.

        Args:
            folder: Where `decks/` and `lib/` shall be.
            states: States at the start, 0..1, (cells,).
            config: The hardware, with an AIST memristor and `programming`.
            workers: ngspice processes; one a core if None.
            cells_per_deck: Cells in each deck.

        Raises:
            EngineError: ngspice is missing, too old, or refuses a deck.
        """
        self._config, self._count = config, len(states)
        self._decks = [slice(i, min(i + cells_per_deck, self._count)) for i in range(0, self._count, cells_per_deck)]
        decks = {
            f"cells_{i}": format_cell_deck(states[part], f"cells {part.start} to {part.stop - 1}", config)
            for i, part in enumerate(self._decks)
        }
        self._conductances: Array | None = None
        self.states = np.array(states, dtype=np.float64)
        self._pool = _load_decks(folder, decks, min(workers or os.cpu_count() or 1, len(decks)))

    def read(self) -> Array:
        """Return what the latest read measured: conductances, siemens, (cells,).

        Raises:
            EngineError: ngspice failed.
        """
        if self._conductances is None:
            self._conductances = np.empty(self._count)
            idle = np.zeros(self._count)
            self._run(range(len(self._decks)), idle, idle + 1e-9, idle + 1)
        return self._conductances.copy()

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        """Give each cell a pulse and read it; return the pulses' energies, joule, (cells,).

        Raises:
            EngineError: ngspice failed.
        """
        self.read()
        busy = [i for i, part in enumerate(self._decks) if np.any(volts[part] != 0)]
        return self._run(busy, volts, widths, rates)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def __enter__(self) -> "SpiceCells":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, decks: "range | list[int]", volts: Array, widths: Array, rates: Array) -> Array:
        """Run some decks, one a worker at a time."""
        assert self._conductances is not None
        energy = np.zeros(self._count)
        for together in _deal(decks, self._pool.size):
            calls: list[tuple[int, Pulses] | None] = [None] * self._pool.size
            for worker, deck in together.items():
                calls[worker] = (deck // self._pool.size, self._pulses(self._decks[deck], volts, widths, rates))
            answers = self._pool.call("pulse", calls)
            for worker, deck in together.items():
                part = self._decks[deck]
                self.states[part], self._conductances[part], energy[part] = answers[worker]
        return np.where(volts != 0, energy, 0.0)

    def _pulses(self, part: slice, volts: Array, widths: Array, rates: Array) -> Pulses:
        read_time = self._config.write_pulses().read_time
        given = np.where(volts[part] != 0, widths[part], read_time)
        edges = np.array([pulse_edge(width, self._config) for width in given.tolist()])
        read_edge = pulse_edge(read_time, self._config)
        return Pulses(volts[part], given, edges, rates[part], self._config.drive.v_read, read_edge, read_time)


def trace_decks(folder: Path, decks: Mapping[str, str]) -> dict[str, dict[str, Array]]:
    """Run decks of single cells as they are.

    Args:
        folder: Where `decks/` and `lib/` shall be.
        decks: SPICE text by name.

    Returns:
        For each deck `time` and every saved vector, each (points,).

    Raises:
        EngineError: ngspice failed.
    """
    pool = _load_decks(folder, decks, 1)
    try:
        return {name: pool.call("trace", [(i,)])[0] for i, name in enumerate(decks)}
    finally:
        pool.close()


def _load_decks(folder: Path, decks: Mapping[str, str], workers: int) -> WorkerPool:
    """Write decks and their library, and load them in new workers, dealt out one after another."""
    for name in ("decks", "lib"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(netlists_folder() / "memristor_dynamic.lib", folder / "lib" / "memristor_dynamic.lib")
    names = []
    for name, text in decks.items():
        names.append(f"{name}.cir")
        (folder / "decks" / names[-1]).write_text(text, encoding="utf-8")
    pool = WorkerPool(_FACTORY, workers)
    try:
        loads: list[tuple[Any, ...] | None] = [
            (str((folder / "decks").resolve()), names[worker::workers]) for worker in range(workers)
        ]
        pool.call("load", loads)
    except BaseException:
        pool.close()
        raise
    return pool


def _deal(decks: "range | list[int]", workers: int) -> Iterator[dict[int, int]]:
    """Yield which deck each worker runs next; a deck is held by the worker of its number."""
    waiting = {worker: [deck for deck in decks if deck % workers == worker] for worker in range(workers)}
    while any(waiting.values()):
        yield {worker: held.pop(0) for worker, held in waiting.items() if held}
