"""The digital half of a recurrent cell: gate sums in, next state out.

The same numpy code runs behind every engine; an engine only supplies the gate sums
(crossbar or software). Gate names are those of `hvae_mnn.model.layers`. A controller's fixed-point
numbers are in `hvae_mnn.digital.fixed_point`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.digital.fixed_point import Arithmetic
from hvae_mnn.hardware.config import Periphery

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


def next_state(
    cell: str,
    sums: GateSums,
    state: CellState,
    periphery: Periphery | None = None,
    peephole: Array | None = None,
) -> CellState:
    """Apply gates and products.

    Args:
        cell: `lstm`, `gru` or `rnn`.
        sums: For each gate, W [inputs] + b, (batch, hidden).
        state: State of the step before.
        periphery: Fixed-point numbers and tables; float64 if not given.
        peephole: Weights by which i, f and o of an lstm see c, (3, hidden); none if not given.
    """
    digital = Arithmetic(periphery or Periphery())
    if peephole is not None:
        return _lstm(sums, state, digital, _Peephole(digital, digital.weight(peephole)))
    return _CELLS[cell](sums, state, digital)


def first_state(h: Array, x_max: float, periphery: Periphery | None = None) -> CellState:
    """Return the state that a layer starts from instead of zero.

    Args:
        h: What both h and c start as, (batch, hidden); it may lie beyond +-1.
        x_max: The layer's full scale of h; fixed-point numbers saturate there, as its row converters do.
        periphery: Fixed-point numbers; float64 if not given.
    """
    digital = Arithmetic(periphery or Periphery())
    return CellState(digital.hidden(h, x_max), digital.cell(h.copy()))


@dataclass(frozen=True, slots=True)
class _Peephole:
    """Adds what gates see of c to their sums; the product is rounded as a gate sum, as is the result by `sigmoid`."""

    digital: Arithmetic
    weights: Array

    def add(self, gate: str, gate_sum: Array, c: Array) -> Array:
        seen = self.weights["ifo".index(gate)] * c
        return self.digital.gate_sum(gate_sum) + self.digital.gate_sum(seen)


def _lstm(sums: GateSums, state: CellState, digital: Arithmetic, peephole: _Peephole | None = None) -> CellState:
    """Eqs. 10-11 of Hu & Yang 2023, with the candidate's bias that eq. 10 leaves out.

    A peephole is diagonal (Gers & Schmidhuber 2000): i and f see c of the step before, o the new one. Eq. 11 gives o
    alone a view of c, by a full matrix.
    """
    i, f, o = (sums[gate] for gate in "ifo")
    if peephole is not None:
        i, f = peephole.add("i", i, state.c), peephole.add("f", f, state.c)
    c = digital.cell(
        digital.cell(digital.sigmoid(f) * state.c) + digital.gate(digital.sigmoid(i) * digital.tanh(sums["g"]))
    )
    if peephole is not None:
        o = peephole.add("o", o, c)
    return CellState(digital.hidden(digital.gate(digital.sigmoid(o) * digital.tanh_cell(c))), c)


def _gru(sums: GateSums, state: CellState, digital: Arithmetic) -> CellState:
    """Gated recurrent unit as in torch: r multiplies W_hn h + b_hn, so n has two crossbars."""
    update = digital.sigmoid(sums["z"])
    reset = digital.gate_sum(digital.sigmoid(sums["r"]) * digital.gate_sum(sums["n_h"]))
    candidate = digital.tanh(digital.gate_sum(sums["n_x"]) + reset)
    h = digital.hidden(digital.gate((1 - update) * candidate) + digital.gate(update * state.h))
    return CellState(h, h)


def _rnn(sums: GateSums, state: CellState, digital: Arithmetic) -> CellState:
    h = digital.hidden(digital.tanh(sums["h"]))
    return CellState(h, h)


_CELLS: Mapping[str, Callable[[GateSums, CellState, Arithmetic], CellState]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
