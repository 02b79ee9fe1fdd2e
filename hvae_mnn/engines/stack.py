"""The tiles of a layer as one batched product."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import BIAS, TilePlan

Array = NDArray[np.float64]

_NOTHING = -2  # next to BIAS at the end of the inputs


class TileStack:
    """One matrix for each tile of a layer, multiplied with what its rows carry.

    Tiles that stand next to each other in a gate and carry the same rows are a strip. Strips are filled up with rows
    of zeros until all have the same number, so that a batch is read by one batched product, and outputs lie in
    memory as tiles follow each other.
    """

    def __init__(
        self, plans: Sequence[TilePlan], matrices: Iterable[Array], constants: Iterable[Array] | None = None
    ) -> None:
        """Copy the matrices.

        Args:
            plans: The tiles; every gate has equally many columns.
            matrices: For each tile (rows, outputs).
            constants: For each tile what its outputs are besides, for a bias of 1, (outputs,); zero if not given.

        Raises:
            ValueError: A matrix is not as large as its tile.
        """
        tiles = list(zip(plans, matrices, strict=True))
        strips = [list(strip) for _, strip in groupby(tiles, key=lambda tile: (tile[0].gate, tile[0].inputs))]
        most = max(plan.rows for plan in plans) + (constants is not None)
        width = sum(matrix.shape[1] for _, matrix in strips[0])
        self._matrix, rows = np.zeros((len(strips), most, width)), np.full((len(strips), most), _NOTHING)
        for place, strip in enumerate(strips):
            inputs = strip[0][0].inputs
            rows[place, : len(inputs)] = inputs
            np.concatenate([matrix for _, matrix in strip], axis=1, out=self._matrix[place, : len(inputs)])
        if constants is not None:
            rows[:, -1] = BIAS
            self._matrix[:, -1] = np.concatenate(list(constants)).reshape(-1, width)
        self._rows = rows[: _period(rows)]
        self._matrix = self._matrix.reshape(-1, *self._rows.shape, width)

    def read(self, inputs: Array, bias: float) -> Array:
        """Return all outputs, tile after tile, (batch, outputs).

        Args:
            inputs: The layer's inputs, (batch, inputs).
            bias: What a bias row carries.
        """
        ends = np.array([[0.0], [bias]])
        padded = np.concatenate([inputs.T, np.broadcast_to(ends, (2, len(inputs)))])
        return self._multiply(padded[self._rows]).reshape(-1, len(inputs)).T

    def _multiply(self, rows: Array) -> Array:
        """Return outputs, (gates, strips, outputs, batch), from rows, (strips, rows, batch)."""
        return np.asarray(self._matrix.swapaxes(2, 3) @ rows)


def _period(rows: NDArray[np.int64]) -> int:
    """Return after how many strips the rows that they carry are the same again."""
    count = len(rows)
    return next(n for n in range(1, count + 1) if count % n == 0 and (rows == np.roll(rows, n, axis=0)).all())
