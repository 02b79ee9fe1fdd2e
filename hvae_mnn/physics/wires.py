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
bit line follows. No node is kept, and every step is a symmetric positive definite system, so that
conductances and wires of any ratio keep their accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dptsv

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RowLines:
    """One line of every row, and what hangs between it and the bit lines.

    Attributes:
        sign: 1 for lines driven at +V, -1 for lines driven at -V.
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
    load, transfer = np.zeros((columns, columns)), np.zeros((columns, rows))
    for row in range(rows):
        for line in lines:
            own_load, own_transfer = _reduce_row(line.g[row], 1 / r_wire, 1 / (r_driver + r_wire))
            load += own_load
            transfer[:, row] += line.sign * own_transfer
        load, transfer[:, : row + 1] = _through_segments(load, transfer[:, : row + 1], r_wire)
    return PortAdmittance(transfer.T, load)


def _reduce_row(g: Array, segment: float, drive: float) -> tuple[Array, Array]:
    """Reduce one row line with its crosspoints to the bit lines' nodes.

    Args:
        g: Conductances of the crosspoints, siemens, (columns,).
        segment: Conductance of a segment of the line, siemens.
        drive: Conductance between drive and first crosspoint, siemens.

    Returns:
        Admittance between the bit lines, (columns, columns), and the current into each, grounded,
        per volt of drive, (columns,), siemens.
    """
    columns = len(g)
    own = g.copy()
    own[:-1] += segment
    own[1:] += segment
    own[0] += drive
    sources = np.zeros((columns, columns + 1))
    sources[np.arange(columns), np.arange(columns)] = g
    sources[0, -1] = drive
    voltages = dptsv(own, np.full(max(columns - 1, 1), -segment), sources)[2]  # the line is a tridiagonal system
    return np.diag(g) - g[:, None] * voltages[:, :-1], g * voltages[:, -1]


def _through_segments(load: Array, transfer: Array, r_wire: float) -> tuple[Array, Array]:
    """Put a resistance in series with every bit line: Y -> (1 + r Y)^-1 Y, and the same for currents."""
    factors = cho_factor(np.eye(len(load)) + r_wire * load, check_finite=False)
    behind = cho_solve(factors, np.hstack([load, transfer]), check_finite=False)
    load = behind[:, : len(load)]
    return (load + load.T) / 2, behind[:, len(load) :]


def _ports_without_wires(lines: Sequence[RowLines], r_driver: float) -> PortAdmittance:
    """Solve rows that are one node each behind their driver."""
    columns = lines[0].g.shape[1]
    transfer, load = np.zeros_like(lines[0].g), np.zeros((columns, columns))
    for line in lines:
        share = 1 / (1 + r_driver * line.g.sum(axis=1))
        transfer += line.sign * line.g * share[:, None]
        load += np.diag(line.g.sum(axis=0)) - line.g.T @ (line.g * (r_driver * share)[:, None])
    return PortAdmittance(transfer, load)
