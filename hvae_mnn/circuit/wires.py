"""A crossbar with wires as a linear network: what its columns see of rows and amplifiers, exactly.

    driver --[r_driver + r_wire]-- p(j,0) --[r_wire]-- p(j,1) -- ...      row line, one or two a row
                                     |                   |
                                    G(j,0)              G(j,1)            crosspoints
                                     |                   |
                                   b(j,0)              b(j,1)             bit lines, running down
                                     |                   |
                                  [r_wire]            [r_wire]
                                     |                   |
                                   b(j+1,0)            b(j+1,1) ...  the last one --[r_wire]-- amplifier

A row has a line at +V and, where the scheme has one, a line at -V. The network is reduced to its
column ports row by row, from the top: the rows so far are an admittance between the bit lines,
with a current for each volt of drive (Norton); the next row adds its own, and a segment of every
bit line follows. No node is kept. A row line is reduced without a subtraction, and a segment of the
bit lines is a symmetric positive definite system, so that conductances, wires and drivers of any ratio
keep their accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv
from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

_BLAS = ThreadpoolController()
_BLOCK = 64  # columns: measured

TINY = 1e-150
"""No product of steps along a line is divided by if it is below this. Chosen: its reciprocal is far from overflow."""


@dataclass(frozen=True, slots=True)
class RowLines:
    """One line of every row, and what hangs between it and the bit lines.

    Attributes:
        sign: 1 for lines driven at +V, -1 for lines driven at -V, 0 for lines held at 0 V.
        g: Conductances of the crosspoints, siemens, (rows, columns).
    """

    sign: int
    g: Array


@dataclass(frozen=True, slots=True)
class PortAdmittance:
    """A crossbar as its column ports see it: i = v @ transfer - u @ load, ampere into the amplifiers.

    Attributes:
        transfer: Current into a grounded port per volt of row drive, siemens, (rows, columns).
        load: Admittance between the ports with all drives at 0 V, siemens, (columns, columns), symmetric.
    """

    transfer: Array
    load: Array


def solve_ports(lines: Sequence[RowLines], r_wire: float, r_driver: float) -> PortAdmittance:
    """Reduce a crossbar to its ports.

    Args:
        lines: One or two lines a row; all conductances are (rows, columns).
        r_wire: Resistance of a segment of a row or bit line, ohm.
        r_driver: Resistance of each row's driver, ohm.
    """
    if r_wire == 0:
        return _ports_without_wires(lines, r_driver)
    rows, columns = lines[0].g.shape
    reduced = [(line.sign, _reduce_lines(line.g, 1 / r_wire, 1 / (r_driver + r_wire))) for line in lines]
    state = np.zeros((columns, columns + rows), order="F")  # load, then transfer as (columns, rows)
    load, transfer = state[:, :columns], state[:, columns:]
    with _BLAS.limit(limits=1):  # the steps are small: more threads wait for each other, on busy cores for long
        for row in range(rows):
            _add_load([each for _, each in reduced], row, load)
            for sign, each in reduced:
                transfer[:, row] += sign * each.transfer[row]
            _pass_segments(state[:, : columns + row + 1], r_wire)
    _mirror(load)
    return PortAdmittance(transfer.T.copy(), load.copy())


@dataclass(frozen=True, slots=True)
class _ReducedLines:
    """Row lines, each reduced to the bit lines' nodes; all (rows, columns).

    Attributes:
        g: Conductances of the crosspoints, siemens.
        own: Current into a bit line's node per volt on it, the others grounded, siemens.
        share: Voltage of a line's node per volt on its bit line.
        fall: Voltage of a line's node per volt on the node before it, for a source further back.
        transfer: Current into a bit line's node, all grounded, per volt of drive, siemens.
    """

    g: Array
    own: Array
    share: Array
    fall: Array
    transfer: Array


def _reduce_lines(g: Array, segment: float, drive: float) -> _ReducedLines:
    """Reduce row lines by what each node sees to its left and right; nothing is subtracted.

    Args:
        g: Conductances of the crosspoints, siemens, (rows, columns).
        segment: Conductance of a segment of a line, siemens.
        drive: Conductance between drive and first crosspoint, siemens.
    """
    left, right = np.full_like(g, drive), np.zeros_like(g)
    for k in range(1, g.shape[1]):
        left[:, k] = 1 / (1 / segment + 1 / (left[:, k - 1] + g[:, k - 1]))
        right[:, -k - 1] = 1 / (1 / segment + 1 / (right[:, -k] + g[:, -k]))
    fall = segment / (segment + g + right)
    fall[:, 0] = drive / (drive + g[:, 0] + right[:, 0])
    share = g / (left + g + right)
    return _ReducedLines(g, share * (left + right), share, fall, g * np.cumprod(fall, axis=1))


def _add_load(lines: Sequence[_ReducedLines], row: int, load: Array) -> None:
    """Add the admittance of a row's lines between the bit lines to a load, in place."""
    diagonal = load.diagonal() + sum(line.own[row] for line in lines)
    for line in lines:
        _subtract_below(load, line.g[row], line.share[row], line.fall[row])
    np.fill_diagonal(load, diagonal)
    _mirror(load)


def _subtract_below(load: Array, g: Array, share: Array, fall: Array) -> None:
    """Subtract g_i fall_i fall_i-1 .. fall_k+1 share_k from each element i > k; the others become meaningless."""
    along = np.concatenate([[1.0], np.cumprod(fall[1:])])
    if along[-1] > TINY:
        load -= np.outer(share / along, g * along).T
        return
    half = len(g) // 2
    before = np.cumprod(fall[half - 1 : 0 : -1])[::-1]
    load[half:, :half] -= np.outer(g[half:] * np.cumprod(fall[half:]), share[:half] * np.append(before, 1.0))
    for part in (slice(half), slice(half, None)):
        _subtract_below(load[part, part], g[part], share[part], fall[part])


def _mirror(load: Array) -> None:
    """Copy the lower half of a matrix to its upper half, in place; a large one by blocks, which takes half the time."""
    half = len(load) // 2
    if half < _BLOCK:
        np.copyto(load, load.T, where=np.tri(len(load), k=-1, dtype=bool).T)
        return
    load[:half, half:] = load[half:, :half].T
    _mirror(load[:half, :half])
    _mirror(load[half:, half:])


def _pass_segments(state: Array, r_wire: float) -> None:
    """Put a resistance in series with every bit line, in place: Y -> (1 + r Y)^-1 Y, and the same for currents."""
    columns = len(state)
    series = r_wire * state[:, :columns]
    np.fill_diagonal(series, 1 + series.diagonal())
    dposv(series, state, overwrite_a=True, overwrite_b=True)  # in place, as both are in Fortran's order


def _ports_without_wires(lines: Sequence[RowLines], r_driver: float) -> PortAdmittance:
    """Solve rows that are one node each behind their driver."""
    columns = lines[0].g.shape[1]
    transfer, load = np.zeros_like(lines[0].g), np.zeros((columns, columns))
    for line in lines:
        share = 1 / (1 + r_driver * line.g.sum(axis=1))
        transfer += line.sign * line.g * share[:, None]
        load += np.diag(line.g.sum(axis=0)) - line.g.T @ (line.g * (r_driver * share)[:, None])
    return PortAdmittance(transfer, load)
