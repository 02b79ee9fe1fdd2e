"""A tile without wires, solved in closed form: rows and amplifiers to column voltages.

One column with conductance G_tot on its bit line, current I_0 into a perfect ground, and
an amplifier of gain A, offset V_os, feedback R_f (Kirchhoff at the bit line):

    v = (-R_f I_0 + V_os (1 + R_f G_tot)) / (1 + (1 + R_f G_tot)/A)

An ideal amplifier is the limit A -> infinity, V_os = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.hardware import Amplifier, HardwareConfig, Timing
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


def solve_transfer(tile: Tile, config: HardwareConfig) -> Transfer:
    """Solve a tile's linear network once, for all inputs."""
    amplifier, plan = config.amplifier, tile.plan
    currents, conductance = config.drive.v_read * tile.g, tile.g.sum(axis=0)
    reference_offset: float = 0.0
    if plan.r_reference is None:
        currents = config.drive.v_read / plan.r_s - currents
        conductance = conductance + plan.rows / plan.r_s
    else:
        to_reference, reference_offset = _reference(tile, config)
        currents = currents + to_reference / plan.r_reference
        conductance = conductance + 1 / plan.r_reference
    shrink, shift = _closed_loop(amplifier, plan.r_f, conductance)
    extra = 0.0 if plan.r_reference is None else reference_offset / plan.r_reference
    limit = np.inf if amplifier.gain is None else amplifier.v_saturation
    return Transfer(-plan.r_f * currents * shrink, shift - plan.r_f * extra * shrink, limit)


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


def _reference(tile: Tile, config: HardwareConfig) -> tuple[float, float]:
    """Return the reference column's volt per row fraction, and its offset, volt."""
    plan = tile.plan
    assert plan.r_reference is not None
    shrink, shift = _closed_loop(config.amplifier, plan.r_reference, np.array(plan.rows / plan.r_s))
    return float(-plan.r_reference * config.drive.v_read / plan.r_s * shrink), float(shift)


def _closed_loop(amplifier: Amplifier, r_f: float, conductance: Array) -> tuple[Array, Array]:
    """Return the factor that finite gain leaves of -R_f I, and the output offset, volt."""
    if amplifier.gain is None:
        return np.ones_like(conductance), np.zeros_like(conductance)
    noise_gain = 1 + r_f * conductance
    shrink = 1 / (1 + noise_gain / amplifier.gain)
    return shrink, amplifier.offset * noise_gain * shrink
