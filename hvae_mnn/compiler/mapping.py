"""WeightBlock to Tile: signed weights as conductances (eq. 12), scales of the read-out.

    I_k = sum_j (1/R_s - G_jk) V_j,   1/R_s = (G_max + G_min)/2,   w = k (1/R_s - G)

so a larger G is a more negative weight. `differential` has two memristors and no resistor,

    I_k = sum_j (G+_jk - G-_jk) V_j,   w = k (G+ - G-),   one of the two at G_min

A `paired` or `differential` column's current goes through an
inverting amplifier: v = -R_f I. A `reference-column` tile inverts the reference first and
adds it to every column, v = -R_f (I_G - I_ref) = +R_f I.
"""

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import Tile, TilePlan
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.compiler.ranges import choose_full_scale, column_sums
from hvae_mnn.hardware.config import HardwareConfig

Array = NDArray[np.float64]


def map_block(block: WeightBlock, calibration: Array, config: HardwareConfig, full_scale: float | None = None) -> Tile:
    """Turn a block of weights into conductances and scales.

    Args:
        block: Weights for inputs as fractions of full scale.
        calibration: Inputs of the layer as fractions of full scale, (samples, inputs).
        config: The hardware.
        full_scale: Gate sum that the ADC's full scale stands for; None for the tile's own, over calibration.
    """
    array = config.array
    g_middle, g_span = (array.g_max + array.g_min) / 2, array.g_max - array.g_min
    w_max = float(np.percentile(np.abs(block.weights), array.weight_percentile)) or 1.0
    if array.scheme == "differential":
        k = w_max / g_span
        g_exact = array.g_min + np.maximum(np.concatenate([block.weights, -block.weights]), 0) / k
    else:
        k = 2 * w_max / g_span
        g_exact = g_middle - block.weights / k
    g = np.clip(g_exact, array.g_min, array.g_max)
    clipped = int(np.count_nonzero(np.abs(block.weights) > w_max * (1 + 1e-12)))
    if full_scale is None:
        full_scale = choose_full_scale(column_sums(block, calibration), config.adc.range_percentile, config.adc.bits)
    plan = _plan_tile(block, full_scale, config, k, clipped)
    return Tile(plan, g, g)


def _reference_swing(config: HardwareConfig) -> float:
    """Return the output of the reference column's amplifier with all rows at full scale, volt: it must not saturate."""
    limit = config.amplifier.v_saturation if config.amplifier.gain else np.inf
    return min(config.adc.v_full_scale, 0.9 * limit)


def _plan_tile(block: WeightBlock, full_scale: float, config: HardwareConfig, k: float, clipped: int) -> TilePlan:
    array, v_read, v_adc = config.array, config.drive.v_read, config.adc.v_full_scale
    rows, columns = block.weights.shape
    inverted = array.scheme != "reference-column"
    r_s = 2 / (array.g_max + array.g_min)
    place = f"r{block.row_tile}c{block.column_tile}"
    return TilePlan(
        name=f"{block.layer}.{block.gate}.{place}",
        gate=block.gate,
        deck=f"decks/{block.layer}/{block.gate}/{place}.cir",
        inputs=tuple(block.inputs.tolist()),
        column_start=block.column_start,
        column_stop=block.column_start + columns,
        weight_per_siemens=k,
        r_s=None if array.scheme == "differential" else r_s,
        r_f=k * v_adc / (v_read * full_scale),
        r_reference=None if inverted else _reference_swing(config) * r_s / (v_read * rows),
        full_scale=full_scale,
        scale=-full_scale if inverted else full_scale,
        clipped_weights=clipped,
    )
