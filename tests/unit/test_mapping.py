"""Eq. 12 by hand: weights to conductances, and column voltages back to gate sums."""

import numpy as np
import pytest

from hvae_mnn.circuit.plan import Tile, row_inputs
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.hardware.files import load_hardware

WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.0, 1.5, -0.25]])
CALIBRATION = np.array([[9.0, 0.5], [9.0, -1.0], [9.0, 0.2]])
"""Three samples of two inputs, of which the tile carries the second and a bias.

Sums f * (1, -2, 0.5) + (0, 1.5, -0.25): 0.5, 0.5, 0; -1, 3.5, -0.75; 0.2, 1.1, -0.15.
"""
SMALL = ("array.g_min=10 uS", "array.g_max=110 uS")


def make_tile(scheme: str = "paired", *overrides: str, weights: np.ndarray = WEIGHTS) -> Tile:
    config = load_hardware("ideal", [*SMALL, f"array.scheme={scheme}", *overrides])
    block = WeightBlock("encoder2", "g", 1, 2, np.array([1, -1]), 4, weights)
    return map_block(block, CALIBRATION, config)


def test_conductances_by_hand() -> None:
    """Middle 60 uS, half 50 uS, largest weight 2: 25 uS for a weight of 1, and more weight is less G."""
    tile = make_tile()
    expected = np.array([[35, 110, 47.5], [60, 22.5, 66.25]]) * 1e-6
    np.testing.assert_allclose(tile.g_target, expected, rtol=1e-14)
    np.testing.assert_array_equal(tile.g, tile.g_target)
    assert tile.plan.weight_per_siemens == pytest.approx(2 / 50e-6, rel=1e-14)
    assert tile.plan.r_s == pytest.approx(1 / 60e-6, rel=1e-14)
    assert tile.plan.clipped_weights == 0


def test_place() -> None:
    plan = make_tile().plan
    assert (plan.name, plan.gate, plan.deck) == ("encoder2.g.r1c2", "g", "decks/encoder2/g/r1c2.cir")
    assert (plan.inputs, plan.column_start, plan.column_stop, plan.rows, plan.columns) == ((1, -1), 4, 7, 2, 3)


def test_differential_conductances_by_hand() -> None:
    """10 uS and 50 uS a unit of weight on one of the two: first the memristors at +V, then those at -V."""
    tile = make_tile("differential")
    expected = np.array([[60, 10, 35], [10, 85, 10], [10, 110, 10], [10, 10, 22.5]]) * 1e-6
    np.testing.assert_allclose(tile.g_target, expected, rtol=1e-13)
    assert tile.plan.weight_per_siemens == pytest.approx(2 / 100e-6, rel=1e-14)
    assert (tile.plan.r_s, tile.plan.r_reference, tile.plan.memristor_rows) == (None, None, 4)
    found = tile.plan.weight_per_siemens * (tile.g[:2] - tile.g[2:])
    np.testing.assert_allclose(found, WEIGHTS, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("scheme", ["paired", "reference-column"])
def test_eq_12_inverted_gives_the_weights(scheme: str) -> None:
    tile = make_tile(scheme)
    found = tile.plan.weight_per_siemens * (1 / tile.plan.r_s - tile.g)
    np.testing.assert_allclose(found, WEIGHTS, rtol=1e-13, atol=1e-14)


def test_full_scale_is_the_largest_calibration_sum() -> None:
    assert make_tile().plan.full_scale == pytest.approx(3.5, rel=1e-14)
    sums = [0.5, 0.5, 0, 1, 3.5, 0.75, 0.2, 1.1, 0.15]
    expected = np.percentile(sums, 60)
    assert make_tile("paired", "adc.range_percentile=60").plan.full_scale == pytest.approx(expected, rel=1e-14)


def test_transimpedance_by_hand() -> None:
    """k v_adc / (v_read full_scale) = 4e4 * 0.5 / (0.05 * 3.5)."""
    assert make_tile().plan.r_f == pytest.approx(4e4 * 0.5 / (0.05 * 3.5), rel=1e-13)
    assert make_tile().plan.r_reference is None
    reference = make_tile("reference-column").plan.r_reference
    assert reference == pytest.approx(0.5 / (0.05 * 2 * 60e-6), rel=1e-13)  # both rows full: 0.5 V


@pytest.mark.parametrize(("scheme", "sign"), [("paired", -1), ("reference-column", 1)])
def test_scale_turns_the_circuits_voltage_into_the_gate_sum(scheme: str, sign: int) -> None:
    """Kirchhoff with perfect grounds: paired v = -R_f I, reference v = -R_f (I_G - I_ref)."""
    tile = make_tile(scheme)
    volts = 0.05 * row_inputs(tile.plan.inputs, np.array([[9.0, 0.7], [9.0, -0.3]]), bias=1.0)
    fixed, through = volts.sum(axis=1, keepdims=True) * 60e-6, volts @ tile.g
    current = fixed - through if scheme == "paired" else through - fixed
    column = -tile.plan.r_f * current
    expected = np.array([[0.7, 0.1, 0.1], [-0.3, 2.1, -0.4]])
    np.testing.assert_allclose(tile.plan.scale * column / 0.5, expected, rtol=1e-12)
    assert tile.plan.scale == pytest.approx(sign * 3.5, rel=1e-14)


def test_weights_beyond_the_percentile_clip_and_are_counted() -> None:
    """|w| sorted 0, 0.25, 0.5, 1, 1.5, 2: percentile 80 is 1.5, so only -2 clips."""
    tile = make_tile("paired", "array.weight_percentile=80")
    assert tile.plan.clipped_weights == 1
    assert tile.plan.weight_per_siemens == pytest.approx(1.5 / 50e-6, rel=1e-14)
    back = tile.plan.weight_per_siemens * (1 / tile.plan.r_s - tile.g)
    np.testing.assert_allclose(back, [[1, -1.5, 0.5], [0, 1.5, -0.25]], rtol=1e-13, atol=1e-14)
    assert make_tile("paired", "array.weight_percentile=60").plan.clipped_weights == 2


def test_a_tile_of_zeros_sits_in_the_middle() -> None:
    tile = make_tile(weights=np.zeros((2, 3)))
    np.testing.assert_allclose(tile.g, np.full((2, 3), 60e-6), rtol=1e-14)
    assert tile.plan.full_scale == 1.0
    assert np.isfinite(tile.plan.r_f)
