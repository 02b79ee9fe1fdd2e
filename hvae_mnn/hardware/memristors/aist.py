"""The AIST memristor (eqs. 8 and 9 of Hu & Yang 2023), the twin of netlists/memristor_dynamic.lib.

Eq. 8 is R(x) = r_on x + r_off (1 - x), eq. 9 the motion of the state x, with what the netlist
mends in it: thresholds that set in over `v_soft`, a smoothed pole at i = i_0, a window that lets
a cell leave its ends. docs/device.md says why and where the parameters are from.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from hvae_mnn.hardware.memristors.base import Array, DynamicMemristor
from hvae_mnn.hardware.units import Ampere, Metre, Positive, Volt, show


class AistMemristor(DynamicMemristor):
    """AIST memristor of Hu & Yang 2023, eqs. 8-9. SI units.

    Attributes:
        v_set: Positive threshold V_T+, volt; below it the state does not move.
        v_reset: Negative threshold V_T-, volt.
        mobility: Ion mobility, m^2/(V s).
        thickness: Film thickness D, metre.
        i_0: Current of eq. 9's pole, ampere.
        i_off: SET rate constant, ampere (per 1 A: eq. 9 is not dimensionally closed).
        i_on: RESET rate constant, ampere (per 1 A).
        window: `paper`, f = 1 - (2x - 1)^2p for both directions, or `directional`, 1 - x^2p
            for SET and 1 - (1 - x)^2p for RESET, which leaves either end at full speed.
        window_p: Exponent p of the window.
        window_floor: Least `paper` window for a move away from an end, which that window alone
            would never let go; 0 is eq. 9 as printed.
        v_soft: Width above either threshold in which motion sets in smoothly, volt.
        pole_width: Half-width of the smoothed pole at i = i_0, as a part of i_0.
    """

    model: Literal["aist"] = "aist"
    v_set: Volt = Positive
    v_reset: Volt = Field(lt=0)
    mobility: float = Positive
    thickness: Metre = Positive
    i_0: Ampere = Positive
    i_off: Ampere = Positive
    i_on: Ampere = Positive
    window: Literal["paper", "directional"] = "paper"
    window_p: int = Field(gt=0)
    window_floor: float = Field(default=0.01, ge=0, le=0.1)
    v_soft: Volt = Field(default=2e-3, gt=0)
    pole_width: float = Field(default=0.02, gt=0, le=0.2)

    library: ClassVar[str] = "memristor_dynamic"

    @property
    def thresholds(self) -> tuple[float, float]:
        """V_T- and V_T+, volt."""
        return self.v_reset, self.v_set

    @property
    def threshold_width(self) -> float:
        """How far beyond a threshold motion has set in fully, volt."""
        return self.v_soft

    def problem(self) -> str | None:
        """Say where a cell in its high state could never be set: i_0 would be above what V_T+ drives through it."""
        limit = self.v_set / self.r_off
        if self.i_0 <= limit * (1 + 1e-9):
            return None
        return (
            f"memristor.i_0 is {show(self.i_0, 'A')} but v_set / r_off is {show(limit, 'A')}: "
            "a cell in its high state could never be set; lower i_0 or r_off"
        )

    def rate(self, x: ArrayLike, v: ArrayLike) -> Array:
        """Return dx/dt by eq. 9 as the netlist has it, 1/s; arguments as `DynamicMemristor.rate`."""
        bounded = np.clip(np.asarray(x, dtype=np.float64), 0, 1)
        return self.rate_near_ends(bounded, 1 - bounded, np.asarray(v, dtype=np.float64))

    def rate_near_ends(self, x: Array, one_minus_x: Array, v: Array) -> Array:
        """Return dx/dt, 1/s; 1 - x comes along because it is small, and exact, near x = 1."""
        i = v / (self.r_on * x + self.r_off * one_minus_x)
        pole = self.pole_width * self.i_0
        above = 0.5 * ((i - self.i_0) + np.sqrt((i - self.i_0) ** 2 + pole**2)) + 1e-6 * self.i_0
        rise = self._window(x, one_minus_x) * _ramp((v - self.v_set) / self.v_soft) * self.i_off / above
        fall = self._window(one_minus_x, x) * _ramp((self.v_reset - v) / self.v_soft) * i / self.i_on
        return np.asarray(self._mobility_rate * (rise + fall))

    def time_between(self, g_from: ArrayLike, g_to: ArrayLike, v: ArrayLike) -> Array:
        """Return how long a voltage takes from one conductance to another by eq. 9 with f(x) = 1, seconds.

        With K = mobility r_on / thickness^2 and D = r_off - r_on, eqs. 8 and 9 integrate to
            SET    v ln(R/R_0) - i_0 (R - R_0) = -D K i_off t
            RESET  R^2 - R_0^2 = 2 D K |v| t / i_on.

        Arguments as `DynamicMemristor.time_between`.
        """
        v = np.asarray(v, dtype=np.float64)
        r_0, r = 1 / np.asarray(g_from, dtype=np.float64), 1 / np.asarray(g_to, dtype=np.float64)
        speed = (self.r_off - self.r_on) * self._mobility_rate
        to_set = (self.i_0 * (r - r_0) - v * np.log(r / r_0)) / self.i_off
        to_reset = self.i_on * (r - r_0) * (r + r_0) / (2 * np.abs(v))
        times: Array = np.where(v > 0, to_set, to_reset) / speed
        return times

    def netlist_parameters(self) -> Mapping[str, float]:
        """Return the parameters of `netlists/memristor_dynamic.lib`, but for the state x0."""
        names = ("r_on", "r_off", "v_set", "v_reset", "mobility", "thickness", "i_0", "i_off", "i_on")
        names_of_mends = ("window_p", "window_floor", "v_soft", "pole_width")
        return {
            **{name: getattr(self, name) for name in names},
            "window": int(self.window == "directional"),
            **{name: getattr(self, name) for name in names_of_mends},
        }

    @property
    def _mobility_rate(self) -> float:
        """K = mobility r_on / thickness^2 of eq. 9, 1/(A s)."""
        return self.mobility * self.r_on / self.thickness**2

    def _window(self, way: Array, rest: Array) -> Array:
        """Return f, where `way` = 1 - `rest` is x in a SET and 1 - x in a RESET."""
        p = self.window_p
        if self.window == "directional":
            return rest * _powers(way, 2 * p)
        paper = 4 * way * rest * _powers((way - rest) ** 2, p)
        return np.maximum(paper, self.window_floor * rest)


def _powers(z: Array, count: int) -> Array:
    """Return 1 + z + ... + z^(count - 1); times 1 - z this is 1 - z^count without its rounding."""
    return np.asarray(np.polynomial.polynomial.polyval(z, np.ones(count)))


def _ramp(u: Array) -> Array:
    """Return the cubic step: 0 below u = 0, 1 above u = 1."""
    bounded = np.clip(u, 0, 1)
    return bounded * bounded * (3 - 2 * bounded)
