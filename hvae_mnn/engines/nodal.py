"""The nodal engine: the decks' linear circuit solved in numpy, no simulator needed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build
from hvae_mnn.engines.base import ClosingEngine, EngineInfo, Reading, adc_errors
from hvae_mnn.engines.stack import TileStack
from hvae_mnn.errors import EngineError
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.physics.amplifiers import NoiseSource
from hvae_mnn.physics.cell_noise import CellNoise
from hvae_mnn.physics.converters import DAC_ERRORS, Converter, ConverterErrors, draw_errors
from hvae_mnn.physics.crossbar import Transfer, solve_array
from hvae_mnn.physics.encoding import add_cycles, driver, join_cycles, split_cycles
from hvae_mnn.physics.integrator import PulseTransfer, solve_tile
from hvae_mnn.plan import LayerPlan, Tile, TilePlan, row_inputs

Array = NDArray[np.float64]


class NodalEngine(ClosingEngine):
    """Every tile as matrices from rows to column voltages, with converters in arithmetic.

    A batch is read by one product for all tiles of a layer, and one more for the noise of their cells. Tiles of
    hardware that gives each something of its own (DAC errors, pulses) are read one by one, as are those in which an
    amplifier's saturation moves others.
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
        self._sources: list[NoiseSource] = []
        for name, layer in self._layers.items():
            tiles = {plan.name: _solve(build.tiles[plan.name], hardware) for plan in layer.tiles}
            self._sources += [source for tile in tiles.values() for source in tile.sources()]
            stack = self._stacks[name] = _Stack.of_tiles(
                layer.tiles, list(tiles.values()), hardware.adc.v_full_scale, device
            )
            if stack is None:
                self._tiles |= tiles
            elif stack.solves_again:
                self._tiles |= {plan: replace(tile, noise=None, cells=None) for plan, tile in tiles.items()}

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once."""
        return {name: self._read(self._layers[name], values) for name, values in codes.items()}

    def begin(self, number: int) -> None:
        """Start the noise of a batch of sentences."""
        for source in self._sources:
            source.begin(number)

    def _read(self, layer: LayerPlan, codes: Array) -> Reading:
        cycles, stack = split_cycles(codes, self._hardware), self._stacks[layer.name]
        if stack is None:
            analog = np.concatenate([self._read_tile(plan, cycles) for plan in layer.tiles], axis=1)
        else:
            drives = self._driver.drive(cycles)
            noise = [tile.source.draw(len(drives)) for tile in stack.amplifiers]
            analog, saturated = stack.read(drives, noise)
            places = list(layer.tile_outputs()) if saturated.any() else []
            for number in np.flatnonzero(saturated):
                plan, outputs = places[number]
                analog[:, outputs] = self._read_tile(plan, cycles, noise[number] if noise else None)
            if stack.cells is not None:
                analog += stack.cells.draw(drives) / stack.full_scale
        found, clipped = self.adc.read_and_count(analog, self._adc_errors[layer.name])
        return Reading(
            join_cycles(found, self._hardware), join_cycles(analog, self._hardware), add_cycles(clipped, self._hardware)
        )

    def _read_tile(self, plan: TilePlan, cycles: Array, noise: Array | None = None) -> Array:
        """Return a tile's columns by itself, fractions of ADC full scale, (cycles, columns).

        Args:
            plan: The tile.
            cycles: Codes of the layer's inputs, (cycles, inputs).
            noise: That of its amplifiers where it is drawn already, volt, (cycles, amplifiers).
        """
        tile = self._tiles[plan.name]
        if tile.noise:
            noise = tile.noise.draw(len(cycles))
        rows = row_inputs(plan.inputs, cycles, bias=self._driver.code_max)
        drives = self._driver.drive(rows, tile.dac_errors, 1 / self.dac.code_max)
        volts = tile.transfer.read(drives, noise)
        if tile.cells:
            volts += tile.cells.draw(drives)
        return volts / self._hardware.adc.v_full_scale


@dataclass(frozen=True, slots=True)
class _SolvedTile:
    """A tile's network, its DACs' errors, its amplifiers' noise and that of its cells."""

    transfer: Transfer | PulseTransfer
    dac_errors: ConverterErrors | None
    noise: NoiseSource | None
    cells: CellNoise | None

    def sources(self) -> Iterator[NoiseSource]:
        """Yield what draws anew in each read."""
        if self.noise:
            yield self.noise
        if self.cells:
            yield self.cells.source


@dataclass(frozen=True, slots=True)
class _AmplifierNoise:
    """Noise of a tile's amplifiers, and volts at their outputs per volt of it, (amplifiers, amplifiers)."""

    source: NoiseSource
    offsets: Array


@dataclass(frozen=True, slots=True)
class _StackedNoise:
    """Noise of the cells of a layer's tiles, the same as tile by tile.

    Attributes:
        squares: Variances at the columns for full-scale rows, volt^2.
        tiles: The tiles' own.
    """

    squares: TileStack
    tiles: Sequence[CellNoise]

    def draw(self, drives: Array) -> Array:
        """Return what is added to the layer's outputs in the next reads, volt, (reads, columns).

        Args:
            drives: Fractions of full scale that the drivers put out, (reads, inputs).
        """
        deviates = [tile.source.draw(len(drives)) for tile in self.tiles]
        return np.sqrt(self.squares.read(self.tiles[0].power(drives), 1.0)) * np.concatenate(deviates, axis=1)


@dataclass(frozen=True, slots=True)
class _Stack:
    """A layer's tiles, none of which has anything of its own but noise.

    Attributes:
        columns: Volt per full-scale row at every column.
        references: The same at every tile's reference column; None for schemes without.
        starts: The first column of each tile.
        full_scale: Of the ADC, volt.
        limit: Saturation of either sign, fraction of ADC full scale.
        coupled: Whether a column's saturation moves others of its tile; a reference column's always does.
        amplifiers: Noise of each tile's amplifiers; empty where they have none.
        cells: Noise of the cells, which `read` leaves out; None where they have none.
    """

    columns: TileStack
    references: TileStack | None
    starts: NDArray[np.intp]
    full_scale: float
    limit: float
    coupled: bool
    amplifiers: Sequence[_AmplifierNoise]
    cells: _StackedNoise | None

    @classmethod
    def of_tiles(
        cls, plans: Sequence[TilePlan], tiles: Sequence[_SolvedTile], full_scale: float, device: str | None
    ) -> Self | None:
        """Stack the matrices of tiles; None where one has something of its own."""
        if any(tile.dac_errors for tile in tiles):
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
            amplifiers=[_AmplifierNoise(tile.noise, tile.transfer.offsets) for tile in tiles if tile.noise],
            cells=_stack_noise(plans, [tile.cells for tile in tiles if tile.cells], device),
        )

    @property
    def solves_again(self) -> bool:
        """Whether a tile in which an amplifier saturates must be read by itself."""
        return np.isfinite(self.limit) and (self.coupled or self.references is not None)

    def read(self, drives: Array, noise: Sequence[Array] = ()) -> tuple[Array, NDArray[np.bool_]]:
        """Read all columns.

        Args:
            drives: Fractions of full scale that the drivers put out, (cycles, inputs).
            noise: Of each tile's amplifiers, if they have any, volt, (cycles, amplifiers).

        Returns:
            Fractions of ADC full scale, (cycles, columns), and whether each tile is to be read again by itself,
            (tiles,); empty where that never is.
        """
        scaled, bias = drives / self.full_scale, 1 / self.full_scale
        outputs = self.columns.read(scaled, bias)
        pairs = zip(noise, self.amplifiers, strict=True)
        moved = [volts @ tile.offsets / self.full_scale for volts, tile in pairs]
        if moved:
            columns = slice(None if self.references is None else -1)
            outputs += np.concatenate([each[:, columns] for each in moved], axis=1)
        again = np.zeros(0, dtype=np.bool_)
        if not np.isfinite(self.limit):
            return outputs, again
        if self.coupled:
            again = np.maximum.reduceat(np.abs(outputs).max(axis=0), self.starts) > self.limit
        if self.references is not None:
            references = self.references.read(scaled, bias)
            if moved:
                references += np.concatenate([each[:, -1:] for each in moved], axis=1)
            beyond = np.abs(references).max(axis=0) > self.limit
            again = again | beyond if self.coupled else beyond
        return np.clip(outputs, -self.limit, self.limit, out=outputs), again


def check_device(device: str) -> None:
    """Refuse a device that torch has not.

    Raises:
        EngineError: With torch's own reason.
    """
    import torch  # numpy multiplies where no device is asked for

    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise EngineError(
            f"device {device}: torch cannot use it ({reason}); expected for example cuda, or none for numpy"
        ) from None


class _TorchStack(TileStack):
    """A stack that torch multiplies, on a device of its own."""

    def to(self, device: str) -> Self:
        """Put the matrices on a device."""
        import torch

        self._torch = torch
        self._tensor = torch.from_numpy(self._matrix.swapaxes(2, 3)).to(device)
        return self

    def _multiply(self, rows: Array) -> Array:
        product = self._torch.matmul(self._tensor, self._torch.from_numpy(rows).to(self._tensor.device))
        return np.asarray(product.cpu().numpy())


def _stack_outputs(
    plans: Sequence[TilePlan], transfers: Sequence[Transfer], outputs: slice, device: str | None
) -> TileStack:
    """Stack some of the tiles' outputs."""
    matrices = [transfer.matrix[:, outputs] for transfer in transfers]
    constants = [(transfer.v_offset @ transfer.offsets)[outputs] for transfer in transfers]
    given = constants if any(constant.any() for constant in constants) else None
    return _stack_matrices(plans, matrices, given, device)


def _stack_noise(plans: Sequence[TilePlan], tiles: Sequence[CellNoise], device: str | None) -> _StackedNoise | None:
    """Stack the noise of the tiles' cells; None where they have none."""
    if not tiles:
        return None
    return _StackedNoise(_stack_matrices(plans, [tile.squares for tile in tiles], None, device), tiles)


def _stack_matrices(
    plans: Sequence[TilePlan], matrices: Iterable[Array], constants: Iterable[Array] | None, device: str | None
) -> TileStack:
    if device is None:
        return TileStack(plans, matrices, constants)
    return _TorchStack(plans, matrices, constants).to(device)


def _solve(tile: Tile, config: HardwareConfig) -> _SolvedTile:
    plan, seed, transfer = tile.plan, config.device.seed, solve_tile(tile, config)
    return _SolvedTile(
        transfer=transfer,
        dac_errors=draw_errors(config.dac, plan.name, DAC_ERRORS, plan.rows, seed),
        noise=NoiseSource.of_tile(plan, config, solve_array(tile, config).load) if config.amplifier.noise else None,
        cells=CellNoise.of_tile(tile, config, transfer),
    )
