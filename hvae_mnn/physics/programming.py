"""Write-verify: read a cell, pulse it towards its target, until it is within tolerance.

The controller is one piece of code; what it writes is a `CellBank`: `TwinCells` here, in
numpy, or `hvae_mnn.engines.cells.SpiceCells`. Both get the same random numbers (`Draws`), so
that they can be compared cell by cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.hardware import AistMemristor, ErrorModel, HardwareConfig, Programming
from hvae_mnn.physics.memristor import PulseResponse, closed_form_time, conductance_of, state_of
from hvae_mnn.physics.variation import keyed_stream, stuck_cells

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

REACHED, GAVE_UP, STUCK = 0, 1, 2
"""How a cell ended: within tolerance, not within `max_pulses`, or without any answer to pulses."""

_DEVICE, _PULSE, _READ = 2, 3, 4
_SILENT = 8
"""Pulses in a row, each longer than the one before, that a stuck cell does not answer."""


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
    those of `hvae_mnn.physics.variation`.
    """

    def __init__(self, tiles: Sequence[tuple[str, int, Indices | None]], config: HardwareConfig) -> None:
        """Take the tiles (name, number of cells, chosen cells or None for all) and the hardware."""
        self._tiles, self._seed, self._programming = tuple(tiles), config.device.seed, config.write_pulses()
        stuck = [stuck_cells((size,), name, config)[slice(None) if c is None else c] for name, size, c in self._tiles]
        self.stuck: NDArray[np.int8] = np.concatenate(stuck)
        self._speed = np.exp(self._programming.rate_d2d * self._normal(_DEVICE, 0)) * (self.stuck == 0)

    def rates(self, round_: int) -> Array:
        """Return each cell's speed in a round's pulse, as a factor, (cells,); 0 where it is stuck."""
        rates: Array = self._speed * np.exp(self._programming.rate_c2c * self._normal(_PULSE, round_))
        return rates

    def noise(self, round_: int) -> Array:
        """Return standard normal deviates of a round's read, (cells,)."""
        return self._normal(_READ, round_)

    def start_states(self, config: HardwareConfig) -> Array:
        """Return the states before the first pulse, (cells,): g_min, as after an erase, or where they are stuck."""
        erased = state_of(np.full(self.stuck.shape, config.array.g_min), config.memristor)
        return np.where(self.stuck > 0, 1.0, np.where(self.stuck < 0, 0.0, erased))

    def _normal(self, purpose: int, round_: int) -> Array:
        parts = []
        for name, size, chosen in self._tiles:
            normal = keyed_stream(self._seed, name, purpose, round_).standard_normal(size)
            parts.append(normal if chosen is None else normal[chosen])
        return np.concatenate(parts)


class TwinCells:
    """A CellBank in numpy, for millions of cells."""

    def __init__(self, states: Array, memristor: AistMemristor) -> None:
        """Start cells at states, 0..1, (cells,)."""
        self.states = np.array(states, dtype=np.float64)
        self._memristor = memristor
        self._responses: dict[float, PulseResponse] = {}

    def read(self) -> Array:
        """Return the conductances, siemens, (cells,)."""
        return conductance_of(self.states, self._memristor)

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
        resting = v**2 * conductance_of(moved, self._memristor) * widths
        taken = self._responses[v].energy(states, moved, lived)
        return moved, np.divide(taken, rates, out=resting, where=rates > 0)


def write_verify(
    cells: CellBank, g_target: Array, draws: Draws, config: HardwareConfig, keep_history: bool = False
) -> Written:
    """Write targets into cells.

    A pulse is as long as the closed form of eq. 9 says from the measured conductance to the
    target, times a factor for each cell that doubles where a pulse did less than half of what
    it should have, and halves where it went past the target.

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
    controller = _Controller(g_target, span, config.aist("write-verify"), programming)
    history: list[Array] = []
    energy = np.zeros(len(g_target))
    for round_ in range(programming.max_pulses + 1):
        measured = cells.read() + programming.verify_noise * span * draws.noise(round_)
        if keep_history:
            history.append(measured)
        controller.verify(measured)
        if round_ == programming.max_pulses or not controller.active.size:
            break
        energy += cells.pulse(*controller.next_pulses(), draws.rates(round_))
    status = controller.status.copy()
    status[controller.active] = GAVE_UP
    return Written(g_target, cells.read(), controller.pulses, energy, status, tuple(history))


class _Controller:
    """Decides on the pulses of every cell that is not done; arrays follow `active`."""

    def __init__(self, g_target: Array, span: float, memristor: AistMemristor, programming: Programming) -> None:
        count = len(g_target)
        self._target, self._span, self._memristor, self._programming = g_target, span, memristor, programming
        self.active = np.arange(count)
        self.pulses = np.zeros(count, dtype=np.int64)
        self.status = np.zeros(count, dtype=np.int8)
        self._boost, self._silent = np.ones(count), np.zeros(count, dtype=np.int64)
        self._measured, self._asked = np.zeros(count), np.zeros(count)

    def verify(self, measured: Array) -> None:
        """Take a read of all cells: learn from the last pulses, and let go of cells that are done or stuck."""
        now = measured[self.active]
        error = self._target[self.active] - now
        self._learn(now, error)
        self._measured, self._asked = now, error
        self.status[self.active[self._silent >= _SILENT]] = STUCK
        within = np.abs(error) <= self._programming.tolerance * self._span
        self.status[self.active[within]] = REACHED
        self._keep(~within & (self._silent < _SILENT))

    def next_pulses(self) -> tuple[Array, Array]:
        """Return amplitudes, volt, and widths, second, of all cells; 0 V for those that are done."""
        p, m = self._programming, self._memristor
        volts, widths = np.zeros(len(self._target)), np.zeros(len(self._target))
        v = np.where(self._asked > 0, p.v_set, p.v_reset)
        start = np.clip(self._measured, 1 / m.r_off, 1 / m.r_on)
        time = self._boost * closed_form_time(start, self._target[self.active], v, m)
        ticks = np.round(np.clip(time, p.width_min, p.width_max) / p.width_min)
        volts[self.active], widths[self.active] = v, ticks * p.width_min
        self.pulses[self.active] += 1
        return volts, widths

    def _learn(self, now: Array, error: Array) -> None:
        """Lengthen the pulses of cells that lag behind, shorten those of cells that went too far."""
        first = self.pulses[self.active] == 0
        moved = now - self._measured
        past = error * self._asked < 0
        lags = ~past & (moved * np.sign(self._asked) < 0.5 * np.abs(self._asked))
        factor = np.where(first, 1.0, np.where(past, 0.5, np.where(lags, 2.0, 1.0)))
        self._boost = np.clip(self._boost * factor, 1 / 16, 2.0**12)
        noise = 4 * np.sqrt(2) * self._programming.verify_noise + 0.01 * self._programming.tolerance
        still = ~first & (np.abs(moved) <= noise * self._span)
        self._silent = np.where(still, self._silent + 1, 0)

    def _keep(self, keep: NDArray[np.bool_]) -> None:
        self.active = self.active[keep]
        self._boost, self._silent = self._boost[keep], self._silent[keep]
        self._measured, self._asked = self._measured[keep], self._asked[keep]


def fit_error_model(g_target: Array, g: Array, source: str, g_low: float, g_high: float) -> ErrorModel:
    """Fit mean and standard deviation of g - g_target as functions of the target.

    Cells are put into bins of equal count; polynomials of G / g_high go through the bins' means and
    standard deviations, of the highest degree up to 3 that the bins support and that leaves the
    standard deviation positive over the range.

    Args:
        g_target: Targets, siemens, (cells,).
        g: Conductances in the end, siemens, (cells,), without stuck cells.
        source: What the numbers come from.
        g_low: Lowest conductance that the model shall cover, siemens.
        g_high: Highest conductance that the model shall cover, siemens.
    """
    order = np.argsort(g_target, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // 50, 1, 16)))
    error = g - g_target
    place = np.array([g_target[part].mean() if part.size else g_high for part in bins]) / g_high
    mean = np.array([error[part].mean() if part.size else 0.0 for part in bins])
    sigma = np.array([error[part].std() if part.size else 0.0 for part in bins])
    everywhere = np.linspace(g_low / g_high, 1, 200)
    highest = min(3, len(np.unique(place)) - 1)
    polynomials = {d: np.polynomial.Polynomial.fit(place, sigma, d).convert() for d in range(highest, -1, -1)}
    spread = next((each for each in polynomials.values() if each(everywhere).min() > 0), polynomials[0])
    shift = np.polynomial.Polynomial.fit(place, mean, min(highest, spread.degree())).convert()
    return ErrorModel(
        source=source,
        g_low=g_low,
        g_high=g_high,
        g_reference=g_high,
        seconds=(1.0,),
        mean=(_coefficients(shift),),
        sigma=(_coefficients(spread),),
    )


def _coefficients(polynomial: np.polynomial.Polynomial) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in polynomial.coef)
