"""The nodal engine: the decks' linear circuit solved in numpy, no simulator needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading, adc_errors
from hvae_mnn.engines.stack import TileStack
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.physics.amplifiers import NoiseSource
from hvae_mnn.physics.converters import DAC_ERRORS, Converter, ConverterErrors, draw_errors
from hvae_mnn.physics.crossbar import Transfer, solve_array, solve_transfer
from hvae_mnn.physics.encoding import add_cycles, driver, join_cycles, split_cycles
from hvae_mnn.physics.integrator import PulseTransfer, solve_pulses
from hvae_mnn.plan import LayerPlan, Tile, TilePlan, row_inputs

Array = NDArray[np.float64]


class NodalEngine(ClosingEngine):
    """Every tile as matrices from rows to column voltages, with converters in arithmetic.

    A batch is read by one product for all tiles of a layer. Tiles of hardware that gives each something of its own
    (DAC errors, noise, pulses) are read one by one, as are those in which an amplifier's saturation moves others.
    """

    info = EngineInfo("nodal")

    def __init__(self, build: Build, device: str | None = None) -> None:
        """Solve every tile.

        Args:
            build: A compiled model.
            device: Where torch multiplies batches, such as `cuda`; numpy does if not given.
        """
        hardware = build.manifest.hardware
        self.dac, self.adc = Converter(hardware.dac.bits), Converter(hardware.adc.bits)
        self._hardware, self._driver = hardware, driver(hardware)
        self._layers = {layer.name: layer for layer in build.manifest.layers}
        self._adc_errors = {name: adc_errors(layer, hardware) for name, layer in self._layers.items()}
        self._stacks: dict[str, _Stack | None] = {}
        self._tiles: dict[str, _SolvedTile] = {}
        for name, layer in self._layers.items():
            tiles = {plan.name: _solve(build.tiles[plan.name], hardware) for plan in layer.tiles}
            stack = self._stacks[name] = _Stack.of_tiles(
                layer.tiles, list(tiles.values()), hardware.adc.v_full_scale, device
            )
            if stack is None or stack.solves_again:
                self._tiles |= tiles

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once."""
        return {name: self._read(self._layers[name], values) for name, values in codes.items()}

    def begin(self, number: int) -> None:
        """Start the noise of a batch of sentences."""
        for tile in self._tiles.values():
            if tile.noise:
                tile.noise.begin(number)

    def _read(self, layer: LayerPlan, codes: Array) -> Reading:
        cycles, stack = split_cycles(codes, self._hardware), self._stacks[layer.name]
        if stack is None:
            analog = np.concatenate([self._read_tile(plan, cycles) for plan in layer.tiles], axis=1)
        else:
            analog, saturated = stack.read(self._driver.drive(cycles))
            for (plan, outputs), again in zip(layer.tile_outputs(), saturated, strict=False):
                if again:
                    analog[:, outputs] = self._read_tile(plan, cycles)
        found, clipped = self.adc.read_and_count(analog, self._adc_errors[layer.name])
        return Reading(
            join_cycles(found, self._hardware), join_cycles(analog, self._hardware), add_cycles(clipped, self._hardware)
        )

    def _read_tile(self, plan: TilePlan, cycles: Array) -> Array:
        """Return a tile's columns by itself, fractions of ADC full scale, (cycles, columns)."""
        tile = self._tiles[plan.name]
        rows = row_inputs(plan.inputs, cycles, bias=self._driver.code_max)
        noise = tile.noise.draw(len(rows)) if tile.noise else None
        volts = tile.transfer.read(self._driver.drive(rows, tile.dac_errors, 1 / self.dac.code_max), noise)
        return volts / self._hardware.adc.v_full_scale


@dataclass(frozen=True, slots=True)
class _SolvedTile:
    """A tile's network, its DACs' errors and its amplifiers' noise."""

    transfer: Transfer | PulseTransfer
    dac_errors: ConverterErrors | None
    noise: NoiseSource | None


@dataclass(frozen=True, slots=True)
class _Stack:
    """A layer's tiles, none of which has anything of its own.

    Attributes:
        columns: Volt per full-scale row at every column.
        references: The same at every tile's reference column; None for schemes without.
        starts: The first column of each tile.
        full_scale: Of the ADC, volt.
        limit: Saturation of either sign, fraction of ADC full scale.
        coupled: Whether a column's saturation moves others of its tile; a reference column's always does.
    """

    columns: TileStack
    references: TileStack | None
    starts: NDArray[np.intp]
    full_scale: float
    limit: float
    coupled: bool

    @classmethod
    def of_tiles(
        cls, plans: Sequence[TilePlan], tiles: Sequence[_SolvedTile], full_scale: float, device: str | None
    ) -> Self | None:
        """Stack the matrices of tiles; None where one has something of its own."""
        if any(tile.dac_errors or tile.noise for tile in tiles):
            return None
        transfers = [tile.transfer for tile in tiles if isinstance(tile.transfer, Transfer)]
        if not transfers:
            return None
        limit = transfers[0].limit / full_scale
        return cls(
            columns=_stack_outputs(plans, transfers, slice(0, -1 if plans[0].r_reference else None), device),
            references=_stack_outputs(plans, transfers, slice(-1, None), device) if plans[0].r_reference else None,
            starts=np.cumsum([0, *(plan.columns for plan in plans[:-1])]),
            full_scale=full_scale,
            limit=limit,
            coupled=bool(np.isfinite(limit)) and any(transfer.coupled for transfer in transfers),
        )

    @property
    def solves_again(self) -> bool:
        """Whether a tile in which an amplifier saturates must be read by itself."""
        return np.isfinite(self.limit) and (self.coupled or self.references is not None)

    def read(self, drives: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Read all columns.

        Args:
            drives: Fractions of full scale that the drivers put out, (cycles, inputs).

        Returns:
            Fractions of ADC full scale, (cycles, columns), and whether each tile is to be read again by itself,
            (tiles,); empty where that never is.
        """
        scaled, bias = drives / self.full_scale, 1 / self.full_scale
        outputs = self.columns.read(scaled, bias)
        again = np.zeros(0, dtype=np.bool_)
        if not np.isfinite(self.limit):
            return outputs, again
        if self.coupled:
            again = np.maximum.reduceat(np.abs(outputs).max(axis=0), self.starts) > self.limit
        if self.references is not None:
            beyond = np.abs(self.references.read(scaled, bias)).max(axis=0) > self.limit
            again = again | beyond if self.coupled else beyond
        return np.clip(outputs, -self.limit, self.limit, out=outputs), again


class _TorchStack(TileStack):
    """A stack that torch multiplies, on a device of its own."""

    def to(self, device: str) -> Self:
        """Put the matrices on a device."""
        self._tensor = torch.from_numpy(self._matrix.swapaxes(2, 3)).to(device)
        return self

    def _multiply(self, rows: Array) -> Array:
        return np.asarray(torch.matmul(self._tensor, torch.from_numpy(rows).to(self._tensor.device)).cpu().numpy())


def _stack_outputs(
    plans: Sequence[TilePlan], transfers: Sequence[Transfer], outputs: slice, device: str | None
) -> TileStack:
    """Stack some of the tiles' outputs."""
    matrices = [transfer.matrix[:, outputs] for transfer in transfers]
    constants = [(transfer.v_offset @ transfer.offsets)[outputs] for transfer in transfers]
    given = constants if any(constant.any() for constant in constants) else None
    return TileStack(plans, matrices, given) if device is None else _TorchStack(plans, matrices, given).to(device)


def _solve(tile: Tile, config: HardwareConfig) -> _SolvedTile:
    plan, seed = tile.plan, config.device.seed
    return _SolvedTile(
        transfer=solve_pulses(tile, config) if config.drive.pulsed else solve_transfer(tile, config),
        dac_errors=draw_errors(config.dac, plan.name, DAC_ERRORS, plan.rows, seed),
        noise=NoiseSource.of_tile(plan, config, solve_array(tile, config).load) if config.amplifier.noise else None,
    )
