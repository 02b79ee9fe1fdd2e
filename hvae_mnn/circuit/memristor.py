"""The AIST memristor (eqs. 8 and 9 of Hu & Yang 2023): the numpy twin of netlists/memristor_dynamic.lib.

Eq. 8 is R(x) = r_on x + r_off (1 - x), eq. 9 the motion of the state x, with what the netlist
mends in it: thresholds that set in over `v_soft`, a smoothed pole at i = i_0, a window that lets
a cell leave its ends.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from hvae_mnn.hardware.config import AistMemristor, Memristor

Array = NDArray[np.float64]


def state_of(g: Array, memristor: Memristor) -> Array:
    """Return the state x, 0..1, of a conductance in siemens: R = r_on x + r_off (1 - x)."""
    return (memristor.r_off - 1 / g) / (memristor.r_off - memristor.r_on)


def conductance_of(x: Array, memristor: Memristor) -> Array:
    """Return the conductance of a state x, siemens: 1/G = r_on x + r_off (1 - x)."""
    return 1 / (memristor.r_on * x + memristor.r_off * (1 - x))


def state_rate(x: ArrayLike, v: ArrayLike, memristor: AistMemristor) -> Array:
    """Return dx/dt by eq. 9 as the netlist has it, 1/s.

    Args:
        x: States; what lies outside 0..1 counts as the nearer end.
        v: Terminal voltages, volt; broadcast against x.
        memristor: The device.
    """
    bounded = np.clip(np.asarray(x, dtype=np.float64), 0, 1)
    return _rate(bounded, 1 - bounded, np.asarray(v, dtype=np.float64), memristor)


def closed_form_time(g_from: ArrayLike, g_to: ArrayLike, v: ArrayLike, memristor: AistMemristor) -> Array:
    """Return how long a voltage takes from one conductance to another by eq. 9 with f(x) = 1, seconds.

    With K = mobility r_on / thickness^2 and D = r_off - r_on, eqs. 8 and 9 integrate to
        SET    v ln(R/R_0) - i_0 (R - R_0) = -D K i_off t
        RESET  R^2 - R_0^2 = 2 D K |v| t / i_on.

    Args:
        g_from: Conductances at the start, siemens.
        g_to: Conductances at the end, siemens.
        v: Voltages well above v_set or below v_reset, volt; all three broadcast.
        memristor: The device.

    Returns:
        Times; negative where the voltage drives the cell away from g_to.
    """
    m, v = memristor, np.asarray(v, dtype=np.float64)
    r_0, r = 1 / np.asarray(g_from, dtype=np.float64), 1 / np.asarray(g_to, dtype=np.float64)
    speed = (m.r_off - m.r_on) * _mobility_rate(m)
    to_set = (m.i_0 * (r - r_0) - v * np.log(r / r_0)) / m.i_off
    to_reset = m.i_on * (r - r_0) * (r + r_0) / (2 * np.abs(v))
    times: Array = np.where(v > 0, to_set, to_reset) / speed
    return times


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

    def __init__(self, v: float, memristor: AistMemristor) -> None:
        self.v = v
        self._memristor = memristor
        self._forward = v > 0
        ends = np.array([0.0, 1.0])
        rates = state_rate(ends, v, memristor)
        self._fixed = ends[rates == 0]
        self._moves = bool(state_rate(0.5, v, memristor) != 0)
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
        before, after = (self.v**2 * conductance_of(np.clip(x, 0, 1), self._memristor) for x in (x_from, x_to))
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
        rate = np.abs(_rate(x, one_minus_x, np.asarray(self.v), self._memristor))
        return way * rest / rate, self.v**2 * conductance_of(x, self._memristor)


def _mobility_rate(memristor: AistMemristor) -> float:
    """Return K = mobility r_on / thickness^2 of eq. 9, 1/(A s)."""
    return memristor.mobility * memristor.r_on / memristor.thickness**2


def _rate(x: Array, one_minus_x: Array, v: Array, memristor: AistMemristor) -> Array:
    """Return dx/dt, 1/s; 1 - x comes along because it is small, and exact, near x = 1."""
    m = memristor
    i = v / (m.r_on * x + m.r_off * one_minus_x)
    pole = m.pole_width * m.i_0
    above = 0.5 * ((i - m.i_0) + np.sqrt((i - m.i_0) ** 2 + pole**2)) + 1e-6 * m.i_0
    rise = _window(x, one_minus_x, m) * _ramp((v - m.v_set) / m.v_soft) * m.i_off / above
    fall = _window(one_minus_x, x, m) * _ramp((m.v_reset - v) / m.v_soft) * i / m.i_on
    return np.asarray(_mobility_rate(m) * (rise + fall))


def _window(way: Array, rest: Array, memristor: AistMemristor) -> Array:
    """Return f, where `way` = 1 - `rest` is x in a SET and 1 - x in a RESET."""
    p = memristor.window_p
    if memristor.window == "directional":
        return rest * _powers(way, 2 * p)
    paper = 4 * way * rest * _powers((way - rest) ** 2, p)
    return np.maximum(paper, memristor.window_floor * rest)


def _powers(z: Array, count: int) -> Array:
    """Return 1 + z + ... + z^(count - 1); times 1 - z this is 1 - z^count without its rounding."""
    return np.asarray(np.polynomial.polynomial.polyval(z, np.ones(count)))


def _ramp(u: Array) -> Array:
    """Return the cubic step: 0 below u = 0, 1 above u = 1."""
    bounded = np.clip(u, 0, 1)
    return bounded * bounded * (3 - 2 * bounded)
