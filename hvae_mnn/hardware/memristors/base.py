"""What a memristor model owes the rest: its parameters, what a cell conducts at a state, how the state moves."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvae_mnn.hardware.units import Ohm, Positive, Section

Array = NDArray[np.float64]


class Memristor(Section):
    """A two-terminal cell with a state x, 0..1, as a section of the configuration. SI units.

    Below its threshold it is a resistor, R(x) = r_on x + r_off (1 - x) (eq. 8 of Hu & Yang 2023).

    Attributes:
        model: Name of the model, and of the device in decks.
        r_on: Resistance at state x = 1, ohm.
        r_off: Resistance at state x = 0, ohm.
    """

    if TYPE_CHECKING:
        model: str  # a field of each kind, after these two

    r_on: Ohm = Positive
    r_off: Ohm = Positive

    def state(self, g: Array) -> Array:
        """Return the states of conductances in siemens."""
        return (self.r_off - 1 / g) / (self.r_off - self.r_on)

    def conductance(self, x: Array) -> Array:
        """Return the conductances of states, siemens."""
        return 1 / (self.r_on * x + self.r_off * (1 - x))

    def spice_resistance(self, x: str) -> str:
        """Return the resistance of a state as a SPICE expression of it, ohm."""
        return f"{self.r_on:.17g}*({x}) + {self.r_off:.17g}*(1 - ({x}))"

    def problem(self) -> str | None:
        """Say what contradicts itself in the parameters; None if nothing does."""
        return None


class DynamicMemristor(Memristor):
    """A memristor whose state moves: it can be programmed, in numpy and in SPICE.

    Attributes:
        library: Netlist of its subcircuit, `netlists/<library>.lib`: pins p, n and x, parameter x0.
    """

    library: ClassVar[str]

    @property
    @abstractmethod
    def thresholds(self) -> tuple[float, float]:
        """Voltages below and above which the state moves, volt: RESET's, negative, and SET's, positive."""

    @property
    def threshold(self) -> float:
        """The smaller of the two in magnitude, volt."""
        reset, set_ = self.thresholds
        return min(set_, -reset)

    @property
    @abstractmethod
    def threshold_width(self) -> float:
        """How far beyond a threshold motion has set in fully, volt."""

    @abstractmethod
    def rate(self, x: ArrayLike, v: ArrayLike) -> Array:
        """Return dx/dt, 1/s.

        Args:
            x: States; what lies outside 0..1 counts as the nearer end.
            v: Terminal voltages, volt; broadcast against x.
        """

    @abstractmethod
    def rate_near_ends(self, x: Array, one_minus_x: Array, v: Array) -> Array:
        """Return `rate` where 1 - x comes along because it is small, and exact, near x = 1."""

    @abstractmethod
    def time_between(self, g_from: ArrayLike, g_to: ArrayLike, v: ArrayLike) -> Array:
        """Return about how long a voltage takes from one conductance to another, second; write pulses begin there.

        Args:
            g_from: Conductances at the start, siemens.
            g_to: Conductances at the end, siemens.
            v: Voltages well beyond a threshold, volt; all three broadcast.

        Returns:
            Times; negative where the voltage drives the cell away from g_to.
        """

    @abstractmethod
    def netlist_parameters(self) -> Mapping[str, float]:
        """Return the parameters of its subcircuit by name, but for the state x0."""
