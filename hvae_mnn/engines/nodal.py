"""The nodal engine: the decks' linear circuit solved in numpy, no simulator needed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.physics.amplifiers import NoiseSource
from hvae_mnn.physics.converters import ADC_ERRORS, DAC_ERRORS, Converter, ConverterErrors, draw_errors
from hvae_mnn.physics.crossbar import Transfer, solve_array, solve_transfer
from hvae_mnn.physics.encoding import driver, join_cycles, split_cycles
from hvae_mnn.physics.integrator import PulseTransfer, solve_pulses
from hvae_mnn.plan import LayerPlan, Tile, row_inputs

Array = NDArray[np.float64]


class NodalEngine(ClosingEngine):
    """Every tile as matrices from rows to column voltages, with converters in arithmetic."""

    info = EngineInfo("nodal")

    def __init__(self, build: Build) -> None:
        hardware = build.manifest.hardware
        self.dac, self.adc = Converter(hardware.dac.bits), Converter(hardware.adc.bits)
        self._hardware, self._driver = hardware, driver(hardware)
        self._layers = {layer.name: layer for layer in build.manifest.layers}
        self._tiles = {name: _solve(tile, hardware) for name, tile in build.tiles.items()}

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once."""
        return {name: self._read(self._layers[name], values) for name, values in codes.items()}

    def _read(self, layer: LayerPlan, codes: Array) -> Reading:
        cycles = split_cycles(codes, self._hardware)
        read = [
            self._read_tile(self._tiles[tile.name], row_inputs(tile.inputs, cycles, bias=self._driver.code_max))
            for tile in layer.tiles
        ]
        found, analog = (np.concatenate(parts, axis=1) for parts in zip(*read, strict=True))
        return Reading(
            join_cycles(found, self._hardware), join_cycles(analog, self._hardware), self.adc.count_clipped(analog)
        )

    def _read_tile(self, tile: "_SolvedTile", rows: Array) -> tuple[Array, Array]:
        """Return codes and fractions of ADC full scale, (cycles, columns)."""
        noise = tile.noise.draw(len(rows)) if tile.noise else None
        lsb = 1 / self.dac.code_max
        volts = tile.transfer.read(self._driver.drive(rows, tile.dac_errors, lsb), noise)
        analog = volts / self._hardware.adc.v_full_scale
        return self.adc.read(analog, tile.adc_errors), analog


@dataclass(frozen=True, slots=True)
class _SolvedTile:
    """A tile's network, its converters' errors and its amplifiers' noise."""

    transfer: Transfer | PulseTransfer
    dac_errors: ConverterErrors | None
    adc_errors: ConverterErrors | None
    noise: NoiseSource | None


def _solve(tile: Tile, config: HardwareConfig) -> _SolvedTile:
    plan, seed = tile.plan, config.device.seed
    return _SolvedTile(
        transfer=solve_pulses(tile, config) if config.drive.encoding == "pulse-width" else solve_transfer(tile, config),
        dac_errors=draw_errors(config.dac, plan.name, DAC_ERRORS, plan.rows, seed),
        adc_errors=draw_errors(config.adc, plan.name, ADC_ERRORS, plan.columns, seed),
        noise=NoiseSource.of_tile(plan, config, solve_array(tile, config).load) if config.amplifier.noise else None,
    )
