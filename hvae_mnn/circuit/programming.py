"""Write-verify: read a cell, pulse it towards its target, until it is within tolerance.

The controller is one piece of code; what it writes is a `CellBank`: `TwinCells` here, in
numpy, or `hvae_mnn.engines.spice.cells.SpiceCells`. Both get the same random numbers (`Draws`), so
that they can be compared cell by cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.pulse_response import PulseResponse
from hvae_mnn.circuit.streams import Purpose, keyed_stream
from hvae_mnn.circuit.variation import stuck_cells
from hvae_mnn.hardware.cells import ErrorModel, Programming
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.memristors import DynamicMemristor

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

REACHED, GAVE_UP, STUCK = 0, 1, 2
"""How a cell ended: within tolerance, not within `max_pulses`, or without any answer to pulses."""

_SILENT = 8
"""Pulses in a row that a stuck cell does not answer: chosen. Each is twice the one before, 255 times the first in all;
a cell at the very end of the paper's window needs some 15 times to get under way."""
_FAR = 10
"""How far those pulses should have moved it, in movements that reads can just tell: chosen."""
_BOOSTS = (1 / 64, 4096.0)
"""Bounds of a cell's boost: chosen, wider than devices of rate_d2d = 1 and either window ask for."""
_PER_BIN, _BINS, _DEGREE = 50, 24, 3
"""Cells in a bin of an error model at least, bins at most, highest degree: chosen."""


class CellBank(Protocol):
    """Some memristors that can be pulsed and read."""

    def read(self) -> Array:
        """Return the conductances, siemens, (cells,), without noise."""
        ...

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        """Give each cell a rectangular pulse.

        Args:
            volts: Amplitudes, volt, (cells,); 0 leaves a cell alone.
            widths: Lengths, second, (cells,).
            rates: Factors on the speed of each cell's state in this pulse, (cells,).

        Returns:
            Energies, joule, (cells,).
        """
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What write-verify made of some cells.

    Attributes:
        g_target: Targets, siemens, (cells,).
        g: Conductances in the end, siemens, without read noise, (cells,).
        pulses: Pulses given, (cells,).
        energy: Energy of the pulses, joule, (cells,).
        status: REACHED, GAVE_UP or STUCK, (cells,).
        history: Measured conductances at each verifying read, siemens, each (cells,); empty
            where it was not asked for.
    """

    g_target: Array
    g: Array
    pulses: NDArray[np.int64]
    energy: Array
    status: NDArray[np.int8]
    history: tuple[Array, ...]


class Draws:
    """All random numbers of a write-verify run, keyed by seed, tile and round.

    A selection of cells draws what the same cells draw as part of their whole tiles. Stuck cells are
    those of `hvae_mnn.circuit.variation`.
    """

    def __init__(self, tiles: Sequence[tuple[str, int, Indices | None]], config: HardwareConfig) -> None:
        """Take the tiles (name, number of cells, chosen cells or None for all) and the hardware."""
        self._tiles, self._seed, self._programming = tuple(tiles), config.device.seed, config.write_pulses()
        stuck = [stuck_cells((size,), name, config)[slice(None) if c is None else c] for name, size, c in self._tiles]
        self.stuck: NDArray[np.int8] = np.concatenate(stuck)
        self._speed = np.exp(self._programming.rate_d2d * self._normal(Purpose.PULSE_RESPONSE, 0)) * (self.stuck == 0)

    def rates(self, round_: int) -> Array:
        """Return each cell's speed in a round's pulse, as a factor, (cells,); 0 where it is stuck."""
        rates: Array = self._speed * np.exp(self._programming.rate_c2c * self._normal(Purpose.PULSES, round_))
        return rates

    def noise(self, round_: int) -> Array:
        """Return standard normal deviates of a round's read, (cells,)."""
        return self._normal(Purpose.VERIFYING_READS, round_)

    def start_states(self, config: HardwareConfig) -> Array:
        """Return the states before the first pulse, (cells,): g_min, as after an erase, or where they are stuck."""
        erased = config.memristor.state(np.full(self.stuck.shape, config.array.g_min))
        return np.where(self.stuck > 0, 1.0, np.where(self.stuck < 0, 0.0, erased))

    def _normal(self, purpose: Purpose, round_: int) -> Array:
        parts = []
        for name, size, chosen in self._tiles:
            normal = keyed_stream(self._seed, name, purpose, round_).standard_normal(size)
            parts.append(normal if chosen is None else normal[chosen])
        return np.concatenate(parts)


class TwinCells:
    """A CellBank in numpy, for millions of cells."""

    def __init__(self, states: Array, memristor: DynamicMemristor) -> None:
        """Start cells at states, 0..1, (cells,)."""
        self.states = np.array(states, dtype=np.float64)
        self._memristor = memristor
        self._responses: dict[float, PulseResponse] = {}

    def read(self) -> Array:
        """Return the conductances, siemens, (cells,)."""
        return self._memristor.conductance(self.states)

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        """Give each cell a pulse; return energies, joule, (cells,)."""
        energy = np.zeros_like(volts)
        for v in np.unique(volts[volts != 0]).tolist():
            cells = np.flatnonzero(volts == v)
            self.states[cells], energy[cells] = self._answer(v, self.states[cells], widths[cells], rates[cells])
        return energy

    def _answer(self, v: float, states: Array, widths: Array, rates: Array) -> tuple[Array, Array]:
        """Return states after a pulse and its energies: a cell twice as fast lives through twice the time."""
        if v not in self._responses:
            self._responses[v] = PulseResponse(v, self._memristor)
        lived = widths * rates
        moved = self._responses[v].move(states, lived)
        resting = v**2 * self._memristor.conductance(moved) * widths
        taken = self._responses[v].energy(states, moved, lived)
        return moved, np.divide(taken, rates, out=resting, where=rates > 0)


def write_verify(
    cells: CellBank, g_target: Array, draws: Draws, config: HardwareConfig, keep_history: bool = False
) -> Written:
    """Write targets into cells.

    Every round reads all cells and gives each that is not done one pulse of `programming.v_set` or
    `v_reset`, whichever leads to its target.

    Args:
        cells: The cells, in any state.
        g_target: Targets, siemens, (cells,).
        draws: Their devices, pulses and reads.
        config: The hardware, with an AIST memristor and `programming`.
        keep_history: Keep what every read measured.

    Raises:
        HardwareError: The hardware cannot be programmed.
    """
    programming = config.write_pulses()
    span = config.array.g_max - config.array.g_min
    controller = _Controller(g_target, span, config.dynamic_memristor("write-verify"), programming)
    history: list[Array] = []
    energy = np.zeros(len(g_target))
    for round_ in range(programming.max_pulses + 1):
        measured = cells.read() + programming.verify_noise * span * draws.noise(round_)
        if keep_history:
            history.append(measured)
        if round_ > 0:
            controller.learn(measured)
        controller.verify(measured)
        if round_ == programming.max_pulses or not controller.active.size:
            break
        energy += cells.pulse(*controller.next_pulses(measured), draws.rates(round_))
    status = controller.status.copy()
    status[controller.active] = GAVE_UP
    return Written(g_target, cells.read(), controller.pulses, energy, status, tuple(history))


class _Controller:
    """Decides on the pulses of every cell that is not done, by its reads alone.

    A pulse is as long as the closed form of eq. 9 says, which knows neither the window nor the speed
    of this device, times a boost. Each answer corrects the boost by the root of what was asked over
    what came: no more than that, because pulses differ from one to the next, and twice at most.

    A cell is stuck when a run of `_SILENT` pulses in one direction, which should have moved it far,
    leaves it where it was as far as the reads can tell.
    """

    def __init__(self, g_target: Array, span: float, memristor: DynamicMemristor, programming: Programming) -> None:
        count = len(g_target)
        self._target, self._memristor, self._programming = g_target, memristor, programming
        self._tolerance = programming.tolerance * span
        self._unsure = (4 * np.sqrt(2) * programming.verify_noise + 0.01 * programming.tolerance) * span
        self.active = np.arange(count)
        self.pulses = np.zeros(count, dtype=np.int64)
        self.status = np.zeros(count, dtype=np.int8)
        self._boost, self._run = np.ones(count), np.zeros(count, dtype=np.int64)
        self._before, self._asked, self._anchor, self._due = (np.zeros(count) for _ in range(4))

    def learn(self, measured: Array) -> None:
        """Take in how cells answered their last pulses: speeds, and runs without an answer."""
        cells = self.active
        now, asked = measured[cells], self._asked[cells]
        answer = np.clip((now - self._before[cells]) / asked, 1 / 4, 16)
        self._boost[cells] = np.clip(self._boost[cells] / np.sqrt(answer), *_BOOSTS)
        still = np.abs(now - self._anchor[cells]) <= self._unsure
        onwards = (self._target[cells] > now) == (asked > 0)
        self._run[cells] = np.where(still & onwards, self._run[cells] + 1, 0)

    def verify(self, measured: Array) -> None:
        """Let go of cells that are done or stuck."""
        cells = self.active
        within = np.abs(self._target[cells] - measured[cells]) <= self._tolerance
        silent = (self._run[cells] >= _SILENT) & (self._due[cells] >= _FAR * self._unsure)
        self.status[cells[silent]] = STUCK
        self.status[cells[within]] = REACHED
        self.active = cells[~within & ~silent]

    def next_pulses(self, measured: Array) -> tuple[Array, Array]:
        """Return amplitudes, volt, and widths, second, of all cells; 0 V for those that are done."""
        cells, p, m = self.active, self._programming, self._memristor
        target, now, boost = self._target[cells], measured[cells], self._boost[cells]
        v = np.where(target > now, p.v_set, p.v_reset)
        start = np.clip(now, 1 / m.r_off, 1 / m.r_on)  # noise may lead outside
        wanted = boost * np.maximum(m.time_between(start, target, v), p.width_min)
        longest = np.floor(p.width_max / p.width_min * (1 + 1e-12))
        given = p.width_min * np.clip(np.round(wanted / p.width_min), 1, longest)
        self._before[cells], self._asked[cells] = now, (target - now) * given / wanted
        first, due = self._run[cells] == 0, np.abs(self._asked[cells]) * boost
        self._anchor[cells] = np.where(first, now, self._anchor[cells])
        self._due[cells] = np.where(first, due, self._due[cells] + due)
        volts, widths = np.zeros(len(self._target)), np.zeros(len(self._target))
        volts[cells], widths[cells] = v, given
        self.pulses[cells] += 1
        return volts, widths


def fit_error_model(g_target: Array, g: Array, source: str, g_low: float, g_high: float) -> ErrorModel:
    """Fit mean and standard deviation of g - g_target as functions of the target.

    Cells are put into bins of equal count; polynomials of G / g_high go through the bins' means and
    standard deviations, of a degree up to 3 that the number of bins supports and that keeps them
    near the bins' values over the whole range, and the standard deviation from going below 0.

    Args:
        g_target: Targets, siemens, (cells,).
        g: Conductances in the end, siemens, (cells,), without stuck cells.
        source: What the numbers come from.
        g_low: Lowest conductance that the model shall cover, siemens.
        g_high: Highest conductance that the model shall cover, siemens.

    Returns:
        The model, for one time; without cells, no error.
    """
    order = np.argsort(g_target, kind="stable")
    parts = np.array_split(order, int(np.clip(len(order) // _PER_BIN, 1, _BINS))) if len(order) else []
    errors = [_without_outliers(g[part] - g_target[part]) for part in parts]
    places = np.array([g_target[part].mean() for part in parts]) / g_high
    span = np.linspace(g_low / g_high, 1, 201)
    shift = _fit_polynomial(places, np.array([error.mean() for error in errors]), span)
    spread = _fit_polynomial(places, np.array([error.std(ddof=min(1, error.size - 1)) for error in errors]), span, 0.0)
    return ErrorModel(
        source=source,
        g_low=g_low,
        g_high=g_high,
        g_reference=g_high,
        seconds=(1.0,),
        mean=(shift,),
        sigma=(spread,),
    )


def _without_outliers(error: Array) -> Array:
    """Return errors with those beyond 5 deviations, by the median, put there: a few given up do not stand for all."""
    centre = np.median(error)
    limit = 5 * 1.4826 * np.median(np.abs(error - centre))
    return np.clip(error, centre - limit, centre + limit) if limit > 0 else error


def _fit_polynomial(places: Array, values: Array, span: Array, lowest: float = -np.inf) -> tuple[float, ...]:
    """Return coefficients from the constant upwards of a polynomial through values at places.

    Over `span` it stays above `lowest` and no further outside the values than twice what they are apart.
    """
    if not values.size:
        return (0.0,)
    slack = 2 * np.ptp(values)
    highest = min(_DEGREE, values.size // 2, np.unique(places).size - 1)
    for degree in range(highest, 0, -1):
        fit = np.polynomial.Polynomial.fit(places, values, degree).convert()
        found = fit(span)
        if max(values.min() - slack, lowest) <= found.min() and found.max() <= values.max() + slack:
            return tuple(float(f"{value:.6g}") for value in fit.coef)
    return (float(f"{values.mean():.6g}"),)
