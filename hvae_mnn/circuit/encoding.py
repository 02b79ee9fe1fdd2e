"""How numbers lie in read cycles: whole, or bit plane by bit plane."""

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import cycles_per_read

Array = NDArray[np.float64]


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
