"""Mean and variance of dot products under each noise law, over 10,000 trials, against closed forms.

A trial is a tile of 6 rows (the last a bias) and 3 columns with the errors of its own seed, or a read of its own.
Found and expected agree within 3 standard errors, and would not were sigma 10 % larger.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from making import layer_inputs, make_build
from numpy.typing import NDArray
from scipy import stats
from scipy.constants import Boltzmann

from hvae_mnn.circuit.amplifiers import TEMPERATURE, NoiseSource
from hvae_mnn.circuit.cell_noise import CellNoise
from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.crossbar import solve_array, solve_transfer
from hvae_mnn.circuit.integrator import solve_tile
from hvae_mnn.circuit.plan import Tile, TilePlan
from hvae_mnn.circuit.variation import program_conductances
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.hardware.cells import ErrorModel
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

Array = NDArray[np.float64]

TRIALS = 10_000
SCHEMES = ("paired", "reference-column", "differential")
WIDE = ("memristor.r_on=1 ohm", "memristor.r_off=1e12 ohm", "device.error_model=none", "amplifier.gain=none")
R_S, R_F, V_READ = 25e3, 40e3, 0.2
DRIVES = np.array([0.9, -0.6, 0.35, -0.8, 0.1, 1.0])
TARGETS = np.random.default_rng(7).uniform(2e-6, 38e-6, (12, 3))


def hardware(scheme: str, *overrides: str) -> HardwareConfig:
    """Return a device of 1 to 40 uS whose cells can hold whatever they are given."""
    return load_hardware("rram-wan2022", [*WIDE, f"array.scheme={scheme}", f"drive.v_read={V_READ}", *overrides])


def make_tile(config: HardwareConfig, g: Array) -> Tile:
    """Return a tile of as many rows as DRIVES that holds g; two rows of g a row for `differential`."""
    scheme, columns = config.array.scheme, g.shape[1]
    plan = TilePlan(
        name="encoder1.i.r0c0",
        gate="i",
        deck="decks/encoder1/i/r0c0.cir",
        inputs=(0, 1, 2, 3, 4, -1),
        column_start=0,
        column_stop=columns,
        weight_per_siemens=1e4,
        r_s=None if scheme == "differential" else R_S,
        r_f=R_F,
        r_reference=9e3 if scheme == "reference-column" else None,
        full_scale=1.0,
        scale=1.0,
        clipped_weights=0,
    )
    return Tile(plan, g, g)


def cells(config: HardwareConfig) -> Array:
    """Return targets of all cells of a tile, siemens, (memristor rows, columns)."""
    return TARGETS if config.array.scheme == "differential" else TARGETS[:6]


def every_seed(config: HardwareConfig) -> Iterator[HardwareConfig]:
    """Yield the hardware with one device seed after another."""
    for seed in range(TRIALS):
        yield config.model_copy(update={"device": config.device.model_copy(update={"seed": seed})})


def programmed_sums(config: HardwareConfig) -> Array:
    """Return column voltages of tiles that are programmed with each seed, (trials, columns)."""
    targets = cells(config)
    tiles = (make_tile(each, program_conductances(targets, "encoder1.i.r0c0", each)) for each in every_seed(config))
    return np.concatenate([solve_transfer(tile, config).read(DRIVES[None]) for tile in tiles])


def dot_product(config: HardwareConfig, g: Array) -> Array:
    """Return eq. 12 at the amplifiers' outputs, volt, (columns,), from conductances, (memristor rows, columns)."""
    if config.array.scheme == "differential":
        return np.asarray(-R_F * V_READ * DRIVES @ (g[:6] - g[6:]))
    sign = -1 if config.array.scheme == "paired" else 1
    return np.asarray(sign * R_F * V_READ * DRIVES @ (1 / R_S - g))


def dot_variance(config: HardwareConfig, variance: Array) -> Array:
    """Return the variance of eq. 12, volt^2, (columns,), from that of independent cells, (memristor rows, columns)."""
    return np.asarray((R_F * V_READ * DRIVES) ** 2 @ variance.reshape(-1, 6, variance.shape[1]).sum(axis=0))


def agree(samples: Array, mean: Array | float, variance: Array | float) -> bool:
    """Say whether samples, (trials, columns), have a mean and a variance within 3 standard errors.

    The variance's own error is that of the fourth moment: (m_4 - s^4) / trials.
    """
    assert len(samples) >= TRIALS
    off = samples - samples.mean(axis=0)
    spread = (off**2).sum(axis=0) / (len(samples) - 1)
    mean_error = np.sqrt(spread / len(samples))
    spread_error = np.sqrt(((off**4).mean(axis=0) - spread**2) / len(samples))
    right = np.abs(samples.mean(axis=0) - mean) <= 3 * mean_error
    return bool(np.all(right & (np.abs(spread - variance) <= 3 * spread_error)))


def check(samples: Array, mean: Array | float, variance: Array | float) -> None:
    """Compare samples with a law, and make sure that one of 10 % more or less sigma is told from it."""
    assert agree(samples, mean, variance)
    assert not agree(samples, mean, 1.1**2 * np.asarray(variance))
    assert not agree(samples, mean, 0.9**2 * np.asarray(variance))


# --- programming -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lognormal_programming_error(scheme: str) -> None:
    """G e^(s n) has mean G e^(s^2/2) and variance G^2 e^(s^2) (e^(s^2) - 1)."""
    s = 0.3
    config = hardware(scheme, f"device.sigma={s}")
    g = cells(config)
    expected = dot_product(config, g * np.exp(s**2 / 2))
    check(programmed_sums(config), expected, dot_variance(config, g**2 * np.exp(s**2) * np.expm1(s**2)))


def test_programming_error_that_the_device_clips() -> None:
    """Moments of the clipped lognormal, by integrals between the corners."""
    s, lowest, highest = 0.6, 1e-6, 40e-6
    config = hardware("paired", f"device.sigma={s}", "memristor.r_on=25 kohm", "memristor.r_off=1 Mohm")
    g = cells(config)

    def moment(target: float, power: int) -> float:
        ends = np.log(np.array([lowest, highest]) / target) / s
        inside = stats.norm.expect(lambda n: (target * np.exp(s * n)) ** power, lb=ends[0], ub=ends[1])
        return float(lowest**power * stats.norm.cdf(ends[0]) + inside + highest**power * stats.norm.sf(ends[1]))

    first, second = (np.vectorize(moment)(g, power) for power in (1, 2))
    unclipped = g**2 * np.exp(s**2) * np.expm1(s**2)
    assert np.all(dot_variance(config, second - first**2) < 0.5 * dot_variance(config, unclipped))
    check(programmed_sums(config), dot_product(config, first), dot_variance(config, second - first**2))


MODEL = ErrorModel(
    source="this test",
    g_low=0,
    g_high=1e-3,
    g_reference=40e-6,
    seconds=(1.0, 100.0, 1e5),
    mean=((0.0, 1e-7), (-2e-7, 1e-7, 1e-7), (-4e-7,)),
    sigma=((0.5e-7, 1e-7), (1e-7, 2e-7, -1e-7), (3e-7, 1e-7)),
)


@pytest.mark.parametrize(
    ("seconds", "before", "after", "share"),
    [(None, 0, 0, 0.0), (100.0, 1, 1, 0.0), (10.0, 0, 1, 0.5), (1e4, 1, 2, 2 / 3)],
)
def test_error_model_at_a_time_and_in_between(seconds: float | None, before: int, after: int, share: float) -> None:
    """mean(G) and sigma(G) are polynomials of G / g_reference, and linear in ln t between two times."""
    config = hardware("paired")
    device = config.device.model_copy(update={"error_model": MODEL})
    time = config.time.model_copy(update={"seconds": seconds})
    config = config.model_copy(update={"device": device, "time": time})
    g = cells(config)
    assert MODEL.mean is not None
    mean, sigma = (
        sum((1 - share) * a * (g / 40e-6) ** power for power, a in enumerate(rows[before]))
        + sum(share * a * (g / 40e-6) ** power for power, a in enumerate(rows[after]))
        for rows in (MODEL.mean, MODEL.sigma)
    )
    check(programmed_sums(config), dot_product(config, g + mean), dot_variance(config, sigma**2))


@pytest.mark.parametrize(("p_lrs", "p_hrs"), [(0.1, 0.0), (0.0, 0.2), (0.05, 0.15)])
def test_stuck_cells(p_lrs: float, p_hrs: float) -> None:
    """A cell is 1/r_on, 1/r_off or its target with its probability."""
    stuck = (f"stuck.p_lrs={p_lrs}", f"stuck.p_hrs={p_hrs}")
    config = hardware("paired", "memristor.r_on=20 kohm", "memristor.r_off=2 Mohm", *stuck)
    g, free = cells(config), 1 - p_lrs - p_hrs
    first, second = (p_lrs / 20e3**n + p_hrs / 2e6**n + free * g**n for n in (1, 2))
    check(programmed_sums(config), dot_product(config, first), dot_variance(config, second - first**2))


# --- reads -----------------------------------------------------------------------------------

READ_SIGMA = 0.02  # of 40 uS
READ = f"device.read_sigma={READ_SIGMA}"


def cell_noise(tile: Tile, config: HardwareConfig) -> CellNoise:
    noise = CellNoise.of_tile(tile, config, solve_tile(tile, config))
    assert noise is not None
    return noise


@pytest.mark.parametrize("encoding", ["amplitude", "pulse-width"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_read_noise(scheme: str, encoding: str) -> None:
    """sigma g_max of every cell; pulses of full scale go as far as r_f takes their current."""
    config = hardware(scheme, READ, f"drive.encoding={encoding}")
    tile = make_tile(config, cells(config))
    samples = cell_noise(tile, config).draw(np.tile(DRIVES, (TRIALS, 1)))
    check(samples, 0, dot_variance(config, np.full_like(tile.g, (READ_SIGMA * 40e-6) ** 2)))
    assert np.all(np.abs(np.corrcoef(samples.T) - np.eye(3)) <= np.eye(3) + 3 / np.sqrt(TRIALS))


def test_read_noise_through_an_amplifier_of_little_gain() -> None:
    """A closed loop of gain A gives 1 / (1 + (1 + r_f G) / A) of it."""
    config = hardware("paired", READ, "amplifier.gain=50")
    tile = make_tile(config, cells(config))
    loop = 1 / (1 + (1 + R_F * (6 / R_S + tile.g.sum(axis=0))) / 50)
    expected = loop**2 * dot_variance(config, np.full_like(tile.g, (READ_SIGMA * 40e-6) ** 2))
    check(cell_noise(tile, config).draw(np.tile(DRIVES, (TRIALS, 1))), 0, expected)


WIRES = ("array.r_wire=5", "array.r_driver=20")
LITTLE = ("amplifier.gain=500", "amplifier.v_saturation=50")
PULSES = "drive.encoding=pulse-width"


@pytest.mark.parametrize("wires", [(), WIRES])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_read_noise_is_that_of_cells_that_are_drawn_one_by_one(scheme: str, wires: tuple[str, ...]) -> None:
    """Every cell of every trial gets a deviation of its own, and the network is solved with it."""
    config = hardware(scheme, READ, *wires)
    tile = make_tile(config, cells(config))
    deviations = READ_SIGMA * 40e-6 * np.random.default_rng(2).standard_normal((TRIALS, *tile.g.shape))
    quiet = solve_transfer(tile, config).read(DRIVES[None])[0]
    samples = [solve_transfer(make_tile(config, tile.g + each), config).read(DRIVES[None])[0] for each in deviations]
    check(np.array(samples), quiet, DRIVES**2 @ cell_noise(tile, config).squares)


@pytest.mark.parametrize(
    ("circuit", "tolerance"),
    [((), 1e-9), (WIRES, 2e-3), (LITTLE, 2e-3), ((PULSES, "amplifier.gain=1e6"), 1e-4), ((PULSES, *LITTLE), 2e-2)],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_sigma_is_that_of_all_cells_changed_in_turn(scheme: str, circuit: tuple[str, ...], tolerance: float) -> None:
    """The network is solved with one cell a sigma up and down, all rows driven; what it moves adds up in squares."""
    config = hardware(scheme, READ, *circuit)
    tile, sigma = make_tile(config, cells(config)), READ_SIGMA * 40e-6
    squares = np.zeros(3)
    for cell in np.ndindex(*tile.g.shape):
        step = np.zeros_like(tile.g)
        step[cell] = sigma
        up, down = (
            solve_tile(make_tile(config, g), config).read(DRIVES[None])[0] for g in (tile.g + step, tile.g - step)
        )
        squares += ((up - down) / 2) ** 2
    found = np.sqrt(DRIVES**2 @ cell_noise(tile, config).squares)
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=tolerance)


def test_read_noise_of_the_nodal_engine() -> None:
    """The same sentence 10,000 times: variance at the ADC is r_f^2 sum (V sigma g_max)^2, a bias row counted."""
    build = make_build(None, "ideal", ("array.tile_rows=8", "array.tile_columns=3", READ))
    engine, (tile, *_) = NodalEngine(build), build.layer("encoder1").tiles
    config, inputs = build.manifest.hardware, layer_inputs(build, "encoder1")[-1]
    samples = engine.step({"encoder1": np.tile(inputs, (TRIALS, 1))})["encoder1"].analog[:, :3]
    quiet = NodalEngine(make_build(None, "ideal", ("array.tile_rows=8", "array.tile_columns=3")))
    mean = quiet.step({"encoder1": inputs[None]})["encoder1"].analog[0, :3]
    power = sum(1.0 if place < 0 else inputs[place] ** 2 for place in tile.inputs)
    volt = tile.r_f * config.drive.v_read * READ_SIGMA * config.array.g_max
    check(samples, mean, volt**2 * power / config.adc.v_full_scale**2)


def noise_gain(tile: Tile, config: HardwareConfig) -> Array:
    """Return 1 + r_f G of each column of a paired tile, G all that hangs at its bit line."""
    return np.asarray(1 + R_F * (6 / R_S + tile.g.sum(axis=0)))


AMPLIFIER = ("amplifier.gain=1e9", "amplifier.gain_bandwidth=1 GHz", "amplifier.v_saturation=50 V")


def test_offsets_of_amplifiers() -> None:
    """An offset at the input is N times as much at the output."""
    config = hardware("paired", *AMPLIFIER, "amplifier.offset=-0.3 mV", "amplifier.offset_sigma=2 mV")
    tile = make_tile(config, cells(config))
    samples = np.concatenate([solve_transfer(tile, each).read(DRIVES[None]) for each in every_seed(config)])
    gain = noise_gain(tile, config)
    check(samples, dot_product(config, tile.g) - 0.3e-3 * gain, (2e-3 * gain) ** 2)


@pytest.mark.parametrize("density", [1e-12, 4e-9])
def test_amplifier_and_thermal_noise(density: float) -> None:
    """(e^2 N^2 + 4 k T (1/r_f + G) r_f^2) (pi/2) f / N, of which a very quiet amplifier leaves the resistors'."""
    config = hardware("paired", *AMPLIFIER, f"amplifier.noise={density}")
    tile = make_tile(config, cells(config))
    source = NoiseSource.of_tile(tile.plan, config, solve_array(tile, config).load)
    assert source is not None
    samples = solve_transfer(tile, config).read(np.tile(DRIVES, (TRIALS, 1)), source.draw(TRIALS))
    gain = noise_gain(tile, config)
    heat = 4 * Boltzmann * TEMPERATURE * gain / R_F * R_F**2
    check(samples, dot_product(config, tile.g), (density**2 * gain**2 + heat) * np.pi / 2 * 1e9 / gain)


# --- quantisation ----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_of_the_adc(bits: int) -> None:
    """A column value that is spread evenly over all codes is rounded by an even spread of one LSB: LSB^2/12."""
    adc, rng = Converter(bits), np.random.default_rng(bits)
    reach = (adc.code_max + 0.5) / adc.code_max
    columns = rng.uniform(-reach, reach, (TRIALS, 3))
    check(adc.decode(adc.read(columns)) - columns, 0, 1 / adc.code_max**2 / 12)


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_of_the_dacs(bits: int) -> None:
    """Every row's LSB^2/12, through its conductances."""
    dac, rng = Converter(bits), np.random.default_rng(10 + bits)
    config = hardware("paired")
    tile = make_tile(config, cells(config))
    rows, transfer = rng.uniform(-1, 1, (TRIALS, 6)), solve_transfer(tile, config)
    samples = transfer.read(dac.drive(dac.encode(rows))) - transfer.read(rows)
    weights = R_F * V_READ * (1 / R_S - tile.g)
    check(samples, 0, (weights**2).sum(axis=0) / dac.code_max**2 / 12)
