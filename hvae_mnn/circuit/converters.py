"""DAC and ADC as arithmetic: fractions of full scale to codes and back.

Codes are symmetric, -code_max..code_max with code_max = 2^(bits-1) - 1, so that zero and
both full scales are codes; the nearest code is taken, halves upwards. This is what
`netlists/dac.lib` and `netlists/adc.lib` do. Errors are those of `netlists/dac_real.lib` and
`netlists/adc_real.lib`, in the same order of operations.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.streams import Purpose, keyed_stream
from hvae_mnn.hardware.config import Adc, Dac

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_HARMONICS = np.arange(2, 6)
_STEEPEST = 0.9  # of the profile, LSB per LSB; below 1 a converter stays monotonic


@dataclass(frozen=True, slots=True)
class ConverterErrors:
    """Errors of the converters of one tile, one a row or a column.

    Attributes:
        offset: Offset of every converter, LSB.
        gain_error: Relative error of every full scale.
        inl: Amplitudes i2 .. i5 of each converter's nonlinearity, LSB, (count, 4).
    """

    offset: float
    gain_error: float
    inl: Array

    def parameters(self, index: int) -> str:
        """Return the parameters of one converter as `dac_real` and `adc_real` take them."""
        named = {"offset": self.offset, "gain_error": self.gain_error}
        named |= {f"i{k}": float(i_k) for k, i_k in zip(_HARMONICS, self.inl[index], strict=True)}
        return " ".join(f"{name}={value:.17g}" for name, value in named.items())

    def profile(self, x: Array) -> Array:
        """Return the nonlinearity, LSB, where x is -1 and 1 at the ends; shapes (batch, count)."""
        u = np.pi * (x + 1) / 2
        first, *others = (self.inl[:, j] * np.sin(k * u) for j, k in enumerate(_HARMONICS))
        return np.asarray(sum(others, start=first))


def draw_converter_errors(
    settings: Dac | Adc, name: str, purpose: Purpose, count: int, seed: int
) -> ConverterErrors | None:
    """Return the errors of a tile's converters; None where they have none.

    Each converter draws a smooth nonlinearity of its own. Its amplitudes add up to `settings.inl`,
    or to the largest sum that surely leaves it monotonic.

    Args:
        settings: Resolution and sizes of the errors; without bits there are none.
        name: The tile's name, which keys its converters.
        purpose: `DAC_ERRORS` or `ADC_ERRORS`.
        count: Number of converters.
        seed: Seed of every device's error.
    """
    if settings.bits is None or not (settings.offset or settings.gain_error or settings.inl):
        return None
    drawn = keyed_stream(seed, name, purpose).uniform(-1, 1, (count, len(_HARMONICS)))
    share = drawn / np.abs(drawn).sum(axis=1, keepdims=True)
    slope = np.abs(share) @ _HARMONICS * np.pi / (2 * Converter(settings.bits).code_max - 1)
    total = np.minimum(settings.inl, _STEEPEST / slope)
    return ConverterErrors(settings.offset, settings.gain_error, share * total[:, None])


@dataclass(frozen=True, slots=True)
class Converter:
    """A converter of either direction.

    Attributes:
        bits: Resolution with sign; None passes fractions of full scale unchanged.
    """

    bits: int | None

    @property
    def code_max(self) -> float:
        """The code of full scale; 1 where fractions pass through."""
        return 1.0 if self.bits is None else float(2 ** (self.bits - 1) - 1)

    def encode(self, fraction: Array) -> Array:
        """Return the codes of fractions of full scale; beyond full scale they clip."""
        if self.bits is None:
            return fraction
        return self._nearest(fraction * self.code_max)

    def decode(self, codes: Array) -> Array:
        """Return the fractions of full scale that codes stand for."""
        return codes if self.bits is None else codes / self.code_max

    def drive(self, codes: Array, errors: ConverterErrors | None = None, lsb: float | None = None) -> Array:
        """Return the fractions of full scale that a DAC puts out, (batch, count).

        It takes the nearest code, halves upwards, and clips beyond full scale. Its output never
        falls as the code rises. Without bits codes are fractions, and pass without errors.

        Args:
            codes: Input codes, (batch, count).
            errors: Errors of the count converters; None for none.
            lsb: One LSB of the errors as a part of full scale, where it is not 1 / code_max: a
                driver of one bit has the LSB of the converter that it serves.
        """
        if self.bits is None:
            return codes
        x = self._nearest(codes) / self.code_max
        if errors is None:
            return x
        lsb = 1 / self.code_max if lsb is None else lsb
        return (1 + errors.gain_error) * (x + lsb * (errors.offset + errors.profile(x)))

    def read(self, fractions: Array, errors: ConverterErrors | None = None) -> Array:
        """Return the codes that an ADC gives for fractions of full scale, (batch, count).

        It gives the nearest code, halves upwards, and clips beyond full scale; more in is never a
        lower code. Without bits fractions pass without errors.

        Args:
            fractions: Inputs as parts of full scale, (batch, count).
            errors: Errors of the count converters; None for none.
        """
        if self.bits is None:
            return fractions
        return self._nearest(self._before_rounding(fractions, errors))

    def count_clipped(self, fraction: Array, errors: ConverterErrors | None = None) -> Counts:
        """Return how many fractions of (batch, count) lie beyond the outermost code's own interval, (batch,)."""
        if self.bits is None:
            return np.zeros(len(fraction), dtype=np.int64)
        return self._count_beyond(self._before_rounding(fraction, errors))

    def read_and_count(self, fractions: Array, errors: ConverterErrors | None = None) -> tuple[Array, Counts]:
        """Return what `read` and `count_clipped` do, at once."""
        if self.bits is None:
            return fractions, np.zeros(len(fractions), dtype=np.int64)
        exact = self._before_rounding(fractions, errors)
        return self._nearest(exact), self._count_beyond(exact)

    def _count_beyond(self, exact: Array) -> Counts:
        return np.asarray(np.count_nonzero(np.abs(exact) >= self.code_max + 0.5, axis=1))

    def _before_rounding(self, fractions: Array, errors: ConverterErrors | None) -> Array:
        """Return what an ADC rounds, in codes."""
        if errors is None:
            return fractions * self.code_max
        y = fractions * self.code_max * (1 + errors.gain_error) + errors.offset
        # The last transition is half an LSB below the last code: there the profile ends.
        x = np.clip(y / (self.code_max - 0.5), -1, 1)
        return np.asarray(y + errors.profile(x))

    def _nearest(self, codes: Array) -> Array:
        """Return the nearest codes, halves upwards, within full scale."""
        return np.clip(np.floor(codes + 0.5), -self.code_max, self.code_max)
