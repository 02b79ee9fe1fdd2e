"""What the spice engine sets in a deck before each read: its amplifiers' offsets and its cells' noise."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.amplifiers import NoiseSource, amplifier_offsets
from hvae_mnn.circuit.cell_noise import CellNoise
from hvae_mnn.circuit.converters import DAC_ERRORS, Converter, ConverterErrors, draw_errors
from hvae_mnn.circuit.crossbar import solve_array
from hvae_mnn.circuit.encoding import driver
from hvae_mnn.circuit.integrator import solve_tile
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TileNoise:
    """The noise of a tile's deck, if it has any.

    Attributes:
        names: Names of the deck's voltage sources that carry it.
        offsets: Offsets of the amplifiers, which their noise is added to, volt, (amplifiers,).
        amplifiers: Noise of the amplifiers; None where they have none.
        cells: Noise of the cells; None where they have none.
        driver: The rows' drivers.
        dac_errors: Their errors.
        lsb: One LSB of these errors as a part of full scale.
    """

    names: tuple[str, ...]
    offsets: Array
    amplifiers: NoiseSource | None
    cells: CellNoise | None
    driver: Converter
    dac_errors: ConverterErrors | None
    lsb: float

    @classmethod
    def of_tile(cls, tile: Tile, config: HardwareConfig) -> Self:
        """Return the noise of a tile."""
        plan, names = tile.plan, []
        amplifiers = cells = None
        if config.amplifier.noise:
            amplifiers = NoiseSource.of_tile(plan, config, solve_array(tile, config).load)
        if config.device.read_sigma:
            cells = CellNoise.of_tile(tile, config, solve_tile(tile, config))
        if amplifiers is not None:
            names += [f"v.xamp_{k}.v_os" for k in range(plan.columns)]
            names += ["v.xref.v_os"] if plan.r_reference is not None else []
        if cells is not None:
            names += [f"vread_{k}" for k in range(plan.columns)]
        return cls(
            names=tuple(names),
            offsets=amplifier_offsets(plan, config),
            amplifiers=amplifiers,
            cells=cells,
            driver=driver(config),
            dac_errors=draw_errors(config.dac, plan.name, DAC_ERRORS, plan.rows, config.device.seed),
            lsb=1 / Converter(config.dac.bits).code_max,
        )

    def begin(self, number: int) -> None:
        """Start the sequence of a batch of sentences."""
        for source in self._sources():
            source.begin(number)

    def skip(self, reads: int) -> None:
        """Let reads pass."""
        for source in self._sources():
            source.draw(reads)

    def draw(self, codes: Array) -> Array | None:
        """Return what the sources carry in the next reads, volt, (reads, sources); None without any.

        Args:
            codes: Of the rows, (reads, rows).
        """
        parts = []
        if self.amplifiers is not None:
            parts.append(self.offsets + self.amplifiers.draw(len(codes)))
        if self.cells is not None:
            parts.append(self.cells.draw(self.driver.drive(codes, self.dac_errors, self.lsb)))
        return np.concatenate(parts, axis=1) if parts else None

    def _sources(self) -> list[NoiseSource]:
        cells = None if self.cells is None else self.cells.source
        return [source for source in (self.amplifiers, cells) if source is not None]
