"""IR-drop compensation: conductances whose effect behind the wires is the weight, and not they themselves.

Behind wires the crosspoints of a tile amount to G_eff(G), which falls off with distance from drivers and amplifiers.
Wanted is G with G_eff(G) = s G_eff,ideal for one scale s of the whole tile, within G_min to G_max. Since
G_eff moves almost one for one with G, adding what is missing converges (fixed point). s begins at the share
that is left of the weakest of the strong crosspoints, and falls until none that lacks something stands at an end of
the range: the transimpedance and k make up for it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.crossbar import effective_conductance
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]

_ITERATIONS, _ENOUGH, _SLOW = 40, 1e-4, 0.9
_SCALES, _MORE, _SMALLER = 12, 1.08, 0.96


def compensate_tile(tile: Tile, config: HardwareConfig) -> Tile:
    """Return a tile with compensated targets, scale and transimpedance, and what is left uncompensated."""
    array = config.array
    if not (array.compensate and (array.r_wire or array.r_driver)):
        return tile
    ideal = effective_conductance(tile, 0.0, 0.0)
    strong = np.abs(ideal) > np.abs(ideal).max() / 2
    seen = effective_conductance(tile, array.r_wire, array.r_driver)
    scale = min(1.0, _MORE * float((seen[strong] / ideal[strong]).min(initial=1.0)))
    without = float(np.sqrt(np.mean((seen - ideal) ** 2) / (np.mean(ideal**2) or 1.0)))
    g, best = tile.g_target, (without, 1.0, tile.g_target)
    for _ in range(_SCALES):
        g, left, held = _approach(replace(tile, g=g), scale * ideal, config)
        if left < best[0]:
            best = left, scale, g
        if not held or left < _ENOUGH:
            break
        scale *= _SMALLER
    left, scale, g = best
    plan = tile.plan.model_copy(
        update={
            "weight_per_siemens": tile.plan.weight_per_siemens / scale,
            "r_f": tile.plan.r_f / scale,
            "uncompensated": left,
        }
    )
    return Tile(plan, g, g)


def _approach(tile: Tile, wanted: Array, config: HardwareConfig) -> tuple[Array, float, bool]:
    """Add what is missing until nothing is.

    Args:
        tile: The tile; its `g` is the start.
        wanted: Effective conductances wanted, siemens, (rows, columns).
        config: The hardware.

    Returns:
        Conductances, siemens; the rms of what is missing over that of the ideal; and whether a crosspoint
        that misses something stands at an end of the range.
    """
    array, size = config.array, float(np.sqrt(np.mean(wanted**2))) or 1.0
    g, before = tile.g, np.inf
    for _ in range(_ITERATIONS):
        missing = wanted - effective_conductance(replace(tile, g=g), array.r_wire, array.r_driver)
        left = float(np.sqrt(np.mean(missing**2))) / size
        if left < _ENOUGH or left > _SLOW * before:
            break
        g, before = _moved(tile, g, missing, config), left
    ends = (g <= array.g_min * (1 + 1e-9)) | (g >= array.g_max * (1 - 1e-9))
    lacking = np.abs(missing) > 10 * _ENOUGH * size
    held = bool(np.any(ends & (np.concatenate([lacking] * (len(g) // len(lacking))))))
    return g, left, held


def _moved(tile: Tile, g: Array, missing: Array, config: HardwareConfig) -> Array:
    """Return conductances moved by what is missing; a larger G is a smaller effective one but for G+."""
    low, high = config.array.g_min, config.array.g_max
    if tile.plan.r_s is not None:
        return np.asarray(np.clip(g - missing, low, high))
    difference = g[: tile.plan.rows] - g[tile.plan.rows :] + missing
    return np.asarray(np.clip(low + np.maximum(np.concatenate([difference, -difference]), 0), low, high))
