"""The phases of a read cycle, and how long pulses are in it.

Phases are parts of `timing.cycle`. Amplitude and bit-serial rows are driven from the start to ENABLE_STOP, the
sample-and-hold follows from SAMPLE_START to SAMPLE_STOP. With pulse-width input the integrators
are reset until RESET_STOP and pulses begin at PULSE_START; full scale lasts PULSE_SHARE.

Decks hand the parts' values on to the subcircuits: no netlist's own value counts in a Build.
"""

import math

from hvae_mnn.hardware.config import HardwareConfig

SAMPLE_START, SAMPLE_STOP, ENABLE_STOP = 0.1, 0.8, 0.9
RESET_STOP, PULSE_START, PULSE_SHARE = 0.05, 0.1, 0.6
LONGEST_PULSE = 1.12
"""Of full scale: the driver ends every pulse there, before columns are sampled."""
R_RESET = 10.0
"""On-resistance of the switch that resets an integrator, ohm."""
R_SWITCH, C_HOLD = 1e3, 1e-12
"""On-resistance and capacitor of a sample-and-hold, ohm and farad."""
TRACKING = R_SWITCH * C_HOLD
"""How far a sample-and-hold is behind a ramp, second."""

_UNQUANTISED_TICKS = 128  # chosen: pulses of any length, with edges as steep as those of 8 bits
_COARSEST_STEP = 1 / 96  # of a pulse of full scale; chosen, so that few bits have no edges of half a cycle


def pulse_time(config: HardwareConfig) -> float:
    """Return the length of a pulse of full scale, second."""
    return PULSE_SHARE * config.timing.cycle


def pulse_ticks(config: HardwareConfig) -> int:
    """Return the length of a pulse of full scale in clock ticks: a tick is one DAC code."""
    return 2 ** (config.dac.bits - 1) - 1 if config.dac.bits else _UNQUANTISED_TICKS


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
