"""The nodal engine: the decks' linear circuit solved in numpy, no simulator needed."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading
from hvae_mnn.physics.converters import Converter
from hvae_mnn.physics.crossbar import solve_transfer
from hvae_mnn.plan import LayerPlan, row_inputs

Array = NDArray[np.float64]


class NodalEngine(ClosingEngine):
    """Every tile as one matrix from rows to column voltages, with converters in arithmetic."""

    info = EngineInfo("nodal")

    def __init__(self, build: Build) -> None:
        hardware = build.manifest.hardware
        self.dac, self.adc = Converter(hardware.dac.bits), Converter(hardware.adc.bits)
        self._v_full_scale = hardware.adc.v_full_scale
        self._layers = {layer.name: layer for layer in build.manifest.layers}
        self._transfers = {name: solve_transfer(tile, hardware) for name, tile in build.tiles.items()}

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once."""
        return {name: self._read(self._layers[name], values) for name, values in codes.items()}

    def _read(self, layer: LayerPlan, codes: Array) -> Reading:
        rows = self.dac.decode(codes)
        volts = [self._transfers[tile.name].read(row_inputs(tile.inputs, rows, bias=1.0)) for tile in layer.tiles]
        analog = np.concatenate(volts, axis=1) / self._v_full_scale
        return Reading(self.adc.encode(analog), analog)
