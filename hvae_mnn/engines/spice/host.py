"""Many decks, an ngspice each. Runs in a worker process, which forks one process a deck and reads them in turn.

Forks share the interpreter and the library, so that a deck costs little more than its circuit.
"""

import gc
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.engines.base import DeckSource, ReadCycle
from hvae_mnn.engines.spice.worker import SpiceWorker
from hvae_mnn.runtime.workers import Fork

Array = NDArray[np.float64]


class SpiceHost:
    """The decks of one worker."""

    def __init__(self) -> None:
        self._worker = SpiceWorker()  # has no deck; the forks are copies of it
        self._forks: dict[int, Fork] = {}
        self._loaded = 0
        gc.collect()
        gc.freeze()

    def describe(self) -> dict[str, str | bool]:
        """Return version, extensions and library of ngspice."""
        return self._worker.describe()

    def load(self, folder: str, decks: Sequence[DeckSource], full_wires: bool, how: ReadCycle) -> list[int]:
        """Load decks of a Build, each into an ngspice of its own; return their numbers."""
        numbers = []
        for deck in decks:
            fork = Fork(self._worker, self._forks.values())
            self._forks[self._loaded] = fork
            fork.call("load", folder, deck, full_wires, how)
            numbers.append(self._loaded)
            self._loaded += 1
        return numbers

    def release(self, numbers: Sequence[int]) -> None:
        """End decks and free their memory."""
        for number in numbers:
            self._forks.pop(number).close()

    def read(self, jobs: Sequence[tuple[int, Array, Array | None]]) -> list[tuple[Array, Array]]:
        """Read decks one after another: number, codes and noise as in `SpiceWorker.read`."""
        return [self._forks[number].call("read", codes, noise) for number, codes, noise in jobs]

    def cycle(
        self, number: int, codes: Array, noise: Array | None, keep: bool
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Run one read cycle of a deck in time, as `SpiceWorker.cycle`."""
        found: tuple[Array, Array, dict[str, Array]] = self._forks[number].call("cycle", codes, noise, keep)
        return found

    def states(self) -> dict[int, dict[str, float]]:
        """Return the states of dynamic memristors that moved, by deck number."""
        return {number: fork.call("states") for number, fork in self._forks.items()}

    def restore(self, number: int, states: dict[str, float]) -> None:
        """Let a deck's dynamic memristors go on from states."""
        self._forks[number].call("restore", states)

    def pids(self) -> dict[int, int]:
        """Return the process numbers of the forks, by deck number."""
        return {number: fork.pid for number, fork in self._forks.items()}
