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
    """A tile as a map from row fractions to the outputs of its amplifiers, the reference column's last.

    While no amplifier saturates that is rows @ matrix + offset. One that does leaves its bit line, and through
    the wires it shares with others theirs; the outputs then are solved for again.

    Attributes:
        matrix: Volt per full-scale fraction of a row, (rows, outputs).
        offset: Volt at zero input, (outputs,).
        limit: Saturation of either sign, volt.
        columns: Number of columns, without the reference.
        currents: Ampere into grounded amplifiers per full-scale fraction of a row, (rows, outputs).
        loaded: L of the equation above, siemens, (outputs, outputs).
        feedback: diag(1/R_f) + E, siemens, (outputs, outputs).
        gain: Open-loop gain, V/V.
        v_offset: Offset at the amplifiers' inputs, volt.
    """

    matrix: Array
    offset: Array
    limit: float
    columns: int
    currents: Array
    loaded: Array
    feedback: Array
    gain: float
    v_offset: float

    def read(self, rows: Array) -> Array:
        """Return column voltages, (batch, columns), from row fractions, (batch, rows)."""
        outputs = rows @ self.matrix + self.offset
        beyond = np.abs(outputs) > self.limit
        coupled = np.count_nonzero(self.loaded - np.diag(np.diag(self.loaded))) > 0
        matters = beyond.any(axis=1) if coupled else beyond[:, self.columns :].any(axis=1)
        for sample in np.flatnonzero(matters):
            outputs[sample] = self._saturate(rows[sample] @ self.currents, np.sign(outputs[sample]) * beyond[sample])
        return np.clip(outputs[:, : self.columns], -self.limit, self.limit)

    def _saturate(self, currents: Array, signs: Array) -> Array:
        """Solve for outputs of which those of nonzero sign are at their limits, until they are the right ones.

        Where an amplifier saturates its input voltage is the unknown, elsewhere its output.
        """
        for _ in range(4 * len(signs)):
            held = signs != 0
            matrix = np.where(held, self.loaded, -self.loaded / self.gain - self.feedback)
            known = self.feedback @ (self.limit * signs) - self.loaded @ np.where(held, 0.0, self.v_offset)
            solved = np.linalg.solve(matrix, currents + known)
            wanted = np.where(held, self.gain * (self.v_offset - solved), solved)
            found = np.where(np.abs(wanted) > self.limit, np.sign(wanted), 0.0)
            if np.array_equal(found, signs):
                break
            signs = found
        return np.where(signs != 0, self.limit * signs, wanted)


def array_lines(tile: Tile) -> tuple[RowLines, ...]:
    """Return a tile's row lines with their crosspoints; a reference column comes last."""
    if tile.plan.r_s is None:
        return RowLines(1, tile.g[: tile.plan.rows]), RowLines(-1, tile.g[tile.plan.rows :])
    fixed = np.full_like(tile.g, 1 / tile.plan.r_s)
    if tile.plan.r_reference is None:
        return RowLines(1, fixed), RowLines(-1, tile.g)
    return (RowLines(1, np.hstack([tile.g, fixed[:, :1]])),)


def solve_array(tile: Tile, config: HardwareConfig) -> PortAdmittance:
    """Reduce a tile's crossbar, wires and drivers included, to its column ports."""
    return solve_ports(array_lines(tile), config.array.r_wire, config.array.r_driver)


def effective_conductance(tile: Tile, r_wire: float, r_driver: float) -> Array:
    """Return what a tile's crosspoints amount to behind wires and drivers, siemens, (rows, columns).

    Times `weight_per_siemens` it is the weight that the grounded columns see: 1/r_s - G, or G+ - G-, without wires.
    """
    transfer = solve_ports(array_lines(tile), r_wire, r_driver).transfer
    return transfer if tile.plan.r_reference is None else transfer[:, -1:] - transfer[:, :-1]


def solve_transfer(tile: Tile, config: HardwareConfig) -> Transfer:
    """Solve a tile's linear network once, for all inputs."""
    amplifier, plan, ports = config.amplifier, tile.plan, solve_array(tile, config)
    feedback = np.diag(np.full(len(ports.load), 1 / plan.r_f))
    between = np.zeros(len(ports.load))
    if plan.r_reference is not None:
        feedback[:, -1] = 1 / plan.r_reference
        between[:-1] = 1 / plan.r_reference
    loaded = ports.load + np.diag(np.diag(feedback) + between)
    gain, offset = (np.inf, 0.0) if amplifier.gain is None else (amplifier.gain, amplifier.offset)
    outputs = np.linalg.inv(loaded / gain + feedback)
    currents = config.drive.v_read * ports.transfer
    return Transfer(
        matrix=-currents @ outputs.T,
        offset=offset * outputs @ loaded.sum(axis=1),
        limit=np.inf if amplifier.gain is None else amplifier.v_saturation,
        columns=plan.columns,
        currents=currents,
        loaded=loaded,
        feedback=feedback,
        gain=gain,
        v_offset=offset,
    )


def settling_error(tile: Tile, config: HardwareConfig) -> float:
    """Return the part of a step that is still missing at the sampling edge (one pole a column)."""
    amplifier, plan = config.amplifier, tile.plan
    if amplifier.gain is None:
        return 0.0
    between = 0.0 if plan.r_reference is None else 1 / plan.r_reference
    noise_gain = 1 + plan.r_f * (np.diag(solve_array(tile, config).load)[: plan.columns].max() + between)
    rate = 2 * np.pi * amplifier.gain_bandwidth * (1 / amplifier.gain + 1 / noise_gain)
    return float(np.exp(-rate * _settling_time(config.timing)))


def _settling_time(timing: Timing) -> float:
    return SAMPLE_STOP * timing.cycle - timing.edge
