"""The software engine: the trained weights as they are, without conductances or converters.

It cuts the weights to the same tiles, so that a hardware Reading can be compared with it
tile by tile. Tests hold it against torch's own cells.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.compiler.blocks import cut_blocks
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading
from hvae_mnn.physics.converters import Converter
from hvae_mnn.plan import LayerPlan, row_inputs

Array = NDArray[np.float64]


class SoftwareEngine(ClosingEngine):
    """Float64 gate sums of the trained weights."""

    info = EngineInfo("software")
    dac = adc = Converter(None)

    def __init__(self, build: Build) -> None:
        self._layers = {layer.name: layer for layer in build.manifest.layers}
        self._weights = {
            weights.name: [
                block.weights
                for block in cut_blocks(weights, self._layers[weights.name].groups, build.manifest.hardware.array)
            ]
            for weights in build.checkpoint.layer_weights()
        }

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once; codes are fractions of full scale."""
        return {name: self._read(self._layers[name], fractions) for name, fractions in codes.items()}

    def _read(self, layer: LayerPlan, fractions: Array) -> Reading:
        parts = [
            row_inputs(tile.inputs, fractions, bias=1.0) @ weights / tile.scale
            for tile, weights in zip(layer.tiles, self._weights[layer.name], strict=True)
        ]
        analog = np.concatenate(parts, axis=1)
        return Reading(analog, analog, np.zeros(len(analog), dtype=np.int64))
