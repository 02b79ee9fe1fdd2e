"""What wires cost before anything is simulated: errors of tile sums at several tile sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.crossbar import effective_conductance
from hvae_mnn.circuit.plan import Tile, row_inputs
from hvae_mnn.compiler.pipeline import draft_layer, map_tiles
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.runtime.progress import Progress

Array = NDArray[np.float64]

TILE_SIZES = (16, 32, 64, 128)
_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class IrDrop:
    """Wires in one layer, cut to tiles of one size.

    Errors are the rms difference of all tile sums with and without wires, over the rms of those without.

    Attributes:
        tile_size: Largest number of rows and columns of a tile.
        layer: Layer name.
        tiles: Number of tiles.
        random: Error for inputs drawn evenly within full scale.
        calibration: Error for inputs of calibration sentences.
        weakest: Smallest ratio of a crosspoint's conductance seen by its column to its own, over
            crosspoints of more than half of the largest.
    """

    tile_size: int
    layer: str
    tiles: int
    random: float
    calibration: float
    weakest: float


def measure_ir_drop(
    checkpoint: Checkpoint,
    hardware: HardwareConfig,
    sizes: Sequence[int] = TILE_SIZES,
    progress: Progress | None = None,
) -> tuple[IrDrop, ...]:
    """Compile a model at several tile sizes and compare its tiles with and without wires.

    Args:
        checkpoint: The trained model.
        hardware: The hardware; its tile size is not used.
        sizes: Tile sizes.
        progress: Called with a stage, the tile sizes done and all.

    Raises:
        CheckpointError: The checkpoint has no calibration.
    """
    found: list[IrDrop] = []
    for done, size in enumerate(sizes):
        array = hardware.array.model_copy(update={"tile_rows": size, "tile_columns": size})
        found += _measure_layers(checkpoint, hardware.model_copy(update={"array": array}), size)
        if progress is not None:
            progress("tile sizes", done + 1, len(sizes))
    return tuple(found)


def _measure_layers(checkpoint: Checkpoint, hardware: HardwareConfig, size: int) -> Iterator[IrDrop]:
    rng = np.random.default_rng(size)
    for weights in checkpoint.layer_weights():
        draft = draft_layer(weights, checkpoint, hardware)
        tiles, calibration = list(map_tiles(draft)), draft.calibration
        layer = draft.plan(tile.plan for tile in tiles)
        random = rng.uniform(-1, 1, (_SAMPLES, calibration.shape[1]))
        chosen = calibration[rng.choice(len(calibration), min(_SAMPLES, len(calibration)), replace=False)]
        squares, weakest = np.zeros((2, 2)), 1.0
        for tile in tiles:
            wired = effective_conductance(tile, hardware.array.r_wire, hardware.array.r_driver)
            ideal = effective_conductance(tile, 0.0, 0.0)
            squares += [_squares(tile, wired, ideal, inputs) for inputs in (random, chosen)]
            strong = np.abs(ideal) > np.abs(ideal).max() / 2
            weakest = min(weakest, float((wired[strong] / ideal[strong]).min(initial=1.0)))
        errors = np.sqrt(squares[:, 0] / np.maximum(squares[:, 1], 1e-300))
        yield IrDrop(size, layer.name, len(tiles), float(errors[0]), float(errors[1]), weakest)


def _squares(tile: Tile, wired: Array, ideal: Array, inputs: Array) -> tuple[float, float]:
    """Return the sums of squares of a tile's errors and of its sums, both in units of gate sums."""
    rows = tile.plan.weight_per_siemens * row_inputs(tile.plan.inputs, inputs, bias=1.0)
    return float(np.sum((rows @ (wired - ideal)) ** 2)), float(np.sum((rows @ ideal) ** 2))
