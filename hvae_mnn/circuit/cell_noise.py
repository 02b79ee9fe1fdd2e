"""Cycle-to-cycle noise of the cells: in each read cell (j, k) holds G_jk + sigma n_jk, with n_jk ~ N(0, 1) drawn anew.

Cells are independent, so that a column's noise is one normal deviate, whatever the number of its rows. At its output

    v_k^2 = z_k^2 sum_j (sigma V_j s_jk)^2

with V_j the row's drive, z_k the output per ampere through the closed loop of the column's amplifier and s_jk what
wires leave of a change of the cell (`hvae_mnn.circuit.crossbar.cell_reach`, 1 without). Bias rows count as any,
`differential` has two cells a weight, and fixed resistors have none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.amplifiers import NoiseSource
from hvae_mnn.circuit.crossbar import Transfer, cell_reach
from hvae_mnn.circuit.integrator import PulseTransfer
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.streams import Purpose
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import LONGEST_PULSE

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CellNoise:
    """Noise of a tile's cells as it is at the outputs of its columns; the same sequence in every engine.

    Attributes:
        squares: Variance at an output for a full-scale row, volt^2, (rows, columns).
        longest: Where drivers end what rows carry, part of full scale.
        source: Normal deviates, one a read and column.
    """

    squares: Array
    longest: float
    source: NoiseSource

    @classmethod
    def of_tile(cls, tile: Tile, config: HardwareConfig, transfer: Transfer | PulseTransfer) -> "CellNoise | None":
        """Return the noise of a tile that is solved; None where cells have none."""
        array, plan = config.array, tile.plan
        sigma = config.device.read_sigma * array.g_max
        if sigma == 0:
            return None
        reach = cell_reach(tile, array.r_wire, array.r_driver).reshape(-1, plan.rows, plan.columns)
        return cls(
            squares=(config.drive.v_read * sigma * transfer.per_ampere) ** 2 * (reach**2).sum(axis=0),
            longest=LONGEST_PULSE if config.drive.pulsed else np.inf,
            source=NoiseSource(np.ones(plan.columns), config.device.seed, plan.name, Purpose.READ_NOISE),
        )

    def power(self, drives: Array) -> Array:
        """Return the squares of what rows carry, as `squares` is multiplied with; shaped like drives."""
        return np.asarray(np.minimum(np.abs(drives), self.longest) ** 2)

    def draw(self, drives: Array) -> Array:
        """Return what is added to the outputs of the next reads, volt, (reads, columns).

        Args:
            drives: What the rows carry, fractions of full scale, (reads, rows).
        """
        return np.sqrt(self.power(drives) @ self.squares) * self.source.draw(len(drives))
