"""What a die gives a tile besides its cells: errors of its converters and amplifiers, and what makes noise in it.

Decks, the nodal and the spice engine take it from here, so that they are of the same die.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.amplifiers import NoiseSource, amplifier_offsets
from hvae_mnn.circuit.cell_noise import CellNoise
from hvae_mnn.circuit.converters import ConverterErrors, draw_converter_errors
from hvae_mnn.circuit.crossbar import Transfer, solve_array
from hvae_mnn.circuit.integrator import PulseTransfer
from hvae_mnn.circuit.plan import LayerPlan, Tile, TilePlan
from hvae_mnn.circuit.streams import Purpose
from hvae_mnn.hardware.config import HardwareConfig


@dataclass(frozen=True, slots=True)
class TileErrors:
    """Errors of a tile's converters and amplifiers, which stay from read to read.

    Attributes:
        dac: Of the rows' DACs; None where they have none.
        adc: Of the columns' ADCs; None where they have none.
        offsets: Of the amplifiers, volt, (amplifiers,).
    """

    dac: ConverterErrors | None
    adc: ConverterErrors | None
    offsets: NDArray[np.float64]

    @classmethod
    def of_tile(cls, plan: TilePlan, config: HardwareConfig) -> "TileErrors":
        """Draw a tile's errors."""
        seed = config.device.seed
        return cls(
            dac=draw_converter_errors(config.dac, plan.name, Purpose.DAC_ERRORS, plan.rows, seed),
            adc=draw_converter_errors(config.adc, plan.name, Purpose.ADC_ERRORS, plan.columns, seed),
            offsets=amplifier_offsets(plan, config),
        )


@dataclass(frozen=True, slots=True)
class TileNoise:
    """What a tile draws anew in each read.

    Attributes:
        amplifiers: Noise of its amplifiers; None where they have none.
        cells: Noise of its cells; None where they have none.
    """

    amplifiers: NoiseSource | None
    cells: CellNoise | None

    @classmethod
    def of_tile(cls, tile: Tile, config: HardwareConfig, transfer: Transfer | PulseTransfer) -> "TileNoise":
        """Return the noise of a tile that is solved."""
        noisy = config.amplifier.noise > 0
        return cls(
            amplifiers=NoiseSource.of_tile(tile.plan, config, solve_array(tile, config).load) if noisy else None,
            cells=CellNoise.of_tile(tile, config, transfer),
        )

    def sources(self) -> Iterator[NoiseSource]:
        """Yield its streams."""
        if self.amplifiers is not None:
            yield self.amplifiers
        if self.cells is not None:
            yield self.cells.source


def layer_adc_errors(layer: LayerPlan, config: HardwareConfig) -> ConverterErrors | None:
    """Return the errors of all ADCs of a layer, output after output; None where they have none."""
    errors = [each for each in (TileErrors.of_tile(plan, config).adc for plan in layer.tiles) if each is not None]
    if not errors:
        return None
    return ConverterErrors(errors[0].offset, errors[0].gain_error, np.concatenate([each.inl for each in errors]))
