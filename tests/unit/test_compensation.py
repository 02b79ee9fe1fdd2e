"""IR-drop compensation: behind the wires stand the weights, within the conductance range."""

import numpy as np
import pytest

from hvae_mnn.circuit.crossbar import solve_transfer
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.compiler.compensation import compensate_tile
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

SCHEMES = pytest.mark.parametrize("scheme", ["paired", "reference-column", "differential"])
RANGE = ("array.g_min=10 uS", "array.g_max=100 uS")


def make(scheme: str, *overrides: str, size: int = 64) -> tuple[Tile, np.ndarray, HardwareConfig]:
    rng = np.random.default_rng(size)
    weights = np.clip(rng.normal(0, 1, (size, size)), -3, 3)
    config = load_hardware("ideal", [f"array.scheme={scheme}", *RANGE, "array.r_wire=1", *overrides])
    block = WeightBlock("encoder1", "f", 0, 0, np.arange(size), 0, weights)
    return map_block(block, rng.uniform(-1, 1, (50, size)), config), weights, config


def error_of_sums(tile: Tile, weights: np.ndarray, config: HardwareConfig) -> float:
    """Rms error of what the ADC would decode, through the amplifiers, over the rms of the exact sums."""
    rows = np.random.default_rng(5).uniform(-1, 1, (100, len(weights)))
    volts = solve_transfer(tile, config).read(rows)
    found, exact = tile.plan.scale * volts / config.adc.v_full_scale, rows @ weights
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


@SCHEMES
def test_errors_fall_by_far_more_than_ten_times(scheme: str) -> None:
    """64 x 64, 10 to 100 uS, 1 ohm a segment."""
    plain, weights, config = make(scheme, "array.compensate=true")
    tile = compensate_tile(plain, config)
    before, after = error_of_sums(plain, weights, config), error_of_sums(tile, weights, config)
    assert 0.05 < before < 0.4
    assert after < before / 500
    assert tile.plan.uncompensated is not None and tile.plan.uncompensated < 2e-4
    assert config.array.g_min <= tile.g_target.min() and tile.g_target.max() <= config.array.g_max
    assert tile.plan.scale == plain.plan.scale


@SCHEMES
def test_what_the_range_does_not_allow_is_reported(scheme: str) -> None:
    """1 kohm a segment: no scale brings the far corner back."""
    plain, weights, config = make(scheme, "array.compensate=true", "array.r_wire=1000", size=12)
    tile = compensate_tile(plain, config)
    assert config.array.g_min <= tile.g_target.min() and tile.g_target.max() <= config.array.g_max
    assert tile.plan.uncompensated is not None and tile.plan.uncompensated > 1e-3
    left = error_of_sums(tile, weights, config)
    assert left <= error_of_sums(plain, weights, config)
    assert left == pytest.approx(tile.plan.uncompensated, rel=0.5)


@pytest.mark.parametrize("overrides", [(), ("array.compensate=true", "array.r_wire=0")])
def test_nothing_changes_without_wires_or_unless_asked(overrides: tuple[str, ...]) -> None:
    plain, _, config = make("paired", *overrides, size=8)
    assert compensate_tile(plain, config) is plain


def test_weights_of_zero_only() -> None:
    plain, _, config = make("differential", "array.compensate=true", size=4)
    block = WeightBlock("encoder1", "f", 0, 0, np.arange(4), 0, np.zeros((4, 4)))
    zero = map_block(block, np.ones((2, 4)), config)
    tile = compensate_tile(zero, config)
    assert np.isfinite(tile.g_target).all() and tile.plan.r_f > 0
    assert plain.plan.uncompensated is None
