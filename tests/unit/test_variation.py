"""Programming error, relaxation and stuck cells against the laws they are drawn from."""

import numpy as np
import pytest
from scipy import stats

from hvae_mnn.circuit.variation import error_moments, program_conductances, stuck_cells
from hvae_mnn.hardware.files import load_hardware

SHAPE = (200, 150)  # 30,000 cells


def cells(g: float) -> np.ndarray:
    return np.full(SHAPE, g)


def test_without_an_error_cells_hold_their_targets() -> None:
    targets = np.random.default_rng(0).uniform(10.1e-6, 168e-6, SHAPE)
    assert (program_conductances(targets, "a", load_hardware("default")) == targets).all()


def test_sigma_is_lognormal() -> None:
    found = program_conductances(cells(40e-6), "a", load_hardware("default", ["device.sigma=0.2"]))
    assert stats.kstest(np.log(found / 40e-6).ravel(), "norm", args=(0, 0.2)).pvalue > 1e-3


def test_no_cell_leaves_the_devices_range() -> None:
    found = program_conductances(cells(150e-6), "a", load_hardware("default", ["device.sigma=1"]))
    assert found.min() == pytest.approx(10e-6, rel=1e-12)
    assert found.max() == pytest.approx(200e-6, rel=1e-12)


@pytest.mark.parametrize(("g", "sigma"), [(0, 0.348e-6), (10e-6, 2.26e-6), (40e-6, 1.10e-6)])
def test_wan_2022_after_one_second(g: float, sigma: float) -> None:
    """Published: 0.35 uS at 0, 2.26 uS at 10 uS, 1.1 uS at 40 uS."""
    model = load_hardware("rram-wan2022").device.error_model
    assert model is not None
    mean, found = error_moments(np.array([g]), model, None)
    assert mean[0] == 0
    assert found[0] == pytest.approx(sigma, rel=5e-3)


def test_wan_2022_after_two_days() -> None:
    """Published: 3.9 uS at most after one to two days."""
    model = load_hardware("rram-wan2022").device.error_model
    assert model is not None
    g = np.linspace(0, 40e-6, 200)
    largest = [error_moments(g, model, seconds)[1].max() for seconds in (1, 86400, 172800)]
    assert largest[0] == pytest.approx(2.3e-6, abs=0.05e-6)
    assert largest[1:] == pytest.approx([3.9e-6, 3.9e-6], abs=0.15e-6)


@pytest.mark.parametrize("seconds", [1.0, 60.0, 3600.0, 86400.0])
def test_cmo_relaxation_runs_with_the_logarithm_of_time(seconds: float) -> None:
    """In uS: mean -0.08900206 ln t, standard deviation 0.04201137 ln t + 0.41183342, at any G."""
    overrides = ["array.g_min=10.1 uS", "array.g_max=88 uS", "device.error_model=cmo-hfox", f"time.seconds={seconds}"]
    config = load_hardware("default", overrides)
    shift = program_conductances(cells(50e-6), "a", config) - 50e-6
    sigma = (0.04201137 * np.log(seconds) + 0.41183342) * 1e-6
    mean = -0.08900206e-6 * np.log(seconds)
    assert shift.mean() == pytest.approx(mean, abs=4 * sigma / np.sqrt(shift.size))
    assert shift.std() == pytest.approx(sigma, rel=0.02)


def test_a_cell_moves_along_its_own_path() -> None:
    """Its deviate stays when size or time changes: errors are proportional, cell by cell."""
    small, large = (
        np.log(program_conductances(cells(40e-6), "a", load_hardware("default", [f"device.sigma={s}"])) / 40e-6)
        for s in (0.01, 0.03)
    )
    np.testing.assert_allclose(large, 3 * small, rtol=1e-6, atol=1e-12)


def test_tiles_and_seeds_are_independent() -> None:
    first, second = (
        load_hardware("default", ["device.sigma=0.1"]),
        load_hardware("default", ["device.sigma=0.1", "device.seed=1"]),
    )
    a = np.log(program_conductances(cells(40e-6), "a", first)).ravel()
    assert (a == np.log(program_conductances(cells(40e-6), "a", first)).ravel()).all()
    for other in (program_conductances(cells(40e-6), "b", first), program_conductances(cells(40e-6), "a", second)):
        assert abs(np.corrcoef(a, np.log(other).ravel())[0, 1]) < 4 / np.sqrt(a.size)


def test_stuck_cells_come_at_their_rates_and_hold_the_ends() -> None:
    config = load_hardware("default", ["stuck.p_lrs=0.0175", "stuck.p_hrs=0.0904", "device.sigma=0.05"])
    stuck = stuck_cells(SHAPE, "a", config)
    assert stats.binomtest(int((stuck == 1).sum()), stuck.size, 0.0175).pvalue > 1e-3
    assert stats.binomtest(int((stuck == -1).sum()), stuck.size, 0.0904).pvalue > 1e-3
    found = program_conductances(cells(40e-6), "a", config)
    assert (found[stuck == 1] == 1 / 5e3).all()
    assert (found[stuck == -1] == 1 / 100e3).all()
    assert not np.isin(found[stuck == 0], [1 / 5e3, 1 / 100e3]).any()


def test_all_cells_can_be_stuck() -> None:
    for key, end in (("p_lrs", 1 / 5e3), ("p_hrs", 1 / 100e3)):
        config = load_hardware("default", [f"stuck.{key}=1"])
        assert (program_conductances(cells(40e-6), "a", config) == end).all()
