"""How numbers lie in a read cycle: its phases, pulse widths in clock ticks, bit planes.

Phases are parts of `timing.cycle`. Amplitude and bit-serial rows are driven from the start to ENABLE_STOP, the
sample-and-hold follows from SAMPLE_START to SAMPLE_STOP. With pulse-width input the integrators
are reset until RESET_STOP and pulses begin at PULSE_START; full scale lasts PULSE_SHARE.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]

SAMPLE_START, SAMPLE_STOP, ENABLE_STOP = 0.1, 0.8, 0.9
RESET_STOP, PULSE_START, PULSE_SHARE = 0.05, 0.1, 0.6
LONGEST_PULSE = 1.12
"""Of full scale: the driver ends every pulse there, before columns are sampled."""

_UNQUANTISED_TICKS = 128  # chosen: pulses of any length, with edges as steep as those of 8 bits
_COARSEST_STEP = 1 / 96  # of a pulse of full scale; chosen, so that few bits have no edges of half a cycle


def pulse_time(config: HardwareConfig) -> float:
    """Return the length of a pulse of full scale, second."""
    return PULSE_SHARE * config.timing.cycle


def pulse_ticks(config: HardwareConfig) -> int:
    """Return the length of a pulse of full scale in clock ticks: a tick is one DAC code."""
    return int(Converter(config.dac.bits).code_max) if config.dac.bits else _UNQUANTISED_TICKS


def pulse_ramp(config: HardwareConfig) -> float:
    """Return rise and fall time of a pulse in ticks: one, or a whole part of one where ticks are long."""
    return 1 / math.ceil(1 / (pulse_ticks(config) * _COARSEST_STEP) - 1e-9)


def pulse_step(config: HardwareConfig) -> float:
    """Return the time step that integrates pulses exactly, second."""
    return pulse_ramp(config) * pulse_time(config) / pulse_ticks(config)


def cycles_per_read(config: HardwareConfig) -> int:
    """Return how many cycles a read takes: one a bit of the magnitude for bit-serial input, else one."""
    if not config.drive.bit_serial or config.dac.bits is None:
        return 1
    return config.dac.bits - 1


def driver(config: HardwareConfig) -> Converter:
    """Return the row drivers as they are in the circuit: one bit and sign for bit-serial input."""
    return Converter(2 if config.drive.bit_serial else config.dac.bits)


def split_cycles(codes: Array, config: HardwareConfig) -> Array:
    """Return what the rows carry cycle by cycle, (batch x cycles, inputs): the sentence's cycles follow each other.

    Args:
        codes: DAC codes, (batch, inputs).
        config: The hardware.
    """
    cycles = cycles_per_read(config)
    if not config.drive.bit_serial:
        return codes
    magnitudes = np.abs(codes).astype(np.int64)
    planes = (magnitudes[:, None, :] >> np.arange(cycles)[:, None]) & 1
    return np.asarray((np.sign(codes)[:, None, :] * planes).reshape(-1, codes.shape[1]) + 0.0)  # + 0.0: no -0


def cycle_inputs(fractions: Array, config: HardwareConfig) -> Array:
    """Return what rows carry cycle by cycle as fractions of full scale, (batch x cycles, inputs)."""
    if not config.drive.bit_serial:
        return fractions
    return split_cycles(Converter(config.dac.bits).encode(fractions), config)


def add_cycles(counts: NDArray[np.int64], config: HardwareConfig) -> NDArray[np.int64]:
    """Add up what was counted cycle by cycle, (batch x cycles,) to (batch,)."""
    return np.asarray(counts.reshape(-1, cycles_per_read(config)).sum(axis=1))


def join_cycles(values: Array, config: HardwareConfig) -> Array:
    """Shift and add what the columns gave cycle by cycle, (batch x cycles, outputs) to (batch, outputs).

    The plane of bit b counts 2^b / code_max, so that an input of full scale counts once.
    """
    if not config.drive.bit_serial:
        return values
    cycles = cycles_per_read(config)
    weights = 2.0 ** np.arange(cycles) / Converter(config.dac.bits).code_max
    return np.asarray(np.einsum("bco,c->bo", values.reshape(-1, cycles, values.shape[1]), weights))
