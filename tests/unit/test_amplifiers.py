"""Offsets and noise of amplifiers: their spread over many draws, closed forms, ngspice's own noise analysis."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from support import complaints, measures, run_ngspice

from hvae_mnn.circuit.amplifiers import (
    NoiseSource,
    amplifier_count,
    amplifier_offsets,
    feedback_capacitance,
    read_noise,
)
from hvae_mnn.circuit.plan import TilePlan
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

Array = NDArray[np.float64]

NETLISTS = Path(__file__).resolve().parents[2] / "netlists"
KT = 1.380649e-23 * 300
R_F, R_REF, GBW, E_N = 80e3, 9e3, 1e9, 5e-9
CYCLE = 4e-6
TIME = 0.75 * CYCLE  # from reset to sampling
LOADS = np.array([1.2e-4, 9e-4])
G_REF = 3e-4


def make_plan(columns: int = 2, reference: bool = False, name: str = "encoder1.i.r0c0") -> TilePlan:
    return TilePlan(
        name=name,
        gate="i",
        deck="decks/encoder1/i/r0c0.cir",
        inputs=(0, 1, -1),
        column_start=0,
        column_stop=columns,
        weight_per_siemens=1e4,
        r_s=14e3,
        r_f=R_F,
        r_reference=R_REF if reference else None,
        full_scale=1.0,
        scale=1.0,
        clipped_weights=0,
    )


def hardware(*overrides: str) -> HardwareConfig:
    return load_hardware("default", list(overrides))


# --- offsets -------------------------------------------------------------------------------

SPREAD = ("amplifier.offset=-0.4 mV", "amplifier.offset_sigma=2 mV")


@pytest.mark.parametrize("reference", [False, True])
def test_every_amplifier_has_an_offset_of_its_own_that_stays(reference: bool) -> None:
    plan, config = make_plan(5, reference), hardware(*SPREAD, "device.seed=3")
    drawn = amplifier_offsets(plan, config)
    assert amplifier_count(plan) == len(drawn) == len(set(drawn)) == 5 + reference
    np.testing.assert_array_equal(amplifier_offsets(plan, config), drawn)


def test_another_tile_and_another_seed_draw_others() -> None:
    plan, config = make_plan(5), hardware(*SPREAD, "device.seed=3")
    drawn = amplifier_offsets(plan, config)
    assert np.all(amplifier_offsets(make_plan(5, name="encoder1.i.r0c1"), config) != drawn)
    assert np.all(amplifier_offsets(plan, hardware(*SPREAD, "device.seed=4")) != drawn)


def test_a_spread_scales_each_amplifiers_own_deviation() -> None:
    plan = make_plan(5)
    drawn = amplifier_offsets(plan, hardware("amplifier.offset=1 mV", "amplifier.offset_sigma=2 mV"))
    wider = amplifier_offsets(plan, hardware("amplifier.offset=-3 mV", "amplifier.offset_sigma=6 mV"))
    np.testing.assert_allclose(wider + 3e-3, 3 * (drawn - 1e-3), rtol=1e-12)


def test_mean_and_spread_over_many_tiles() -> None:
    config, count = hardware(*SPREAD), 400
    drawn = np.array([amplifier_offsets(make_plan(25, name=f"tile{k}"), config) for k in range(count)]).ravel()
    assert abs(drawn.mean() + 0.4e-3) < 3 * 2e-3 / np.sqrt(drawn.size)
    assert abs(drawn.std() - 2e-3) < 3 * 2e-3 / np.sqrt(2 * drawn.size)
    assert abs(np.mean(np.abs(drawn + 0.4e-3) < 2e-3) - 0.6827) < 3 * np.sqrt(0.6827 * 0.3173 / drawn.size)


def test_without_spread_all_offsets_are_the_same_and_ideal_amplifiers_have_none() -> None:
    assert amplifier_offsets(make_plan(3), hardware("amplifier.offset=1 mV")).tolist() == [1e-3] * 3
    assert amplifier_offsets(make_plan(3), hardware(*SPREAD, "amplifier.gain=none")).tolist() == [0] * 3


# --- noise ---------------------------------------------------------------------------------


def noisy(*overrides: str) -> HardwareConfig:
    return hardware(f"amplifier.noise={E_N}", f"timing.cycle={CYCLE}", *overrides)


def transimpedance_noise(r_f: float, g: float, gain: float = 1e6) -> float:
    """Return the output's rms, all frequencies added up.

    The bit line u = (o/R_f + i)/(1/R_f + G) with i the resistors' noise; o (1/A + s/w) = e - u.
    """
    white, thermal = E_N**2, 4 * KT * (1 / r_f + g)

    def density(decades: float) -> float:
        f = 10**decades
        loop = 1 / gain + 1j * f / GBW + 1 / (1 + r_f * g)
        return float((white + thermal / (1 / r_f + g) ** 2) / abs(loop) ** 2 * f * np.log(10))

    return float(np.sqrt(quad(density, 0, 14, limit=400, epsrel=1e-10)[0]))


@pytest.mark.parametrize("encoding", ["amplitude", "bit-serial"])
def test_a_transimpedances_noise_is_its_spectrum_added_up(encoding: str) -> None:
    found = read_noise(make_plan(), noisy(f"drive.encoding={encoding}"), np.diag(LOADS))
    expected = [transimpedance_noise(R_F, g) for g in LOADS]
    np.testing.assert_allclose(found * (1 + R_F * LOADS), expected, rtol=1e-3)


def test_a_reference_resistor_loads_and_heats_the_columns() -> None:
    found = read_noise(make_plan(reference=True), noisy(), np.diag([*LOADS, G_REF]))
    totals, feedback = np.array([*(LOADS + 1 / R_REF), G_REF]), np.array([R_F, R_F, R_REF])
    expected = [transimpedance_noise(r, g) for r, g in zip(feedback, totals, strict=True)]
    np.testing.assert_allclose(found * (1 + feedback * totals), expected, rtol=1e-3)


def trimmed(*g: float) -> float:
    """Return C_f, less what the amplifiers' bandwidth adds to it."""
    return float(0.6 * CYCLE / R_F - np.mean(g) / (2 * np.pi * GBW))


def integrated(density: float, c_f: float, g: float, time: float = TIME, gain: float = 1e6) -> float:
    """Return V^2 on C_f of a current noise of `density` A^2/Hz over a time, through the droop's window.

    The window is exp(-(t - t')/tau), tau = (1 + A) C_f/G, and its spectrum's square is added up.
    """
    tau = (1 + gain) * c_f / g

    def spectrum(cycles: float) -> float:
        s = 2j * np.pi * cycles / time + 1 / tau
        return float(abs((1 - np.exp(-s * time)) / s) ** 2 / time)

    far = 500  # whole cycles; beyond, sin^2 counts half
    total = sum(quad(spectrum, k, k + 1, epsrel=1e-8)[0] for k in range(far)) + time / (2 * np.pi**2 * far)
    return density / c_f**2 * float(total)


def test_an_integrators_noise_is_a_random_walk_and_what_its_switch_and_amplifier_leave() -> None:
    """Current through G for the time since the reset; kT/C of the switch; e_n itself, by a loop of gain GBW/f."""
    found = read_noise(make_plan(), noisy("drive.encoding=pulse-width"), np.diag(LOADS))
    loop, c_f = quad(lambda f: 1 / (1 + f**2), 0, np.inf)[0] * GBW, trimmed(*LOADS)
    expected = [integrated(E_N**2 * g**2 + 4 * KT * g, c_f, g) + KT / c_f + E_N**2 * loop for g in LOADS]
    np.testing.assert_allclose((found * (1 + TIME * LOADS / c_f)) ** 2, expected, rtol=1e-4)


def test_heat_on_an_integrator_tends_to_that_on_any_capacitor() -> None:
    """1/G on C_f alone settles to kT/C_f: kT/C_f (1 - exp(-2 G t/C_f)), of which the walk is the beginning."""
    g = 1e-9
    c_f = trimmed(g)
    found = read_noise(make_plan(1), noisy("drive.encoding=pulse-width", "amplifier.noise=1e-15"), np.diag([g]))
    walk = (found[0] * (1 + TIME * g / c_f)) ** 2 - KT / c_f
    assert walk == pytest.approx(KT / c_f * -np.expm1(-2 * g * TIME / c_f), rel=1e-3)


def test_integrators_average_the_noise_of_their_reference_column() -> None:
    """Its output's density at low frequency is a current through R_ref into every column."""
    config, totals = noisy("drive.encoding=pulse-width"), LOADS + 1 / R_REF
    found = read_noise(make_plan(reference=True), config, np.diag([*LOADS, G_REF]))
    c_f, noise_gain = trimmed(*totals), 1 + R_REF * G_REF
    density = E_N**2 * noise_gain**2 + 4 * KT * (1 / R_REF + G_REF) * R_REF**2
    walked = found[-1] * noise_gain / R_REF * TIME / c_f  # as an offset that stays
    assert walked == pytest.approx(np.sqrt(integrated(density / R_REF**2, c_f, totals[0])), rel=1e-4)


@pytest.mark.parametrize("reference", [False, True])
def test_feedback_is_trimmed_by_the_mean_of_what_bandwidth_adds(reference: bool) -> None:
    plan, load = make_plan(reference=reference), np.diag([*LOADS, G_REF] if reference else LOADS)
    assert feedback_capacitance(plan, noisy(), load) == pytest.approx(trimmed(*(LOADS + reference / R_REF)), rel=1e-12)
    whole = 0.6 * CYCLE / R_F
    assert feedback_capacitance(plan, noisy("amplifier.gain=none"), load) == pytest.approx(whole, rel=1e-12)
    slow = noisy("amplifier.gain_bandwidth=1 MHz")
    assert feedback_capacitance(plan, slow, load) == pytest.approx(whole / 2, rel=1e-12)


@pytest.mark.parametrize("overrides", [("amplifier.noise=0",), ("amplifier.gain=none",)])
def test_there_is_none_without(overrides: tuple[str, ...]) -> None:
    config = noisy(*overrides)
    assert not read_noise(make_plan(), config, np.diag(LOADS)).any()
    assert NoiseSource.of_tile(make_plan(), config, np.diag(LOADS)) is None


def test_a_source_draws_its_spread_and_the_same_again() -> None:
    plan, load = make_plan(reference=True), np.diag([*LOADS, G_REF])
    source, again = (NoiseSource.of_tile(plan, noisy(), load) for _ in range(2))
    assert source is not None and again is not None
    drawn, reads = source.draw(20_000), 20_000
    np.testing.assert_array_equal(np.concatenate([again.draw(7), again.draw(reads - 7)]), drawn)
    sigma = read_noise(plan, noisy(), load)
    assert np.all(np.abs(drawn.mean(axis=0)) < 3 * sigma / np.sqrt(reads))
    assert np.all(np.abs(drawn.std(axis=0) - sigma) < 3 * sigma / np.sqrt(2 * reads))
    assert np.all(np.abs(np.corrcoef(drawn.T) - np.eye(3)) < 3 / np.sqrt(reads))
    other = NoiseSource.of_tile(make_plan(reference=True, name="other"), noisy(), load)
    assert other is not None
    assert np.all(other.draw(reads) != drawn)


# --- ngspice -------------------------------------------------------------------------------


def ngspice_noise(folder: Path, r_f: float, g: float, e_n: float) -> float:
    """Return the output's rms of a transimpedance by `.noise`, volt, as at 300 K.

    The amplifier's own noise is that of a resistor before its + input, through which nothing flows.
    """
    library = (NETLISTS / "transimpedance.lib").read_text()
    own = f"R_own plus quiet {e_n**2 / (4 * KT)!r}\nV_os quiet 0 {{offset}}"
    library, found = re.subn(r"^V_os plus 0 \{offset\}$", own, library, flags=re.MULTILINE)
    assert found == 1
    lines = [
        "* noise",
        library,
        ".temp 26.85",
        "V_in row 0 DC 0 AC 1",
        f"R_in row in {1 / g!r}",
        f"X_amp in out transimpedance r_f={r_f!r} gain=1e6 gain_bandwidth={GBW!r}",
        ".control",
        "noise v(out) V_in dec 200 1 1e14",
        "setplot noise2",
        "print onoise_total",
        "quit",
        ".endc",
        ".end",
    ]
    deck = folder / "noise.cir"
    deck.write_text("\n".join(lines) + "\n")
    printed = run_ngspice([str(deck)])
    assert complaints(printed) == []
    return measures(printed)["onoise_total"]


@pytest.mark.ngspice
@pytest.mark.parametrize("e_n", [1e-12, E_N])
@pytest.mark.parametrize("r_f", [3e3, R_F])
def test_noise_is_that_of_ngspice(tmp_path: Path, r_f: float, e_n: float) -> None:
    g = 2.5e-4
    plan = make_plan(1).model_copy(update={"r_f": r_f})
    found = read_noise(plan, noisy(f"amplifier.noise={e_n}"), np.array([[g]]))[0] * (1 + r_f * g)
    assert found == pytest.approx(ngspice_noise(tmp_path, r_f, g, e_n), rel=1e-3)
