"""A tile with integrators solved for all pulse widths.

Rows are at +-v_read for a time proportional to their input. A column's integrator has C_f between its bit line, at u,
and its output o, which an amplifier of gain A, offset V_os and unity-gain frequency w drives. With J(t) the current
into the grounded column and Y the admittance between the columns, q = u - o obeys

    C_f q' = J(t) - Y u,    u = (q + A V_os)/(1 + A) + q' (A/(1 + A))^2 / w

where the amplifier's own pole is followed at once (it settles within nanoseconds, and what it misses at
a pulse's beginning it gives back at the end). That is linear with constant coefficients, so that a pulse of length d
leaves an exponential series in d: `matrices` are its terms. A reference column has a transimpedance; it is
eliminated first, and adds its current to every other column.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from hvae_mnn.circuit.amplifiers import amplifier_offsets, feedback_capacitance
from hvae_mnn.circuit.crossbar import Transfer, solve_array, solve_transfer
from hvae_mnn.circuit.plan import Tile, TilePlan
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import (
    LONGEST_PULSE,
    PULSE_SHARE,
    PULSE_START,
    R_RESET,
    RESET_STOP,
    SAMPLE_STOP,
    TRACKING,
    pulse_ramp,
    pulse_ticks,
    pulse_time,
)

Array = NDArray[np.float64]

_NEGLIGIBLE = 1e-13  # of the first term: where the series in d ends
_GRID = 128  # instants at which a pulse of full scale is looked at for saturation
_FINEST = 1 / 256  # of a pulse of full scale: largest step of the integration through saturation
_STABLE = 0.25  # the same in time constants of a clamped column


@dataclass(frozen=True, slots=True)
class Dynamics:
    """The columns' equations of motion; see the module.

    Attributes:
        c_f: Feedback capacitance, farad.
        y: Admittance between the columns, siemens, (columns, columns).
        drift: Current at zero input per volt of an amplifier's offset, siemens, (amplifiers, columns).
        currents: Ampere into a grounded column per full-scale row, (rows, columns).
        gain: Open-loop gain, V/V.
        omega: Unity-gain frequency, rad/s.
        pulse: Length of a pulse of full scale, second.
        lead: Time from reset to the first edge, second; a drive that settles is as much later.
        tail: Time from the last edge of full scale to what is sampled, second.
        ramp: Rise and fall time of a pulse as a part of full scale.
        delayed: What of `currents` comes through the reference column, (rows, columns).
        delay: How far its amplifier is behind, second.
    """

    c_f: float
    y: Array
    drift: Array
    currents: Array
    gain: float
    omega: float
    pulse: float
    lead: float
    tail: float
    ramp: float
    delayed: Array
    delay: float

    @property
    def inertia(self) -> Array:
        """C_f and what the amplifier's pole adds to it, farad, (columns, columns)."""
        return self.c_f * np.eye(len(self.y)) + self.y * self.lag

    @property
    def lag(self) -> float:
        """How much u follows q', second: the pole's 1/w in the closed loop."""
        return (1 + 1 / self.gain) ** -2 / self.omega


@dataclass(frozen=True, slots=True)
class PulseTransfer:
    """A tile as a map from signed pulse lengths to its columns' sampled outputs.

    While no amplifier saturates on the way that is sum_p sign(x) |x|^(p + 1) @ matrices[p] + v_offset @ offsets.
    A column that does is integrated step by step.

    Attributes:
        matrices: Volt per full-scale pulse, each (rows, columns).
        offsets: Volt at an output per volt of an amplifier's offset, (amplifiers, columns).
        v_offset: Offsets, volt, (amplifiers,).
        limit: Saturation of either sign, volt.
        slopes: Volt per full-scale pulse before any of it has decayed, (rows, columns).
        per_ampere: Volt at each column's output per ampere out of its bit line besides, for a pulse of full
            scale, (columns,); for shorter ones in proportion, to first order in what decays.
        dynamics: What the step-by-step integration needs; None for ideal amplifiers.
    """

    matrices: tuple[Array, ...]
    offsets: Array
    v_offset: Array
    limit: float
    slopes: Array
    per_ampere: Array
    dynamics: Dynamics | None

    def read(self, rows: Array, noise: Array | None = None) -> Array:
        """Return column voltages, (batch, columns).

        Args:
            rows: Signed pulse lengths as parts of full scale, (batch, rows); LONGEST_PULSE at most.
            noise: What is added to the offsets in each read, volt, (batch, amplifiers).
        """
        rows = np.clip(rows, -LONGEST_PULSE, LONGEST_PULSE)
        v_offset = self.v_offset if noise is None else self.v_offset + noise
        v_offset = np.broadcast_to(v_offset, (len(rows), len(self.v_offset)))
        outputs = v_offset @ self.offsets
        for p, matrix in enumerate(self.matrices):
            outputs += (np.sign(rows) * np.abs(rows) ** (p + 1)) @ matrix
        if self.dynamics is not None:
            saturates = self._saturates(rows, np.abs(v_offset) @ np.abs(self.offsets))
            if len(saturates):
                outputs[saturates] = _integrate(self.dynamics, rows[saturates], v_offset[saturates], self.limit)
        return outputs

    def _saturates(self, rows: Array, margin: Array) -> NDArray[np.intp]:
        """Return the samples in which a column passes its limit at some time, whatever it ends at."""
        bound = (np.abs(rows) @ np.abs(self.slopes) + margin).max(axis=1)
        possible = np.flatnonzero(bound > self.limit)
        peak = np.zeros(len(possible))
        some, signs = np.abs(rows[possible]), np.sign(rows[possible])
        for instant in np.linspace(0, some.max(initial=0), _GRID + 1)[1:]:
            way = (signs * np.minimum(some, instant)) @ self.slopes
            peak = np.maximum(peak, (np.abs(way) + margin[possible]).max(axis=1))
        return possible[peak > self.limit]


def solve_tile(tile: Tile, config: HardwareConfig) -> Transfer | PulseTransfer:
    """Solve a tile's network once for whatever its rows carry, amplitudes or pulses."""
    return solve_pulses(tile, config) if config.drive.pulsed else solve_transfer(tile, config)


def solve_pulses(tile: Tile, config: HardwareConfig) -> PulseTransfer:
    """Solve a tile's network with integrators once, for all pulse lengths."""
    plan, amplifier = tile.plan, config.amplifier
    dynamics = _dynamics(tile, config)
    if amplifier.gain is None:
        matrix = -dynamics.currents * (dynamics.pulse / dynamics.c_f)
        zero = np.zeros_like(dynamics.drift)
        per_ampere = np.full(plan.columns, dynamics.pulse / dynamics.c_f)
        return PulseTransfer((matrix,), zero, amplifier_offsets(plan, config), np.inf, matrix, per_ampere, None)
    inverse = np.asarray(np.linalg.inv(dynamics.inertia), dtype=np.float64)
    decay = inverse @ dynamics.y / (1 + amplifier.gain)
    out = -amplifier.gain / (1 + amplifier.gain) * np.eye(len(decay)) - decay * dynamics.lag  # o over q
    after = out @ expm(-decay * (dynamics.pulse + dynamics.tail))
    return PulseTransfer(
        matrices=_series(dynamics, after, decay, inverse),
        offsets=_offset_response(dynamics, decay, inverse, out),
        v_offset=amplifier_offsets(plan, config),
        limit=amplifier.v_saturation,
        slopes=dynamics.currents @ inverse.T * dynamics.pulse,
        per_ampere=-np.diag(after @ inverse) * dynamics.pulse,
        dynamics=dynamics,
    )


def _dynamics(tile: Tile, config: HardwareConfig) -> Dynamics:
    """Set the columns' equations up, the reference column eliminated."""
    plan, ports, amplifier, cycle = tile.plan, solve_array(tile, config), config.amplifier, config.timing.cycle
    gain = np.inf if amplifier.gain is None else amplifier.gain
    omega = 2 * np.pi * amplifier.gain_bandwidth
    y, drift, currents = _without_reference(plan, ports.load, ports.transfer, gain)
    return Dynamics(
        c_f=feedback_capacitance(plan, config, ports.load),
        y=y,
        drift=drift,
        currents=config.drive.v_read * currents,
        gain=gain,
        omega=omega,
        pulse=pulse_time(config),
        lead=(PULSE_START - RESET_STOP) * cycle + config.dac.settling,
        tail=(SAMPLE_STOP - PULSE_START - PULSE_SHARE) * cycle - config.dac.settling - TRACKING,
        ramp=pulse_ramp(config) / pulse_ticks(config),
        delayed=config.drive.v_read * (currents - ports.transfer[:, : plan.columns]),
        delay=_reference_delay(plan, ports.load) / omega,
    )


def _without_reference(plan: TilePlan, load: Array, transfer: Array, gain: float) -> tuple[Array, Array, Array]:
    """Return Y of the columns alone, current per volt of offset at u = V_os, and current per volt of drive.

    The reference amplifier puts out o_r = (Y_rc u_c - i_r + (Y_rr + 1/R) V_r)/D, D = 1/R + (Y_rr + 1/R)/A.
    """
    n = plan.columns
    if plan.r_reference is None:
        return load, -load.T, transfer
    g = 1 / plan.r_reference
    of_reference = load[n, n] + g
    reach = (g + load[:n, n] / gain) / (g + of_reference / gain)  # of o_r's terms into each column
    y = load[:n, :n] + g * np.eye(n) - np.outer(reach, load[n, :n])
    drift = np.vstack([-y.T, (reach * of_reference - load[:n, n])[None]])
    return y, drift, transfer[:, :n] - np.outer(transfer[:, n], reach)


def _reference_delay(plan: TilePlan, load: Array) -> float:
    """Return the noise gain of a reference column's amplifier, which over omega is its time constant; 0 without one."""
    return 0.0 if plan.r_reference is None else 1 + plan.r_reference * float(load[-1, -1])


def _series(dynamics: Dynamics, after: Array, decay: Array, inverse: Array) -> tuple[Array, ...]:
    """Return the terms of `after` times the integral of exp(decay s) over a pulse, per row.

    What comes through the reference column arrives later, and decays less.
    """
    terms, power, late = [], inverse * dynamics.pulse, after @ expm(decay * dynamics.delay)
    first, direct = np.abs(power).max(), dynamics.currents - dynamics.delayed
    while np.abs(power).max() > _NEGLIGIBLE * first:
        terms.append(direct @ (after @ power).T + dynamics.delayed @ (late @ power).T)
        power = decay @ power * (dynamics.pulse / (len(terms) + 1))
    return tuple(terms)


def _offset_response(dynamics: Dynamics, decay: Array, inverse: Array, out: Array) -> Array:
    """Return volts at the sampled outputs per volt of each amplifier's offset, (amplifiers, columns)."""
    n, amplifiers = len(decay), len(dynamics.drift)
    time = dynamics.lead + dynamics.pulse + dynamics.tail
    pushed = inverse @ dynamics.drift.T  # with u = V_os
    start = R_RESET * dynamics.drift.T  # the closed switch carries the drift
    system = np.zeros((n + amplifiers, n + amplifiers))
    own = np.eye(n, amplifiers)
    # u is (q + A V)/(1 + A), which is V less (V - q)/(1 + A): q' = pushed V + decay (V - q)
    system[:n, :n], system[:n, n:] = -decay, pushed + decay @ own
    whole = expm(system * time)
    q = whole[:n, :n] @ start + whole[:n, n:]
    gain = dynamics.gain
    rate = (pushed + decay @ own - decay @ q) * dynamics.lag
    # o = u - q, with u of the module's second equation
    response = (q + gain * own) / (1 + gain) + rate - q
    return np.asarray(response.T)


def _integrate(dynamics: Dynamics, rows: Array, v_offset: Array, limit: float) -> Array:
    """Return the sampled outputs of columns that saturate on the way, by Runge-Kutta steps, (batch, columns).

    At its limit an amplifier leaves the virtual ground: u = q +- limit.
    """
    n, y, c_f, gain = len(dynamics.y), dynamics.y, dynamics.c_f, dynamics.gain
    lag = np.eye(n) - c_f * np.linalg.inv(dynamics.inertia)
    v = v_offset[:, :n]
    steady = v_offset @ dynamics.drift + v @ y.T  # what flows at u = 0

    def slope(q: Array, current: Array) -> Array:
        free = gain * (v - q) / (1 + gain)
        u = q + np.clip(free, -limit, limit)
        pushed = (current + steady - u @ y.T) / c_f
        return np.asarray(pushed - np.where(np.abs(free) < limit, pushed, 0.0) @ lag.T)

    def driven(time: float) -> Array:
        """Return the rows' mean currents from a time after the pulses' beginning to the step's end."""
        direct = _mean_pulse(rows, time, step, dynamics) @ dynamics.currents
        if dynamics.delay == 0:
            return np.asarray(direct)
        late = _mean_pulse(rows, time - dynamics.delay, step, dynamics) - _mean_pulse(rows, time, step, dynamics)
        return np.asarray(direct + late @ dynamics.delayed)

    whole = dynamics.lead + dynamics.pulse + dynamics.tail
    fastest = np.abs(y).sum(axis=1).max() / c_f
    steps = int(np.ceil(whole / min(_FINEST * dynamics.pulse, _STABLE / fastest)))
    step, q = whole / steps, R_RESET * (v_offset @ dynamics.drift)
    for number in range(steps):
        current = driven(number * step - dynamics.lead)
        a = slope(q, current)
        b = slope(q + step / 2 * a, current)
        c = slope(q + step / 2 * b, current)
        d = slope(q + step * c, current)
        q = q + step / 6 * (a + 2 * b + 2 * c + d)
    return np.clip(gain * (v - q) / (1 + gain), -limit, limit)


def _mean_pulse(rows: Array, time: float, step: float, dynamics: Dynamics) -> Array:
    """Return the mean of `netlists/pulse_width.lib` over a step: charge then is exact wherever edges lie."""

    def area(since: Array | float) -> Array:
        """Return the integral of a ramp from 0 to 1, centred on 0."""
        z = np.clip(np.asarray(since) / ramp, -0.5, None)
        return np.asarray(ramp * np.where(z < 0.5, (z + 0.5) ** 2 / 2, z))

    ramp, lengths = dynamics.ramp * dynamics.pulse, np.abs(rows) * dynamics.pulse
    rise = area(time + step) - area(time)
    fall = area(time + step - lengths) - area(time - lengths)
    return np.sign(rows) * (rise - fall) / step
