"""One unit of each cell against its formulas written out with plain math."""

import math

import numpy as np
import pytest

from hvae_mnn.digital.gates import CellState, next_state, zero_state

H, C = 0.31, -0.87


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def advance(cell: str, **sums: float) -> CellState:
    state = CellState(np.array([[H]]), np.array([[C]]))
    return next_state(cell, {gate: np.array([[value]]) for gate, value in sums.items()}, state)


def test_lstm() -> None:
    after = advance("lstm", i=0.4, f=-1.1, g=0.7, o=1.6)
    c = sigmoid(-1.1) * C + sigmoid(0.4) * math.tanh(0.7)
    assert after.c.item() == pytest.approx(c, rel=1e-14)
    assert after.h.item() == pytest.approx(sigmoid(1.6) * math.tanh(c), rel=1e-14)


def test_lstm_with_peepholes() -> None:
    """i and f see the old c, o the new one."""
    state = CellState(np.array([[H]]), np.array([[C]]))
    sums = {gate: np.array([[value]]) for gate, value in {"i": 0.4, "f": -1.1, "g": 0.7, "o": 1.6}.items()}
    after = next_state("lstm", sums, state, peephole=np.array([[0.9], [-1.7], [2.3]]))
    c = sigmoid(-1.1 - 1.7 * C) * C + sigmoid(0.4 + 0.9 * C) * math.tanh(0.7)
    assert after.c.item() == pytest.approx(c, rel=1e-14)
    assert after.h.item() == pytest.approx(sigmoid(1.6 + 2.3 * c) * math.tanh(c), rel=1e-14)


def test_gru() -> None:
    after = advance("gru", r=0.9, z=-0.6, n_x=0.35, n_h=-1.4)
    n = math.tanh(0.35 + sigmoid(0.9) * -1.4)
    assert after.h.item() == pytest.approx((1 - sigmoid(-0.6)) * n + sigmoid(-0.6) * H, rel=1e-14)


def test_rnn() -> None:
    assert advance("rnn", h=-0.45).h.item() == pytest.approx(math.tanh(-0.45), rel=1e-14)


def test_zero_state_select_and_replace() -> None:
    assert zero_state(2, 3).h.shape == zero_state(2, 3).c.shape == (2, 3)
    state = CellState(np.array([[1.0], [2.0], [3.0]]), np.array([[4.0], [5.0], [6.0]]))
    part = state.select(np.array([2, 0]))
    assert (part.h.ravel().tolist(), part.c.ravel().tolist()) == ([3, 1], [6, 4])
    changed = state.replaced(np.array([0, 1]), part)
    assert (changed.h.ravel().tolist(), changed.c.ravel().tolist()) == ([3, 1, 3], [6, 4, 6])
    assert state.h.ravel().tolist() == [1, 2, 3]
