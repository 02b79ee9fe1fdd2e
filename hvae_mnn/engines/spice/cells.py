"""SpiceCells: memristors in ngspice that can be pulsed and read, spread over worker processes."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.spice.cell_deck import format_cell_deck, pulse_edge
from hvae_mnn.circuit.spice.device_library import DEVICE_LIBRARY, format_device_library
from hvae_mnn.engines.spice.cell_worker import Pulse
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.memristors import DynamicMemristor
from hvae_mnn.runtime.resources import netlists_folder
from hvae_mnn.runtime.workers import WorkerPool, core_count

Array = NDArray[np.float64]

_FACTORY = "hvae_mnn.engines.spice.cell_worker:CellWorker"


class SpiceCells:
    """A CellBank (`hvae_mnn.circuit.programming`) in ngspice.

    All cells take their turns in one deck of one memristor, from their own states and with their own
    speeds: a deck of many cells takes longer for each of them, since every cell then follows the time
    points of all pulses.
    """

    def __init__(self, folder: Path, states: Array, config: HardwareConfig, workers: int | None = None) -> None:
        """Write the deck, start the workers and load it.

        Args:
            folder: Where `decks/` and `lib/` shall be.
            states: States at the start, 0..1, (cells,).
            config: The hardware, with an AIST memristor and `programming`.
            workers: ngspice processes; one a core if None.

        Raises:
            EngineError: ngspice is missing, too old, or refuses the deck.
        """
        self._config = config
        self.states = np.array(states, dtype=np.float64)
        self._conductances: Array | None = None
        _write_decks(folder, {"cell": format_cell_deck(config)}, config.dynamic_memristor("a deck of a cell"))
        self._pool = WorkerPool(_FACTORY, max(1, min(workers or core_count(), len(states))))
        try:
            self._pool.call("load", [(str((folder / "decks").resolve()), "cell.cir")] * self._pool.size)
        except BaseException:
            self.close()
            raise

    def read(self) -> Array:
        """Return what the latest reads measured: conductances, siemens, (cells,).

        Raises:
            EngineError: ngspice failed.
        """
        if self._conductances is None:
            self._conductances = np.empty_like(self.states)
            idle = np.zeros_like(self.states)
            self._run(np.arange(len(idle)), idle, idle, idle)
        return self._conductances.copy()

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        """Give each cell a pulse and read it; return the pulses' energies, joule, (cells,).

        Args:
            volts: Amplitudes, volt, (cells,); 0 leaves a cell alone.
            widths: Lengths, second, (cells,).
            rates: Factors on the speed of each cell's state, (cells,).

        Raises:
            EngineError: ngspice failed.
        """
        self.read()
        return self._run(np.flatnonzero(volts), volts, widths, rates)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def __enter__(self) -> "SpiceCells":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, cells: NDArray[np.int64], volts: Array, widths: Array, rates: Array) -> Array:
        """Run some cells, dealt out over the workers."""
        assert self._conductances is not None
        energy = np.zeros_like(self.states)
        dealt = [cells[worker :: self._pool.size] for worker in range(self._pool.size)]
        calls = [(self._pulses(part, volts, widths, rates),) if part.size else None for part in dealt]
        for part, answers in zip(dealt, self._pool.call("pulse", calls), strict=True):
            if part.size:
                self.states[part], self._conductances[part], energy[part] = np.array(answers).T
        return energy

    def _pulses(self, cells: Iterable[int], volts: Array, widths: Array, rates: Array) -> list[Pulse]:
        read_time, v_read = self._config.write_pulses().read_time, self._config.drive.v_read
        read_edge = pulse_edge(read_time, self._config)
        return [
            Pulse(
                state=float(self.states[cell]),
                volts=float(volts[cell]),
                width=float(widths[cell]) or read_time,
                edge=pulse_edge(float(widths[cell]) or read_time, self._config),
                rate=float(rates[cell]),
                v_read=v_read,
                read_edge=read_edge,
                read_time=read_time,
            )
            for cell in cells
        ]


def trace_decks(folder: Path, decks: Mapping[str, str], memristor: DynamicMemristor) -> dict[str, dict[str, Array]]:
    """Run decks as they are.

    Args:
        folder: Where `decks/` and `lib/` shall be.
        decks: SPICE text by name.
        memristor: The device in them.

    Returns:
        For each deck `time` and every saved vector, each (points,).

    Raises:
        EngineError: ngspice failed.
    """
    _write_decks(folder, decks, memristor)
    pool = WorkerPool(_FACTORY, 1)
    traces: dict[str, dict[str, Array]] = {}
    try:
        for name in decks:
            pool.call("load", [(str((folder / "decks").resolve()), f"{name}.cir")])
            traces[name] = pool.call("trace", [()])[0]
    finally:
        pool.close()
    return traces


def _write_decks(folder: Path, decks: Mapping[str, str], memristor: DynamicMemristor) -> None:
    for name in ("decks", "lib"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(netlists_folder() / f"{memristor.library}.lib", folder / "lib" / f"{memristor.library}.lib")
    library = format_device_library(memristor, dynamic=True)
    (folder / "lib" / f"{DEVICE_LIBRARY}.lib").write_text(library, encoding="utf-8")
    for name, text in decks.items():
        (folder / "decks" / f"{name}.cir").write_text(text, encoding="utf-8")
