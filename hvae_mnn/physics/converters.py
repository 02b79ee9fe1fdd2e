"""DAC and ADC as arithmetic: fractions of full scale to codes and back.

Codes are symmetric, -code_max..code_max with code_max = 2^(bits-1) - 1, so that zero and
both full scales are codes; the nearest code is taken, halves upwards. This is what
`netlists/dac.lib` and `netlists/adc.lib` do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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
        return np.clip(np.floor(fraction * self.code_max + 0.5), -self.code_max, self.code_max)

    def decode(self, codes: Array) -> Array:
        """Return the fractions of full scale that codes stand for."""
        return codes / self.code_max

    def count_clipped(self, fraction: Array) -> int:
        """Return how many fractions lie beyond the outermost code's own interval."""
        if self.bits is None:
            return 0
        return int(np.count_nonzero(np.abs(fraction) * self.code_max >= self.code_max + 0.5))
