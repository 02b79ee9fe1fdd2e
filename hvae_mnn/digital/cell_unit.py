"""What stands between a layer's readings and its next state.

Today a controller's arithmetic; a circuit of analogue gates would be another unit with the same two methods, chosen in
`make_cell_unit`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.digital.gates import CellState, GateSums, first_state, next_state
from hvae_mnn.hardware.config import HardwareConfig, Periphery

Array = NDArray[np.float64]


class CellUnit(Protocol):
    """The gates, products and state of one recurrent layer."""

    def start(self, h: Array, x_max: float) -> CellState:
        """Return the state that the layer starts from instead of zero; arguments as `first_state` takes them."""

    def advance(self, sums: GateSums, state: CellState) -> CellState:
        """Return the next state.

        Args:
            sums: For each gate, W [inputs] + b, (batch, hidden).
            state: The state of the step before.
        """


@dataclass(frozen=True, slots=True)
class DigitalCellUnit:
    """Gates and state in the controller.

    Attributes:
        cell: `lstm`, `gru` or `rnn`.
        periphery: Fixed-point numbers and tables; unset parts are float64.
        peephole: Weights by which i, f and o of an lstm see c, (3, hidden); None without.
    """

    cell: str
    periphery: Periphery
    peephole: Array | None = None

    def start(self, h: Array, x_max: float) -> CellState:
        """Return the state that the layer starts from instead of zero."""
        return first_state(h, x_max, self.periphery)

    def advance(self, sums: GateSums, state: CellState) -> CellState:
        """Return the next state."""
        return next_state(self.cell, sums, state, self.periphery, self.peephole)


def make_cell_unit(cell: str, hardware: HardwareConfig, peephole: Array | None = None) -> CellUnit:
    """Return the unit that a hardware has for a layer."""
    return DigitalCellUnit(cell, hardware.periphery, peephole)
