"""What differs from amplifier to amplifier and from read to read: offsets and noise."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.constants import Boltzmann

from hvae_mnn.circuit.plan import TilePlan
from hvae_mnn.circuit.streams import Purpose, keyed_stream
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import RESET_STOP, SAMPLE_STOP, pulse_time

Array = NDArray[np.float64]

TEMPERATURE = 300.0
"""Of the thermal noise, kelvin."""


def amplifier_count(plan: TilePlan) -> int:
    """Return the number of a tile's amplifiers: its columns, then the reference column where it has one."""
    return plan.columns + (plan.r_reference is not None)


def feedback_capacitance(plan: TilePlan, config: HardwareConfig, load: Array) -> float:
    """Return C_f of a tile's integrators, farad: a pulse of full scale goes as far as R_f would take its current.

    An amplifier of finite bandwidth acts as G / (2 pi f_GBW) more, G siemens at the bit line. C_f is trimmed by
    the mean of that over the columns, by half at most.

    Args:
        plan: The tile.
        config: The hardware.
        load: Admittance between the bit lines, siemens, (amplifiers, amplifiers).
    """
    whole = pulse_time(config) / plan.r_f
    return whole * (1 - min(added_capacitance(plan, config, load), 0.5))


def added_capacitance(plan: TilePlan, config: HardwareConfig, load: Array) -> float:
    """Return what the amplifiers' bandwidth adds to C_f, mean over the columns, as a part of what C_f shall be."""
    if config.amplifier.gain is None:
        return 0.0
    g = float(np.diag(load)[: plan.columns].mean()) + (0.0 if plan.r_reference is None else 1 / plan.r_reference)
    return g / (2 * np.pi * config.amplifier.gain_bandwidth) * plan.r_f / pulse_time(config)


def amplifier_offsets(plan: TilePlan, config: HardwareConfig) -> Array:
    """Return the offset of each of a tile's amplifiers, volt, (amplifiers,)."""
    amplifier, count = config.amplifier, amplifier_count(plan)
    if amplifier.gain is None:
        return np.zeros(count)
    drawn = keyed_stream(config.device.seed, plan.name, Purpose.AMPLIFIER_OFFSETS).standard_normal(count)
    return amplifier.offset + amplifier.offset_sigma * drawn


def read_noise(plan: TilePlan, config: HardwareConfig, load: Array) -> Array:
    """Return the noise of one read as the offset that would leave it at the output, volt rms, (amplifiers,).

    White noise e_n of the amplifier and the thermal noise of every resistor at a bit line, through the closed loop.
    With G siemens at the bit line besides the feedback:

        transimpedance  v^2 = (e_n^2 N^2 + 4 k T (1/R_f + G) R_f^2) (pi/2) f_GBW / N,    N = 1 + R_f G
        integrator      v^2 = (e_n^2 G^2 + 4 k T G) t / (2 C_f^2) + k T / C_f + e_n^2 (pi/2) f_GBW,  N = 1 + t G / C_f

    where N turns an offset to volts at the output, and t is the time from reset to sampling; k T / C_f is what the
    reset switch leaves. Integrators see the mean of their reference column over t: its bandwidth there is 1 / (2 t).

    Args:
        plan: The tile.
        config: The hardware.
        load: Admittance between the bit lines, siemens, (amplifiers, amplifiers).
    """
    amplifier, count = config.amplifier, amplifier_count(plan)
    if amplifier.gain is None or amplifier.noise == 0:
        return np.zeros(count)
    feedback, g = np.full(count, plan.r_f), np.diag(load).copy()
    if plan.r_reference is not None:
        feedback[-1] = plan.r_reference
        g[:-1] += 1 / plan.r_reference
    white, thermal = amplifier.noise**2, 4 * Boltzmann * TEMPERATURE
    gain = 1 + feedback * g
    bandwidth = np.pi / 2 * amplifier.gain_bandwidth / gain
    time, pulses = (SAMPLE_STOP - RESET_STOP) * config.timing.cycle, config.drive.pulsed
    if pulses:
        bandwidth[plan.columns :] = 1 / (2 * time)
    squares = (white * gain**2 + thermal * (1 / feedback + g) * feedback**2) * bandwidth
    if pulses:
        columns, c_f = slice(plan.columns), feedback_capacitance(plan, config, load)
        gain[columns] = 1 + time * g[columns] / c_f
        squares[columns] = (white * g[columns] ** 2 + thermal * g[columns]) * time / (2 * c_f**2)
        squares[columns] += Boltzmann * TEMPERATURE / c_f + white * np.pi / 2 * amplifier.gain_bandwidth
    return np.asarray(np.sqrt(squares) / gain)


@dataclass(slots=True)
class NoiseSource:
    """Noise of a tile's amplifiers, or columns, from read to read; the same sequence in every engine.

    Attributes:
        sigma: Standard deviations, volt, (amplifiers,); `read_noise` gives those of amplifiers.
        seed: Seed of the hardware.
        tile: Name of the tile.
        purpose: Which of the tile's noises it is, as `keyed_stream` takes it.
    """

    sigma: Array
    seed: int
    tile: str
    purpose: Purpose = Purpose.AMPLIFIER_NOISE
    _stream: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.begin(0)

    @classmethod
    def of_tile(cls, plan: TilePlan, config: HardwareConfig, load: Array) -> "NoiseSource | None":
        """Return a tile's source; None where there is no noise."""
        sigma = read_noise(plan, config, load)
        if not sigma.any():
            return None
        return cls(sigma, config.device.seed, plan.name)

    def begin(self, number: int) -> None:
        """Start the sequence of a batch of sentences."""
        self._stream = keyed_stream(self.seed, self.tile, self.purpose, *((number,) if number else ()))

    def draw(self, reads: int) -> Array:
        """Return the noise of the next reads, volt, (reads, amplifiers)."""
        return self.sigma * self._stream.standard_normal((reads, len(self.sigma)))
