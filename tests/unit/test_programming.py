"""Write-verify: random numbers, the controller, and the error model of what remains."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hvae_mnn.circuit.programming import (
    GAVE_UP,
    REACHED,
    STUCK,
    Draws,
    TwinCells,
    Written,
    fit_error_model,
    write_verify,
)
from hvae_mnn.circuit.variation import error_moments, stuck_cells
from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

Array = NDArray[np.float64]

CELLS = 20_000
QUIET = ["programming.rate_d2d=0", "programming.rate_c2c=0", "programming.verify_noise=0"]
WINDOWS = ["memristor.window=paper", "memristor.window=directional"]


def hardware(*overrides: str) -> HardwareConfig:
    return load_hardware("default", overrides)


def span(config: HardwareConfig) -> float:
    return config.array.g_max - config.array.g_min


def spread_targets(config: HardwareConfig, count: int = CELLS) -> Array:
    """Return targets over the whole range, both ends among them, in random order."""
    return np.random.default_rng(5).permutation(np.linspace(config.array.g_min, config.array.g_max, count))


def write(config: HardwareConfig, targets: Array, keep_history: bool = False) -> Written:
    draws = Draws([("tile", len(targets), None)], config)
    bank = TwinCells(draws.start_states(config), config.dynamic_memristor("a test"))
    return write_verify(bank, targets, draws, config, keep_history)


class Recorded:
    """A CellBank that notes every pulse; in front of another bank."""

    def __init__(self, bank: TwinCells) -> None:
        self.bank = bank
        self.reads: list[Array] = []
        self.pulses: list[tuple[Array, Array, Array]] = []
        self.energy = 0.0

    def read(self) -> Array:
        self.reads.append(self.bank.read())
        return self.reads[-1]

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        self.pulses.append((volts.copy(), widths.copy(), rates.copy()))
        energy = self.bank.pulse(volts, widths, rates)
        self.energy += energy.sum()
        return energy


class Rods:
    """A CellBank of another kind: G moves linearly, `speed` of the range in a second, whatever the voltage's size."""

    def __init__(self, g: Array, speeds: Array, config: HardwareConfig) -> None:
        self.g, self._speeds = g.copy(), speeds * span(config)
        self._ends = config.array.g_min, config.array.g_max

    def read(self) -> Array:
        return self.g.copy()

    def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
        self.g = np.clip(self.g + np.sign(volts) * self._speeds * widths * rates, *self._ends)
        return np.abs(volts) * widths


# --- Draws -----------------------------------------------------------------------------------------

NOISY = ["stuck.p_lrs=0.05", "stuck.p_hrs=0.1", "programming.rate_d2d=0.3"]


def test_a_selection_of_cells_sees_what_it_sees_among_all() -> None:
    config = hardware(*NOISY)
    whole = Draws([("a", 300, None), ("b", 500, None)], config)
    first, second = np.array([0, 7, 299]), np.array([3, 400])
    part = Draws([("a", 300, first), ("b", 500, second)], config)
    places = np.concatenate([first, 300 + second])
    assert part.stuck.dtype == np.int8 and (part.stuck == whole.stuck[places]).all()
    for round_ in (0, 1, 99):
        assert (part.rates(round_) == whole.rates(round_)[places]).all()
        assert (part.noise(round_) == whole.noise(round_)[places]).all()
    assert (part.start_states(config) == whole.start_states(config)[places]).all()
    assert (Draws([("b", 500, None)], config).rates(4) == whole.rates(4)[300:]).all()


def test_seeds_tiles_rounds_and_purposes_are_independent() -> None:
    config = hardware("programming.rate_d2d=0")
    draws = Draws([("a", CELLS, None)], config)
    other_seed = Draws([("a", CELLS, None)], hardware("programming.rate_d2d=0", "device.seed=1"))
    other_tile = Draws([("b", CELLS, None)], config)
    rates = np.log(draws.rates(3))
    others = [other_seed.rates(3), other_tile.rates(3), draws.rates(4)]
    for numbers in [*(np.log(each) for each in others), draws.noise(3), draws.noise(4)]:
        assert abs(np.corrcoef(rates, numbers)[0, 1]) < 4 / np.sqrt(CELLS)
    for numbers in [other_seed.noise(3), other_tile.noise(3), draws.noise(4)]:
        assert abs(np.corrcoef(draws.noise(3), numbers)[0, 1]) < 4 / np.sqrt(CELLS)
    assert (np.log(Draws([("a", CELLS, None)], config).rates(3)) == rates).all()


def test_speeds_are_lognormal_from_device_to_device_and_pulse_to_pulse() -> None:
    draws = Draws([("a", CELLS, None)], hardware("programming.rate_d2d=0.3", "programming.rate_c2c=0.4"))
    first, second = np.log(draws.rates(0)), np.log(draws.rates(1))
    for each in (first, second):
        assert stats.kstest(each, "norm", args=(0, 0.5)).pvalue > 1e-3
    shared = 0.3**2 / 0.5**2
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(shared, abs=4 * (1 - shared**2) / np.sqrt(CELLS))
    assert stats.kstest(draws.noise(0), "norm").pvalue > 1e-3


def test_stuck_cells_are_those_of_the_compiler_and_do_not_move() -> None:
    config = hardware(*NOISY, "device.seed=4")
    draws = Draws([("a", CELLS, None)], config)
    assert (draws.stuck == stuck_cells((CELLS,), "a", config)).all()
    assert ((draws.rates(2) == 0) == (draws.stuck != 0)).all()
    states = draws.start_states(config)
    assert (states[draws.stuck == 1] == 1).all() and (states[draws.stuck == -1] == 0).all()
    free = states[draws.stuck == 0]
    np.testing.assert_allclose(free, (100e3 - 1 / 10.1e-6) / 95e3, rtol=1e-12)  # as g_min, 10.1 uS
    assert np.count_nonzero(draws.stuck == 1) == pytest.approx(0.05 * CELLS, rel=0.2)


def test_a_bank_moves_the_cells_that_get_a_voltage_and_a_speed() -> None:
    states = np.array([0.2, 0.2, 0.2, 0.8, 0.2])
    bank = TwinCells(states, hardware().dynamic_memristor("a test"))
    before = bank.read()
    volts = np.array([0.2, 0.0, 0.2, -0.5, 0.05])
    energy = bank.pulse(volts, np.full(5, 1e-3), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
    moved = bank.read() - before
    assert moved[0] > 1e-6 and moved[3] < -1e-6
    assert (moved[[1, 2, 4]] == 0).all()
    assert energy[1] == 0
    np.testing.assert_allclose(energy[[2, 4]], volts[[2, 4]] ** 2 * before[[2, 4]] * 1e-3, rtol=1e-12)
    assert states.tolist() == [0.2, 0.2, 0.2, 0.8, 0.2]  # the caller's own


# --- write_verify ----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
def test_cells_come_to_hold_their_targets_in_few_pulses(window: str) -> None:
    config = hardware(window)
    written = write(config, spread_targets(config))
    error = np.abs(written.g - written.g_target) / span(config)
    assert np.mean(error <= 0.01) >= 0.9999
    assert (written.status == REACHED).all()
    assert written.pulses.mean() < 3.6
    assert np.percentile(written.pulses, 99) <= 7


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("end", "most"), [("g_min", 0.01), ("g_max", 6.5)])
def test_the_ends_of_the_range_are_reached(end: str, most: float, window: str) -> None:
    config = hardware(window)
    written = write(config, np.full(CELLS, getattr(config.array, end)))
    error = np.abs(written.g - written.g_target) / span(config)
    assert np.mean(error <= 0.01) >= 0.9999
    assert written.pulses.mean() < most


def test_a_sample_is_written_as_among_all() -> None:
    config = hardware(*NOISY)
    targets = spread_targets(config, 500)
    whole = write(config, targets)
    chosen = np.array([3, 77, 499])
    draws = Draws([("tile", 500, chosen)], config)
    part = write_verify(
        TwinCells(draws.start_states(config), config.dynamic_memristor("a test")), targets[chosen], draws, config
    )
    for name in ("g", "g_target", "pulses", "energy", "status"):
        assert (getattr(part, name) == getattr(whole, name)[chosen]).all(), name


def test_stuck_cells_are_found_and_no_others() -> None:
    config = hardware("stuck.p_lrs=0.05", "stuck.p_hrs=0.05")
    targets = spread_targets(config)
    written = write(config, targets)
    stuck = Draws([("tile", CELLS, None)], config).stuck
    held = np.where(stuck > 0, 200e-6, 10e-6)
    far = (stuck != 0) & (np.abs(held - targets) > 0.01 * span(config))
    assert np.count_nonzero(far) > 1500
    assert (written.status[far] == STUCK).all()
    assert (written.status[stuck == 0] == REACHED).all()
    assert written.pulses[far].max() <= 12
    np.testing.assert_allclose(written.g[stuck != 0], held[stuck != 0], rtol=1e-12)


@pytest.mark.parametrize(
    "override",
    [
        "programming.verify_noise=0.01",  # twice the tolerance
        "programming.verify_noise=0.2",  # reads below zero
        "programming.width_max=10 us",  # no pulse moves a cell by more than noise
        "programming.rate_d2d=1",
        "memristor.window_floor=0",
        "array.g_max=200 uS",  # the very end, which a state only creeps to
    ],
)
def test_cells_that_are_hard_to_write_are_not_called_stuck(override: str) -> None:
    config = hardware(override)
    written = write(config, spread_targets(config, 4000))
    assert not (written.status == STUCK).any()


def test_cells_of_very_different_speeds_are_written() -> None:
    config = hardware("programming.rate_d2d=1", "programming.rate_c2c=0.3")
    written = write(config, spread_targets(config))
    assert np.mean(np.abs(written.g - written.g_target) <= 0.01 * span(config)) >= 0.999


def test_giving_up_is_counted() -> None:
    config = hardware("programming.max_pulses=2")
    written = write(config, spread_targets(config, 4000))
    within = np.abs(written.g - written.g_target) <= 0.005 * span(config)
    assert 0.05 < np.mean(written.status == GAVE_UP) < 0.95
    assert set(written.status.tolist()) == {REACHED, GAVE_UP}
    assert (written.pulses[written.status == GAVE_UP] == 2).all()
    assert written.pulses.max() == 2
    assert np.mean(within == (written.status == REACHED)) > 0.9  # but for the noise of the reads


def test_without_noise_and_window_the_closed_form_takes_one_pulse() -> None:
    config = hardware(*QUIET, "memristor.window=directional", "memristor.window_p=5000")
    targets = spread_targets(config, 4000)
    written = write(config, targets)
    near = np.abs(targets - config.array.g_min) <= 0.005 * span(config)
    assert (written.pulses == np.where(near, 0, 1)).all()
    np.testing.assert_allclose(written.g[~near], targets[~near], rtol=0, atol=5e-4 * span(config))


def test_pulses_are_of_the_right_sign_and_width() -> None:
    config = hardware("programming.width_min=3 us", "programming.width_max=100 us", "programming.rate_d2d=1")
    draws = Draws([("tile", 3000, None)], config)
    bank = Recorded(TwinCells(draws.start_states(config), config.dynamic_memristor("a test")))
    written = write_verify(bank, spread_targets(config, 3000), draws, config, keep_history=True)
    assert len(bank.pulses) == config.write_pulses().max_pulses == len(written.history) - 1
    counted = np.zeros(3000, dtype=np.int64)
    for round_, (volts, widths, rates) in enumerate(bank.pulses):
        given = volts != 0
        counted += given
        error = written.g_target - written.history[round_]
        assert (volts[given] == np.where(error[given] > 0, 0.2, -0.5)).all()
        assert (np.abs(error[given]) > 0.005 * span(config)).all()
        steps = widths[given] / 3e-6
        np.testing.assert_allclose(steps, np.round(steps), rtol=1e-9)
        assert steps.min() >= 1 - 1e-9 and widths.max() <= 100e-6
        assert (rates == draws.rates(round_)).all()
        noise = 0.001 * span(config) * draws.noise(round_)
        np.testing.assert_allclose(written.history[round_], bank.reads[round_] + noise, rtol=1e-12)
    assert max(widths.max() for _, widths, _ in bank.pulses) == pytest.approx(99e-6)
    assert (counted == written.pulses).all()
    assert written.energy.sum() == pytest.approx(bank.energy, rel=1e-12)
    assert (written.g == bank.bank.read()).all()


def test_a_cell_is_done_at_the_first_read_within_tolerance() -> None:
    config = hardware()
    written = write(config, spread_targets(config, 2000), keep_history=True)
    errors = np.abs(np.array(written.history) - written.g_target) / span(config)
    first = np.argmax(errors <= 0.005, axis=0)
    assert (first == written.pulses).all()
    assert len(written.history) == written.pulses.max() + 1
    assert write(config, spread_targets(config, 20)).history == ()


@pytest.mark.parametrize("speed", [3.0, 30.0, 3000.0])
def test_the_controller_finds_the_speed_of_cells_that_are_not_memristors(speed: float) -> None:
    """Cells that know nothing of eq. 9; there a pulse from end to end takes 10 ms (SET) or 39 ms (RESET)."""
    config = hardware("programming.rate_d2d=0")
    targets = spread_targets(config, 1000)
    bank = Rods(np.full(1000, 90e-6), np.full(1000, speed), config)
    written = write_verify(bank, targets, Draws([("tile", 1000, None)], config), config)
    error = np.abs(written.g - targets) / span(config)
    assert (written.status == REACHED).mean() > 0.99
    assert np.mean(error <= 0.01) > 0.99


def test_a_cell_that_comes_right_at_the_last_read_is_not_stuck() -> None:
    """Eight pulses without an answer, and then one step smaller than reads can tell, into the tolerance."""
    config = hardware(*QUIET)
    target, tolerance = 50e-6, 0.005 * span(config)

    class Late(Rods):
        given = 0

        def pulse(self, volts: Array, widths: Array, rates: Array) -> Array:
            self.given += 1
            if self.given == 8:
                self.g[0] = target - 0.999 * tolerance
            return np.zeros(2)

    bank = Late(np.full(2, target - 1.003 * tolerance), np.zeros(2), config)
    draws = Draws([("tile", 2, None)], config)
    written = write_verify(bank, np.full(2, target), draws, config)
    assert written.status.tolist() == [REACHED, STUCK]
    assert written.pulses.tolist() == [8, 8]


def test_hardware_that_cannot_be_written() -> None:
    config = hardware()
    draws = Draws([("tile", 2, None)], config)
    bank = TwinCells(draws.start_states(config), config.dynamic_memristor("a test"))
    static = load_hardware("ta-hfo2").model_copy(update={"programming": config.programming})
    with pytest.raises(HardwareError, match="write-verify needs model aist"):
        write_verify(bank, np.full(2, 2e-4), draws, static)
    with pytest.raises(HardwareError, match=r"no section \[programming\]"):
        write_verify(bank, np.full(2, 5e-5), draws, config.model_copy(update={"programming": None}))


# --- fit_error_model -------------------------------------------------------------------------------

LOW, HIGH = 10e-6, 168e-6


def known_sigma(g: Array) -> Array:
    return (0.2 + 1.5 * g / HIGH - 1.2 * (g / HIGH) ** 2) * 1e-6


def known_mean(g: Array) -> Array:
    return (0.1 - 0.3 * g / HIGH) * 1e-6


def sample(count: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    targets = rng.uniform(LOW, HIGH, count)
    return targets, targets + known_mean(targets) + known_sigma(targets) * rng.standard_normal(count)


def test_a_known_error_is_recovered() -> None:
    """Of 100,000 cells in 24 bins: sigma of a bin to 1/sqrt(2 * 4167) = 1.1 %, the ends of a cubic to 3 times that."""
    model = fit_error_model(*sample(100_000), "a test", LOW, HIGH)
    assert (model.source, model.g_low, model.g_high, model.g_reference) == ("a test", LOW, HIGH, HIGH)
    assert model.seconds == (1.0,)
    g = np.linspace(LOW, HIGH, 101)
    mean, sigma = error_moments(g, model, None)
    np.testing.assert_allclose(sigma, known_sigma(g), rtol=0.05)
    np.testing.assert_allclose(mean, known_mean(g), rtol=0, atol=0.05 * known_sigma(g).max())


def test_fewer_cells_lower_the_degree() -> None:
    degrees = [len(fit_error_model(*sample(count), "", LOW, HIGH).sigma[0]) - 1 for count in (3, 90, 160, 100_000)]
    assert degrees == [0, 0, 1, 3]


def test_a_handful_of_cells_gives_constants() -> None:
    targets = np.array([20e-6, 60e-6, 110e-6])
    model = fit_error_model(targets, targets + np.array([1e-7, 2e-7, 6e-7]), "", LOW, HIGH)
    assert model.mean == ((pytest.approx(3e-7, rel=1e-5),),)
    assert model.sigma == ((pytest.approx(np.sqrt(7e-14), rel=1e-5),),)  # (4 + 1 + 9)e-14 / 2
    one = fit_error_model(targets[:1], targets[:1] + 1e-7, "", LOW, HIGH)
    assert one.sigma == ((0.0,),)
    nothing = fit_error_model(targets[:0], targets[:0], "", LOW, HIGH)
    assert (nothing.mean, nothing.sigma) == (((0.0,),), ((0.0,),))


def test_a_few_cells_given_up_do_not_set_the_spread_of_all() -> None:
    targets, g = sample(20_000)
    g[::1000] = LOW
    model = fit_error_model(targets, g, "", LOW, HIGH)
    at = np.linspace(LOW, HIGH, 101)
    np.testing.assert_allclose(error_moments(at, model, None)[1], known_sigma(at), rtol=0.15)


@pytest.mark.parametrize("ends", [(80e-6, 95e-6), (60e-6, 150e-6)])
@pytest.mark.parametrize("seed", range(10))
def test_a_spread_is_never_negative_nor_wild_where_there_were_no_cells(seed: int, ends: tuple[float, float]) -> None:
    """Targets in a part of the range, the spread falling to nothing within it."""
    rng = np.random.default_rng(seed)
    targets = rng.uniform(*ends, 1000)
    spread = (ends[1] - targets) / (ends[1] - ends[0]) * 1e-6
    model = fit_error_model(targets, targets + spread * rng.standard_normal(1000), "", LOW, HIGH)
    at = np.linspace(LOW, HIGH, 500)
    sigma = np.polynomial.polynomial.polyval(at / HIGH, model.sigma[0])
    assert sigma.min() >= 0
    assert sigma.max() < 4e-6
    assert np.abs(error_moments(at, model, None)[0]).max() < 1e-6


def test_all_targets_may_be_the_same() -> None:
    rng = np.random.default_rng(0)
    targets = np.full(1000, 60e-6)
    model = fit_error_model(targets, targets + 1e-6 * rng.standard_normal(1000), "", LOW, HIGH)
    assert len(model.sigma[0]) == 1
    assert model.sigma[0][0] == pytest.approx(1e-6, rel=0.1)
