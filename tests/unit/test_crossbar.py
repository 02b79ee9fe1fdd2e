"""The closed form of a tile against Kirchhoff's equations written out and solved on their own."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.hardware_files import load_hardware
from hvae_mnn.physics.crossbar import settling_error, solve_transfer
from hvae_mnn.plan import Tile, TilePlan

G1, G2 = 31e-6, 117e-6
R_S, R_F, R_REF = 14e3, 23e3, 9e3
V_READ = 0.05


def make_tile(reference: bool, g: np.ndarray) -> Tile:
    plan = TilePlan(
        name="encoder1.i.r0c0",
        gate="i",
        deck="decks/encoder1/i/r0c0.cir",
        inputs=(0, -1),
        column_start=0,
        column_stop=g.shape[1],
        weight_per_siemens=1e4,
        r_s=R_S,
        r_f=R_F,
        r_reference=R_REF if reference else None,
        full_scale=1.0,
        scale=1.0,
        clipped_weights=0,
    )
    return Tile(plan, g, g)


def hardware(scheme: str, *overrides: str) -> HardwareConfig:
    return load_hardware("default", [f"array.scheme={scheme}", *overrides])


Solve = Callable[[float, float, float, float], float]
REAL = ("amplifier.gain=40", "amplifier.offset=3 mV", "amplifier.v_saturation=10 V")


def paired_by_kirchhoff(f1: float, f2: float, gain: float, offset: float) -> float:
    """Unknowns: bit line c, output o.

    c: (+V1 - c)/R_s + (-V1 - c) G1 + (+V2 - c)/R_s + (-V2 - c) G2 + (o - c)/R_f = 0;  o = A (offset - c)
    """
    v1, v2 = V_READ * f1, V_READ * f2
    matrix = [[2 / R_S + G1 + G2 + 1 / R_F, -1 / R_F], [gain, 1]]
    right = [v1 * (1 / R_S - G1) + v2 * (1 / R_S - G2), gain * offset]
    return float(np.linalg.solve(matrix, right)[1])


def reference_by_kirchhoff(f1: float, f2: float, gain: float, offset: float) -> float:
    """Unknowns: reference line s, its amplifier's output p, bit line c, output o.

    s: (V1 - s)/R_s + (V2 - s)/R_s + (p - s)/R_ref = 0;       p = A (offset - s)
    c: (V1 - c) G1 + (V2 - c) G2 + (p - c)/R_ref + (o - c)/R_f = 0;  o = A (offset - c)
    """
    v1, v2 = V_READ * f1, V_READ * f2
    matrix = [
        [2 / R_S + 1 / R_REF, -1 / R_REF, 0, 0],
        [gain, 1, 0, 0],
        [0, -1 / R_REF, G1 + G2 + 1 / R_REF + 1 / R_F, -1 / R_F],
        [0, 0, gain, 1],
    ]
    right = [(v1 + v2) / R_S, gain * offset, v1 * G1 + v2 * G2, gain * offset]
    return float(np.linalg.solve(matrix, right)[3])


@pytest.mark.parametrize(
    ("scheme", "solve"), [("paired", paired_by_kirchhoff), ("reference-column", reference_by_kirchhoff)]
)
def test_closed_form_with_finite_gain_and_offset(scheme: str, solve: Solve) -> None:
    tile = make_tile(scheme != "paired", np.array([[G1], [G2]]))
    transfer = solve_transfer(tile, hardware(scheme, *REAL))
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.8, 0.35]])
    expected = [[solve(f1, f2, 40.0, 3e-3)] for f1, f2 in rows]
    np.testing.assert_allclose(transfer.read(rows), expected, rtol=1e-12)


@pytest.mark.parametrize(("scheme", "sign"), [("paired", -1), ("reference-column", 1)])
def test_ideal_amplifiers_leave_eq_12(scheme: str, sign: int) -> None:
    """-+R_f sum (1/R_s - G) V, column by column; no limit."""
    g = np.array([[31e-6, 80e-6, 12e-6], [117e-6, 44e-6, 160e-6]])
    config = hardware(scheme, "amplifier.gain=none", "amplifier.offset=3 mV")
    rows = np.array([[0.6, -0.25]])
    expected = sign * R_F * (V_READ * rows @ (1 / R_S - g))
    transfer = solve_transfer(make_tile(scheme != "paired", g), config)
    np.testing.assert_allclose(transfer.read(rows), expected, rtol=1e-12)
    assert transfer.limit == np.inf


def test_a_large_gain_goes_to_the_ideal_amplifier() -> None:
    tile, rows = make_tile(False, np.array([[G1], [G2]])), np.array([[0.6, -0.25]])
    ideal = solve_transfer(tile, hardware("paired", "amplifier.gain=none")).read(rows).item()
    missing = [
        1 - solve_transfer(tile, hardware("paired", f"amplifier.gain={gain}")).read(rows).item() / ideal
        for gain in (1e4, 1e6)
    ]
    noise_gain = 1 + R_F * (2 / R_S + G1 + G2)
    assert missing == pytest.approx([noise_gain / 1e4, noise_gain / 1e6], rel=1e-3)


def test_outputs_saturate_at_either_limit() -> None:
    """Full rows ask for 6 V of the 0.6 V there are; small ones do not."""
    g = np.array([[10e-6], [12e-6]])
    tile = make_tile(False, g)
    tile = Tile(tile.plan.model_copy(update={"r_f": 1e6}), g, g)
    found = solve_transfer(tile, hardware("paired")).read(np.array([[1.0, 1.0], [-1.0, -1.0], [0.05, -0.02]]))
    middle = -1e6 * V_READ * (0.05 * (1 / R_S - 10e-6) - 0.02 * (1 / R_S - 12e-6))
    assert found.ravel().tolist() == [-0.6, 0.6, pytest.approx(middle, rel=1e-3)]
    assert abs(middle) < 0.6


@pytest.mark.parametrize("scheme", ["paired", "reference-column"])
def test_settling_error_is_that_of_the_one_pole_loop(scheme: str) -> None:
    """dv/dt = 2 pi GBW (V_os - c - v/A) integrated from 0 to the end of sampling, for the slower column."""
    g = np.array([[31e-6, 80e-6], [117e-6, 44e-6]])  # sums 148 and 124 uS: the first is slower
    config = hardware(
        scheme, "amplifier.gain=40", "amplifier.gain_bandwidth=2 MHz", "timing.cycle=1 us", "timing.edge=20 ns"
    )
    fixed = 2 / R_S if scheme == "paired" else 1 / R_REF
    total, drive = 148e-6 + fixed + 1 / R_F, 1e-6

    def slope(_: float, v: np.ndarray) -> np.ndarray:
        line = (drive + v / R_F) / total
        return 2 * np.pi * 2e6 * (-line - v / 40)

    settled = -drive / total / (1 / (R_F * total) + 1 / 40)
    end = solve_ivp(slope, (0, 0.8e-6 - 20e-9), [0.0], rtol=1e-10, atol=1e-14).y[0, -1]
    assert settling_error(make_tile(scheme != "paired", g), config) == pytest.approx(1 - end / settled, rel=1e-6)


def test_an_ideal_amplifier_is_settled() -> None:
    assert settling_error(make_tile(False, np.array([[G1], [G2]])), hardware("paired", "amplifier.gain=none")) == 0


def reference_saturates_by_kirchhoff(f1: float, f2: float, gain: float, limit: float) -> float:
    """The reference amplifier is at its limit and drives the column through R_ref from there.

    c: (V1 - c) G1 + (V2 - c) G2 + (p - c)/R_ref + (o - c)/R_f = 0;  o = -A c;  p = +-limit
    """
    v1, v2 = V_READ * f1, V_READ * f2
    p = -limit * np.sign(v1 + v2)
    matrix = [[G1 + G2 + 1 / R_REF + 1 / R_F, -1 / R_F], [gain, 1]]
    return float(np.linalg.solve(matrix, [v1 * G1 + v2 * G2 + p / R_REF, 0])[1])


@pytest.mark.parametrize("rows", [(1.0, 1.0), (-1.0, -0.9)])
def test_a_saturated_reference_reaches_the_columns(rows: tuple[float, float]) -> None:
    """It asks for some 61 to 64 mV and has 55."""
    config = hardware("reference-column", "amplifier.gain=1e4", "amplifier.v_saturation=0.055", "adc.v_full_scale=0.05")
    tile = make_tile(True, np.array([[G1], [G2]]))
    found = solve_transfer(tile, config).read(np.array([rows])).item()
    unlimited = solve_transfer(tile, hardware("reference-column", "amplifier.gain=1e4")).read(np.array([rows])).item()
    expected = reference_saturates_by_kirchhoff(*rows, 1e4, 0.055)
    assert abs(expected) < 0.055
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != pytest.approx(unlimited, rel=0.1)
