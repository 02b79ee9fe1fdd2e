"""The digital half of a recurrent cell: gate sums in, next state out.

The same numpy code runs behind every engine; an engine only supplies the gate sums
(crossbar or software). Gate names are those of `hvae_mnn.model.layers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
GateSums = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class CellState:
    """State of a layer between two steps.

    Attributes:
        h: Output, (batch, hidden).
        c: Cell state of an lstm, (batch, hidden); for gru and rnn it equals h and is not read.
    """

    h: Array
    c: Array

    def select(self, rows: NDArray[np.intp]) -> "CellState":
        """Return the state of some sentences of the batch."""
        return CellState(self.h[rows], self.c[rows])

    def replaced(self, rows: NDArray[np.intp], part: "CellState") -> "CellState":
        """Return a copy with the state of some sentences exchanged."""
        h, c = self.h.copy(), self.c.copy()
        h[rows], c[rows] = part.h, part.c
        return CellState(h, c)


def zero_state(batch: int, hidden: int) -> CellState:
    """Return the state before the first word."""
    return CellState(np.zeros((batch, hidden)), np.zeros((batch, hidden)))


def next_state(cell: str, sums: GateSums, state: CellState) -> CellState:
    """Apply gates and products.

    Args:
        cell: `lstm`, `gru` or `rnn`.
        sums: For each gate, W [inputs] + b, (batch, hidden).
        state: State of the step before.
    """
    return _CELLS[cell](sums, state)


def _lstm(sums: GateSums, state: CellState) -> CellState:
    """Eqs. 10-11 of Hu & Yang 2023, with the candidate's bias that eq. 10 leaves out and no peephole."""
    c = expit(sums["f"]) * state.c + expit(sums["i"]) * np.tanh(sums["g"])
    return CellState(expit(sums["o"]) * np.tanh(c), c)


def _gru(sums: GateSums, state: CellState) -> CellState:
    """Gated recurrent unit as in torch: r multiplies W_hn h + b_hn, so n has two crossbars."""
    update = expit(sums["z"])
    candidate = np.tanh(sums["n_x"] + expit(sums["r"]) * sums["n_h"])
    h = (1 - update) * candidate + update * state.h
    return CellState(h, h)


def _rnn(sums: GateSums, state: CellState) -> CellState:
    h = np.tanh(sums["h"])
    return CellState(h, h)


_CELLS: Mapping[str, Callable[[GateSums, CellState], CellState]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
