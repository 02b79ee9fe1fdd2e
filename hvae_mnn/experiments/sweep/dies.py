"""The same sentences on several dies at once: everything digital is done once for all of them.

No number of a die depends, to the last digit, on which others it shares a simulation with: its products have the
shapes that they would have alone, and what is done for all dies at once is done element by element.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import Engine, Reading
from hvae_mnn.simulation.orchestrator import DigitalHalf, Places, Simulation

Array = NDArray[np.float64]
_COLUMNS = ("codes", "analog")
_Step = Callable[[Mapping[str, Array]], dict[str, Reading]]


class DiesSimulation(Simulation):
    """A batch in which each die reads every sentence: first those of the first die, then those of the second."""

    def __init__(self, build: Build, engines: Sequence[Engine], sentences: int, digital: DigitalHalf) -> None:
        """Take an engine a die.

        Args:
            build: The plan that all dies share; their conductances and errors are in the engines.
            engines: One a die.
            sentences: How many sentences each die reads.
            digital: The model's digital half.
        """
        super().__init__(build, engines[0], whole=False, digital=digital)
        self._engines, self._count = engines, sentences

    def _read(self, codes: Mapping[str, Array], sentences: Mapping[str, Places]) -> dict[str, Reading]:
        return self._by_die([engine.step for engine in self._engines], codes, sentences)

    def _exact(self, fractions: Mapping[str, Array], sentences: Mapping[str, Places]) -> dict[str, Reading]:
        return self._by_die([self._digital.exact.step] * len(self._engines), fractions, sentences)

    def _by_die(
        self, steps: Sequence[_Step], values: Mapping[str, Array], sentences: Mapping[str, Places]
    ) -> dict[str, Reading]:
        """Give each die the rows that are its own; join what they answer."""
        firsts = np.arange(len(steps) + 1) * self._count
        edges = {name: np.searchsorted(places, firsts) for name, places in sentences.items()}
        found: dict[str, list[Reading]] = {name: [] for name in values}
        for die, step in enumerate(steps):
            parts = {name: slice(*edges[name][die : die + 2]) for name in values}
            own = {name: values[name][part] for name, part in parts.items() if part.stop > part.start}
            for name, reading in (step(own) if own else {}).items():
                found[name].append(reading)
        return {name: _join(readings) for name, readings in found.items()}


def _join(readings: Sequence[Reading]) -> Reading:
    """Put the rows of readings below each other; their columns lie together in memory."""
    if len(readings) == 1:
        return readings[0]
    codes, analog = (np.concatenate([getattr(each, part).T for each in readings], axis=1).T for part in _COLUMNS)
    return Reading(codes, analog, np.concatenate([each.clipped for each in readings]))
