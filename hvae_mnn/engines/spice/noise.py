"""What the spice engine sets in a deck before each read: its amplifiers' offsets and its cells' noise."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.die import TileErrors, TileNoise
from hvae_mnn.circuit.encoding import driver
from hvae_mnn.circuit.integrator import solve_tile
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.spice import names
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DeckNoise:
    """The noise of a tile's deck, if it has any.

    Attributes:
        sources: Names of the deck's voltage sources that carry it.
        errors: Errors of the tile; the amplifiers' noise is added to their offsets.
        noise: What it draws anew in each read.
        driver: The rows' drivers.
        lsb: One LSB of their errors as a part of full scale.
    """

    sources: tuple[str, ...]
    errors: TileErrors
    noise: TileNoise
    driver: Converter
    lsb: float

    @classmethod
    def of_tile(cls, tile: Tile, config: HardwareConfig) -> Self:
        """Return the noise of a tile."""
        noisy = config.amplifier.noise > 0 or config.device.read_sigma > 0
        noise = TileNoise.of_tile(tile, config, solve_tile(tile, config)) if noisy else TileNoise(None, None)
        return cls(
            sources=tuple(_source_names(tile, noise)),
            errors=TileErrors.of_tile(tile.plan, config),
            noise=noise,
            driver=driver(config),
            lsb=1 / Converter(config.dac.bits).code_max,
        )

    def begin(self, number: int) -> None:
        """Start the sequence of a batch of sentences."""
        for source in self.noise.sources():
            source.begin(number)

    def skip(self, reads: int) -> None:
        """Let reads pass."""
        for source in self.noise.sources():
            source.draw(reads)

    def draw(self, codes: Array) -> Array | None:
        """Return what the sources carry in the next reads, volt, (reads, sources); None without any.

        Args:
            codes: Of the rows, (reads, rows).
        """
        parts = []
        if self.noise.amplifiers is not None:
            parts.append(self.errors.offsets + self.noise.amplifiers.draw(len(codes)))
        if self.noise.cells is not None:
            parts.append(self.noise.cells.draw(self.driver.drive(codes, self.errors.dac, self.lsb)))
        return np.concatenate(parts, axis=1) if parts else None


def _source_names(tile: Tile, noise: TileNoise) -> list[str]:
    sources, plan = [], tile.plan
    if noise.amplifiers is not None:
        sources += [names.offset_source(k) for k in range(plan.columns)]
        sources += [names.offset_source(names.REFERENCE)] if plan.r_reference is not None else []
    if noise.cells is not None:
        sources += [names.read_noise_source(k).lower() for k in range(plan.columns)]
    return sources
