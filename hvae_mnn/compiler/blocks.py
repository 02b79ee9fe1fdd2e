"""LayerWeights to WeightBlocks: full scales folded in, bias rows added, cut to tile size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import BIAS, GroupPlan
from hvae_mnn.hardware.config import Array as ArrayConfig
from hvae_mnn.model.layers import GateWeights, LayerWeights

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WeightBlock:
    """The weights of one tile, for inputs as fractions of full scale.

    Attributes:
        layer: Layer name.
        gate: Gate name.
        row_tile: Place among the gate's row tiles.
        column_tile: Place among the gate's column tiles.
        inputs: (rows,): the layer's input on each row, -1 for a bias row.
        column_start: First hidden unit of the block.
        weights: (rows, columns).
    """

    layer: str
    gate: str
    row_tile: int
    column_tile: int
    inputs: NDArray[np.int64]
    column_start: int
    weights: Array


def plan_groups(layer: LayerWeights, ranges: Mapping[str, float]) -> tuple[GroupPlan, ...]:
    """Give each group of inputs its full scale; one that was silent in calibration gets 1."""
    return tuple(GroupPlan(name=group.name, size=group.size, x_max=ranges[group.name] or 1.0) for group in layer.groups)


def cut_blocks(layer: LayerWeights, groups: tuple[GroupPlan, ...], array: ArrayConfig) -> Iterator[WeightBlock]:
    """Yield the blocks of a layer, gate by gate, at most tile_rows x tile_columns and evenly cut."""
    for gate in layer.gates:
        inputs, weights = _rows_with_bias(gate, groups, array.tile_rows)
        row_cuts = _even_cuts(len(inputs), array.tile_rows)
        column_cuts = _even_cuts(layer.hidden, array.tile_columns)
        for i, rows in enumerate(row_cuts):
            for j, columns in enumerate(column_cuts):
                part = weights[rows, columns]
                yield WeightBlock(layer.name, gate.gate, i, j, inputs[rows], columns.start, part)


def _rows_with_bias(gate: GateWeights, groups: tuple[GroupPlan, ...], most: int) -> tuple[NDArray[np.int64], Array]:
    """Stack a gate's weights, times each group's x_max, over its bias rows.

    A bias larger than every weight would set the tile's scale alone, so it is spread over
    as many equal rows as keep it below the largest weight (at most a tile's worth).
    """
    starts = dict(zip((g.name for g in groups), np.cumsum([0, *(g.size for g in groups)]), strict=False))
    used = [group for group in groups if group.name in gate.groups]
    inputs = np.concatenate([np.arange(g.size) + starts[g.name] for g in used])
    weights = gate.weight * np.repeat([g.x_max for g in used], [g.size for g in used])[:, None]
    largest, bias = np.abs(weights).max(), np.abs(gate.bias).max()
    copies = int(np.clip(np.ceil(bias / largest), 1, most)) if largest > 0 else 1
    bias_rows = np.repeat(gate.bias[None] / copies, copies, axis=0)
    return np.concatenate([inputs, np.full(copies, BIAS)]), np.concatenate([weights, bias_rows])


def _even_cuts(length: int, most: int) -> list[slice]:
    """Cut a length into the fewest parts of at most `most`, as even as can be."""
    parts = np.array_split(np.arange(length), -(-length // most))
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
