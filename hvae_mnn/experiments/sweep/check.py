"""ngspice beside the nodal engine on the same codes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.engines.base import ClosingEngine, Engine, Reading

Array = NDArray[np.float64]

_ROUNDING = 1e-9  # LSB; cycles of bit-serial reads are added up in another order


class CheckedEngine(ClosingEngine):
    """An engine that answers, and another that is given the same codes, to be compared with it."""

    def __init__(self, engine: Engine, other: Engine) -> None:
        """Take two engines that hold the same Build."""
        self._engine, self._other = engine, other
        self.info, self.dac, self.adc = engine.info, engine.dac, engine.adc
        self._values, self._equal, self._largest_lsb, self._largest_analog = 0, 0, 0.0, 0.0

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers by both engines once; return what the first says."""
        found, others = self._engine.step(codes), self._other.step(codes)
        for name, reading in found.items():
            apart = np.abs(reading.codes - others[name].codes)
            self._values += apart.size
            self._equal += int(np.count_nonzero(apart < _ROUNDING))
            analog = np.abs(reading.analog - others[name].analog)
            self._largest_lsb = float(np.maximum(self._largest_lsb, apart.max()))  # NaN stays NaN
            self._largest_analog = float(np.maximum(self._largest_analog, analog.max()))
        return found

    def summary(self) -> dict[str, float]:
        """Return how many values were read, the share of equal codes, and the largest differences.

        The differences are of codes, LSB, and of the values before the ADC, parts of its full scale.
        """
        return {
            "values": float(self._values),
            "equal_codes": self._equal / self._values,
            "largest_lsb": self._largest_lsb,
            "largest_analog": self._largest_analog,
        }
