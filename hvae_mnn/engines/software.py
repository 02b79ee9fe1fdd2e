"""The software engine: the trained weights as they are, without conductances or converters.

It cuts the weights to the same tiles, so that a hardware Reading can be compared with it
tile by tile. Tests hold it against torch's own cells.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.compiler.blocks import cut_blocks
from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading
from hvae_mnn.engines.stack import TileStack

Array = NDArray[np.float64]


class SoftwareEngine(ClosingEngine):
    """Float64 gate sums of the trained weights."""

    info = EngineInfo("software")
    dac = adc = Converter(None)

    def __init__(self, build: Build) -> None:
        array, self._stacks = build.manifest.hardware.array, {}
        for weights in build.checkpoint.layer_weights():
            layer = build.layer(weights.name)
            blocks = cut_blocks(weights, layer.groups, array)
            parts = (block.weights / tile.scale for block, tile in zip(blocks, layer.tiles, strict=True))
            self._stacks[weights.name] = TileStack(layer.tiles, parts)

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once; codes are fractions of full scale."""
        return {name: self._read(self._stacks[name], fractions) for name, fractions in codes.items()}

    def _read(self, stack: TileStack, fractions: Array) -> Reading:
        analog = stack.read(fractions, bias=1.0)
        return Reading(analog, analog, clipped=np.zeros(len(analog), dtype=np.int64))
