"""Full scales of converters, chosen over calibration: a percentile, or least squared error.

A narrow full scale gives fine steps and clips what lies beyond; a wide one does the opposite. `auto` weighs both
against each other in the mean squared error of round-and-clip with 2^bits - 1 levels, zero among them, which is what
`hvae_mnn.circuit.converters` does (for a Gaussian source with 2^bits levels: Max, IRE Trans. Inf. Theory 6, 1960).
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import row_inputs
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.hardware.config import Adc, Dac
from hvae_mnn.hardware.units import Percentile
from hvae_mnn.model.layers import LayerWeights

Array = NDArray[np.float64]
_COARSE, _FINE, _ROUNDS = 40, 9, 3


def choose_full_scale(values: NDArray[np.floating], percentile: Percentile, bits: int | None) -> float:
    """Return the magnitude that a converter's outermost code shall stand for, in the unit of the values.

    Args:
        values: What the converter gets, of any shape and not empty.
        percentile: Percentile of |values|, or `auto` for the least mean squared error.
        bits: Resolution with sign that `auto` counts with; None does not round, so nothing is worth clipping.

    Returns:
        The full scale; 1 where it would be 0.
    """
    magnitudes = np.abs(values)
    largest = float(magnitudes.max())
    if percentile != "auto":
        return float(np.percentile(magnitudes, percentile)) or largest or 1.0
    if bits is None or largest == 0:
        return largest or 1.0
    return _least_error(np.asarray(magnitudes, dtype=np.float64).ravel(), largest, 2 ** (bits - 1) - 1)


def quantisation_error(magnitudes: Array, full_scale: float, code_max: int) -> float:
    """Return the mean squared error of magnitudes rounded to -code_max..code_max and clipped, in their unit squared."""
    step = full_scale / code_max
    codes = np.minimum(np.rint(magnitudes / step), code_max)
    return float(np.mean((magnitudes - step * codes) ** 2))


def group_ranges(
    layer: LayerWeights, samples: NDArray[np.floating], largest: Mapping[str, float], dac: Dac
) -> dict[str, float]:
    """Return the full scale of each group of a layer's inputs, in the layer's numbers.

    Args:
        layer: The layer.
        samples: Its inputs in calibration, (samples, inputs).
        largest: For each group the largest magnitude of all calibration sentences; no full scale is above it.
        dac: Which part of the inputs shall fit.
    """
    edges = np.cumsum([0, *(group.size for group in layer.groups)])
    chosen = {}
    for group, start, stop in zip(layer.groups, edges[:-1], edges[1:], strict=True):
        # The largest of all sentences is rarely among the samples, and 100 % means that it fits.
        values = np.append(np.abs(samples[:, start:stop]), largest[group.name])
        found = choose_full_scale(values, dac.range_percentile, dac.bits)
        chosen[group.name] = min(found, largest[group.name])
    return chosen


def converted_inputs(fractions: Array, dac: Dac) -> Array:
    """Return calibration inputs as the rows carry them: clipped where full scale was chosen below the largest.

    At 100 % nothing is beyond full scale but by the rounding of stored samples to 16 bits.
    """
    return fractions if dac.bits is None or dac.range_percentile == 100 else np.clip(fractions, -1.0, 1.0)


def column_sums(block: WeightBlock, calibration: Array) -> Array:
    """Return the sums of a block's columns in calibration, (samples, columns), as gate sums.

    Args:
        block: Weights for inputs as fractions of full scale.
        calibration: Inputs of the layer as fractions of full scale, (samples, inputs).
    """
    return row_inputs(block.inputs, calibration, bias=1.0) @ block.weights


def shared_full_scale(blocks: Iterable[WeightBlock], calibration: Array, adc: Adc) -> float | None:
    """Return the full scale that all tiles of a layer share, or None where each has its own (`range_scope`)."""
    if adc.range_scope == "tile":
        return None
    sums = np.concatenate([np.abs(column_sums(block, calibration)).ravel() for block in blocks])
    return choose_full_scale(sums, adc.range_percentile, adc.bits)


def _least_error(magnitudes: Array, largest: float, code_max: int) -> float:
    """Search from half the mean, below which rounding cannot be what matters, to the largest, ever finer.

    The error has several minima for a few large values among many small ones, hence the even start.
    """
    candidates = np.geomspace(magnitudes.mean() / 2, largest, _COARSE)
    for _ in range(_ROUNDS):
        errors = [quantisation_error(magnitudes, candidate, code_max) for candidate in candidates]
        best = int(np.argmin(errors))
        low, high = candidates[max(best - 1, 0)], candidates[min(best + 1, len(candidates) - 1)]
        candidates = np.append(np.linspace(low, high, _FINE), candidates[best])
        candidates.sort()
    errors = [quantisation_error(magnitudes, candidate, code_max) for candidate in candidates]
    return float(candidates[np.argmin(errors)])
