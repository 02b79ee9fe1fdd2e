"""A tile solved once for all inputs: rows to column voltages, wires and amplifiers included.

The crossbar is a port admittance (`hvae_mnn.physics.wires`): with row drives v and amplifier inputs at u
the current into the amplifiers is i = v T - u Y. An amplifier of gain A, offset V_os and feedback R_f puts
out o = A (V_os - u). The reference column's output o_ref reaches every other column through R_ref.
Kirchhoff's current law at the amplifiers' inputs, in terms of the outputs:

    [L/A + diag(1/R_f) + E] o = L 1 V_os - T^t v        L = Y + diag(1/R_f) + diag(1/R_ref on the columns)

with E the reference output's 1/R_ref into the columns. An ideal amplifier is A -> infinity, V_os = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.hardware import HardwareConfig, Timing
from hvae_mnn.physics.wires import PortAdmittance, RowLines, solve_ports
from hvae_mnn.plan import Tile

Array = NDArray[np.float64]

SAMPLE_START, SAMPLE_STOP, ENABLE_STOP = 0.1, 0.8, 0.9
"""Sampling window and end of the row drives, as parts of a cycle."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Column voltages of a tile: clip(rows @ matrix + offset).

    Attributes:
        matrix: Volt per full-scale fraction of a row, (rows, columns).
        offset: Volt at zero input, (columns,).
        limit: Saturation of either sign, volt.
    """

    matrix: Array
    offset: Array
    limit: float

    def read(self, rows: Array) -> Array:
        """Return column voltages, (batch, columns), from row fractions, (batch, rows)."""
        return np.clip(rows @ self.matrix + self.offset, -self.limit, self.limit)


def array_lines(tile: Tile) -> tuple[RowLines, ...]:
    """Return a tile's row lines with their crosspoints; a reference column comes last."""
    fixed = np.full_like(tile.g, 1 / tile.plan.r_s)
    if tile.plan.r_reference is None:
        return RowLines(1, fixed), RowLines(-1, tile.g)
    return (RowLines(1, np.hstack([tile.g, fixed[:, :1]])),)


def solve_array(tile: Tile, config: HardwareConfig) -> PortAdmittance:
    """Reduce a tile's crossbar, wires and drivers included, to its column ports."""
    return solve_ports(array_lines(tile), config.array.r_wire, config.array.r_driver)


def solve_transfer(tile: Tile, config: HardwareConfig) -> Transfer:
    """Solve a tile's linear network once, for all inputs."""
    amplifier, plan, ports = config.amplifier, tile.plan, solve_array(tile, config)
    feedback = np.full(len(ports.load), 1 / plan.r_f)
    into = np.zeros_like(ports.load)
    if plan.r_reference is not None:
        feedback[-1] = 1 / plan.r_reference
        into[:-1, -1] = 1 / plan.r_reference
    loaded = ports.load + np.diag(feedback + into[:, -1])
    gain, offset = (np.inf, 0.0) if amplifier.gain is None else (amplifier.gain, amplifier.offset)
    outputs = np.linalg.inv(loaded / gain + np.diag(feedback) + into)[: plan.columns]
    matrix = -config.drive.v_read * ports.transfer @ outputs.T
    limit = np.inf if amplifier.gain is None else amplifier.v_saturation
    return Transfer(matrix, offset * outputs @ loaded.sum(axis=1), limit)


def settling_error(tile: Tile, config: HardwareConfig) -> float:
    """Return the part of a step that is still missing at the sampling edge (one pole a column)."""
    amplifier, plan = config.amplifier, tile.plan
    if amplifier.gain is None:
        return 0.0
    fixed = plan.rows / plan.r_s if plan.r_reference is None else 1 / plan.r_reference
    noise_gain = 1 + plan.r_f * (tile.g.sum(axis=0).max() + fixed)
    rate = 2 * np.pi * amplifier.gain_bandwidth * (1 / amplifier.gain + 1 / noise_gain)
    return float(np.exp(-rate * _settling_time(config.timing)))


def _settling_time(timing: Timing) -> float:
    return SAMPLE_STOP * timing.cycle - timing.edge
