"""Cell imperfections of a die: programming error, relaxation, stuck cells.

Every cell draws one normal deviate and one uniform one, keyed by seed and tile, whatever the
kind and size of the error: sweeping a size or a time moves each cell along its own path.
"""

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.streams import Purpose, keyed_stream
from hvae_mnn.hardware.cells import ErrorModel
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]


def program_conductances(g_target: Array, name: str, config: HardwareConfig) -> Array:
    """Return what a tile's cells hold, siemens, within 1/r_off to 1/r_on.

    Args:
        g_target: Targets, siemens, (rows, columns).
        name: The tile's name, which keys its devices' errors.
        config: The hardware, with `device`, `stuck` and `time`.
    """
    lowest, highest = 1 / config.memristor.r_off, 1 / config.memristor.r_on
    stream = keyed_stream(config.device.seed, name, Purpose.PROGRAMMING_ERROR)
    g = _with_error(g_target, stream.standard_normal(g_target.shape), config)
    g = np.clip(g, min(lowest, config.array.g_min), max(highest, config.array.g_max))
    return _with_stuck(g, stuck_cells(g_target.shape, name, config), lowest, highest)


def stuck_cells(shape: tuple[int, ...], name: str, config: HardwareConfig) -> NDArray[np.int8]:
    """Return which cells of a tile are stuck: 1 at low resistance, -1 at high resistance, 0 free."""
    chance = keyed_stream(config.device.seed, name, Purpose.STUCK_CELLS).random(shape)
    return (chance < config.stuck.p_lrs).astype(np.int8) - (chance >= 1 - config.stuck.p_hrs).astype(np.int8)


def error_moments(g: Array, model: ErrorModel, seconds: float | None) -> tuple[Array, Array]:
    """Return mean and standard deviation of the error of targets g at a time, siemens, shaped like g.

    Args:
        g: Targets, siemens.
        model: The error model.
        seconds: Time since programming, second; None for the first that the model knows.
    """
    times = np.log(model.seconds)
    at = times[0] if seconds is None else np.log(seconds)
    share = np.array([np.interp(at, times, row) for row in np.eye(len(times))])
    relative = g / model.g_reference
    mean = _mix(share, relative, model.mean or ((0.0,),) * len(times))
    return mean, np.maximum(_mix(share, relative, model.sigma), 0)


def _mix(share: Array, relative: Array, polynomials: tuple[tuple[float, ...], ...]) -> Array:
    values = [np.polynomial.polynomial.polyval(relative, np.array(each)) for each in polynomials]
    return np.tensordot(share, np.array(values), axes=1)


def _with_error(g: Array, normal: Array, config: HardwareConfig) -> Array:
    if config.device.error_model is None:
        return g * np.exp(config.device.sigma * normal)
    mean, sigma = error_moments(g, config.device.error_model, config.time.seconds)
    return g + mean + sigma * normal


def _with_stuck(g: Array, stuck: NDArray[np.int8], lowest: float, highest: float) -> Array:
    return np.where(stuck > 0, highest, np.where(stuck < 0, lowest, g))
