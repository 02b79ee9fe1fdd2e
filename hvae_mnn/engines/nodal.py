"""The nodal engine: the decks' linear circuit solved in numpy and torch, no simulator needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.physics.amplifiers import NoiseSource
from hvae_mnn.physics.converters import ADC_ERRORS, DAC_ERRORS, Converter, ConverterErrors, draw_errors
from hvae_mnn.physics.crossbar import Transfer, solve_array, solve_transfer
from hvae_mnn.physics.encoding import add_cycles, driver, join_cycles, split_cycles
from hvae_mnn.physics.integrator import PulseTransfer, solve_pulses
from hvae_mnn.plan import LayerPlan, Tile, TilePlan, row_inputs

Array = NDArray[np.float64]


class NodalEngine(ClosingEngine):
    """Every tile as matrices from rows to column voltages, with converters in arithmetic.

    A batch is read by one product for all tiles that carry the same rows; tiles with something of their own
    (DAC errors, noise, pulses, an amplifier that saturates) are read one by one.
    """

    info = EngineInfo("nodal")

    def __init__(self, build: Build, device: str = "cpu") -> None:
        """Solve every tile.

        Args:
            build: A compiled model.
            device: Where torch multiplies batches, such as `cuda`.
        """
        hardware = build.manifest.hardware
        self.dac, self.adc = Converter(hardware.dac.bits), Converter(hardware.adc.bits)
        self._hardware, self._driver = hardware, driver(hardware)
        self._layers = {layer.name: layer for layer in build.manifest.layers}
        self._tiles = {name: _solve(tile, hardware) for name, tile in build.tiles.items()}
        self._adc_errs = any(tile.adc_errors for tile in self._tiles.values())
        self._stacks = {layer.name: self._stack(layer, device) for layer in build.manifest.layers}

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once."""
        return {name: self._read(self._layers[name], values) for name, values in codes.items()}

    def begin(self, number: int) -> None:
        """Start the noise of a batch of sentences."""
        for tile in self._tiles.values():
            if tile.noise:
                tile.noise.begin(number)

    def _read(self, layer: LayerPlan, codes: Array) -> Reading:
        cycles = split_cycles(codes, self._hardware)
        volts = self._stacked_volts(layer, cycles)
        for tile in layer.tiles:
            if tile.name not in volts:
                volts[tile.name] = self._own_volts(tile, cycles)
        analog = np.concatenate([volts[tile.name] for tile in layer.tiles], axis=1) / self._hardware.adc.v_full_scale
        if self._adc_errs:
            parts = [(analog[:, outputs], self._tiles[tile.name].adc_errors) for tile, outputs in layer.tile_outputs()]
            found = np.concatenate([self.adc.read(*part) for part in parts], axis=1)
            clipped = np.sum([self.adc.count_clipped(*part) for part in parts], axis=0)
        else:
            found, clipped = self.adc.encode(analog), self.adc.count_clipped(analog)
        return Reading(
            join_cycles(found, self._hardware), join_cycles(analog, self._hardware), add_cycles(clipped, self._hardware)
        )

    def _own_volts(self, plan: TilePlan, cycles: Array) -> Array:
        """Return a tile's column voltages, (cycles, columns), by itself."""
        tile = self._tiles[plan.name]
        rows = row_inputs(plan.inputs, cycles, bias=self._driver.code_max)
        noise = tile.noise.draw(len(rows)) if tile.noise else None
        return tile.transfer.read(self._driver.drive(rows, tile.dac_errors, 1 / self.dac.code_max), noise)

    def _stack(self, layer: LayerPlan, device: str) -> "list[_Stack]":
        """Collect the tiles that carry the same rows and have nothing of their own."""
        alike: dict[tuple[int, ...], list[TilePlan]] = {}
        for plan in layer.tiles:
            tile = self._tiles[plan.name]
            if isinstance(tile.transfer, Transfer) and tile.dac_errors is None and tile.noise is None:
                alike.setdefault(plan.inputs, []).append(plan)
        return [_Stack.of_tiles(plans, self._tiles, device) for plans in alike.values()]

    def _stacked_volts(self, layer: LayerPlan, cycles: Array) -> dict[str, Array]:
        """Return column voltages, (cycles, columns), of the stacked tiles in which no amplifier saturates."""
        volts: dict[str, Array] = {}
        for stack in self._stacks[layer.name]:
            rows = row_inputs(stack.plans[0].inputs, cycles, bias=self._driver.code_max)
            outputs = stack.read(self._driver.drive(rows))
            for plan, (start, stop) in zip(stack.plans, stack.places, strict=True):
                part = outputs[:, start:stop]
                if np.abs(part).max(initial=0) <= stack.limit:
                    volts[plan.name] = part[:, : plan.columns]
        return volts


@dataclass(frozen=True, slots=True)
class _SolvedTile:
    """A tile's network, its converters' errors and its amplifiers' noise."""

    transfer: Transfer | PulseTransfer
    dac_errors: ConverterErrors | None
    adc_errors: ConverterErrors | None
    noise: NoiseSource | None


@dataclass(frozen=True, slots=True)
class _Stack:
    """Tiles that carry the same rows, side by side.

    Attributes:
        plans: The tiles.
        places: Which outputs are each tile's; a reference column's come last.
        matrix: Volt per full-scale row, (rows, outputs of all).
        constant: Volt at zero input, (outputs of all,).
        limit: Saturation of either sign, volt.
    """

    plans: list[TilePlan]
    places: list[tuple[int, int]]
    matrix: torch.Tensor
    constant: torch.Tensor
    limit: float

    @classmethod
    def of_tiles(cls, plans: list[TilePlan], tiles: Mapping[str, _SolvedTile], device: str) -> "_Stack":
        """Stack the matrices of tiles."""
        transfers = [transfer for plan in plans if isinstance(transfer := tiles[plan.name].transfer, Transfer)]
        edges = np.cumsum([0, *(each.matrix.shape[1] for each in transfers)]).tolist()
        matrix = np.concatenate([each.matrix for each in transfers], axis=1)
        constant = np.concatenate([each.v_offset @ each.offsets for each in transfers])
        places, limit = list(pairwise(edges)), transfers[0].limit
        return cls(plans, places, torch.from_numpy(matrix).to(device), torch.from_numpy(constant).to(device), limit)

    def read(self, rows: Array) -> Array:
        """Return all outputs, volt, (cycles, outputs of all), from row fractions, (cycles, rows)."""
        drives = torch.from_numpy(np.ascontiguousarray(rows)).to(self.matrix.device)
        return np.asarray(torch.addmm(self.constant, drives, self.matrix).cpu().numpy())


def _solve(tile: Tile, config: HardwareConfig) -> _SolvedTile:
    plan, seed = tile.plan, config.device.seed
    return _SolvedTile(
        transfer=solve_pulses(tile, config) if config.drive.pulsed else solve_transfer(tile, config),
        dac_errors=draw_errors(config.dac, plan.name, DAC_ERRORS, plan.rows, seed),
        adc_errors=draw_errors(config.adc, plan.name, ADC_ERRORS, plan.columns, seed),
        noise=NoiseSource.of_tile(plan, config, solve_array(tile, config).load) if config.amplifier.noise else None,
    )
