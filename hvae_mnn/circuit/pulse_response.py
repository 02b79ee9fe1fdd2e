"""What a constant voltage does to the states of many memristors, by look-up instead of integration."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from hvae_mnn.hardware.memristors import DynamicMemristor

Array = NDArray[np.float64]


class PulseResponse:
    """What one constant voltage does to a state: motion and energy as look-ups.

    At a constant voltage dx/dt = f(x) knows no time, so a pulse leads from x_0 to the x_1 with
    T(x_1) = T(x_0) + duration, T(x) = integral dx/f. T and the energy, integral v^2 G/f dx, are
    tabulated over s, the logit of the way gone (x in a SET, 1 - x in a RESET): near an end that
    the state only approaches T is linear in s, and near one that it leaves at a finite speed T is
    proportional to exp(s), so a linear interpolation holds at both. The error in x is below 1e-6
    (tests/references/test_memristor_twin.py).
    """

    _REACH = 37.0  # exp(-37) is below the resolution of 1 - x
    _FAR = 745.0  # exp(-745) is the smallest float64; up to there the ends go on as they are at _REACH
    _STEP = 0.004

    def __init__(self, v: float, memristor: DynamicMemristor) -> None:
        self.v = v
        self._memristor = memristor
        self._forward = v > 0
        ends = np.array([0.0, 1.0])
        rates = memristor.rate(ends, v)
        self._fixed = ends[rates == 0]
        self._moves = bool(memristor.rate(0.5, v) != 0)
        if self._moves:
            self._tabulate(leaves=bool(rates[0 if self._forward else 1] != 0))

    def move(self, x: Array, duration: Array) -> Array:
        """Return the states after a pulse.

        Args:
            x: States before it, 0..1, (cells,).
            duration: Lengths of the pulse, second, (cells,); 0 leaves a state alone.
        """
        x = np.clip(x, 0, 1)
        if not self._moves:
            return x
        times = np.interp(self._way(x), self._places, self._seconds) + duration
        way = np.interp(times, self._seconds, self._places)
        moved = np.maximum(x, expit(way)) if self._forward else np.minimum(x, expit(-way))
        still = np.asarray(duration) <= 0
        for end in self._fixed:
            still = still | (x == end)
        return np.where(still, x, moved)

    def energy(self, x_from: Array, x_to: Array, duration: Array) -> Array:
        """Return what a pulse dissipates in the cells, joule, (cells,).

        Args:
            x_from: States before it, (cells,).
            x_to: What `move` returned for them, (cells,).
            duration: Lengths of the pulse, second, (cells,).
        """
        before, after = (self.v**2 * self._memristor.conductance(np.clip(x, 0, 1)) for x in (x_from, x_to))
        if not self._moves:
            return before * duration
        start, stop = self._way(x_from), self._way(x_to)
        spent = np.interp(stop, self._places, self._joules) - np.interp(start, self._places, self._joules)
        moving = np.interp(stop, self._places, self._seconds) - np.interp(start, self._places, self._seconds)
        by_table = spent + after * (duration - moving)  # the rest of the time it stands at x_to
        return np.where(stop - start < 8 * self._STEP, (before + after) / 2 * duration, by_table)

    def _way(self, x: Array) -> Array:
        """Return s, the logit of the way gone, within the tables."""
        s: Array = np.clip(logit(np.clip(x, 0, 1)), -self._FAR, self._FAR)
        return s if self._forward else -s

    def _tabulate(self, leaves: bool) -> None:
        """Integrate time and energy over s; `leaves` says that the rate at the start of the way is not 0."""
        count = round(2 * self._REACH / self._STEP)
        s, step = np.linspace(-self._REACH, self._REACH, count + 1, retstep=True)
        points, weights = np.polynomial.legendre.leggauss(4)
        within = s[:-1, None] + step * (points + 1) / 2
        slowness, power = self._slowness(within)
        first, first_power = self._slowness(s[0])
        last, last_power = self._slowness(s[-1])
        beyond = self._FAR - self._REACH
        before = first if leaves else first * beyond
        seconds = [np.array([0.0, before]), slowness @ weights * step / 2, np.array([last * beyond])]
        watts = [np.full(2, first_power), np.average(power, axis=1, weights=weights), np.array([last_power])]
        self._places = np.concatenate([[-self._FAR], s, [self._FAR]])
        self._seconds = np.cumsum(np.concatenate(seconds))
        self._joules = np.cumsum(np.concatenate(seconds) * np.concatenate(watts))

    def _slowness(self, s: Array) -> tuple[Array, Array]:
        """Return the time taken for a unit of s, second, and the power, watt, at places s."""
        way, rest = expit(s), expit(-s)
        x, one_minus_x = (way, rest) if self._forward else (rest, way)
        rate = np.abs(self._memristor.rate_near_ends(x, one_minus_x, np.asarray(self.v)))
        return way * rest / rate, self.v**2 * self._memristor.conductance(x)
