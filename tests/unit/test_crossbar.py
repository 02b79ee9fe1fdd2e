"""The closed form of a tile against Kirchhoff's equations written out and solved on their own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from hvae_mnn.circuit.amplifiers import amplifier_offsets
from hvae_mnn.circuit.crossbar import Transfer, settled_cycle, settling_error, solve_transfer
from hvae_mnn.circuit.plan import Tile, TilePlan
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

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


# --- offsets of their own, noise, limits -----------------------------------------------------

G_TWO = np.array([[31e-6, 150e-6], [117e-6, 12e-6]])
V_TWO = np.array([3e-3, -5e-3, 2e-3])
ROWS_TWO = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.8, 0.35], [1.0, -1.0]])


def network(reference: bool, rows: np.ndarray, r_f: float = R_F) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a, b and d of a u + b o = d for two columns, written out current by current; the reference comes last."""
    v1, v2 = V_READ * rows
    sums = G_TWO.sum(axis=0)
    into = [v1 * G_TWO[0, k] + v2 * G_TWO[1, k] for k in range(2)]
    all_fixed, fixed = 2 / R_S, (v1 + v2) / R_S
    if not reference:
        a = np.diag([sums[k] + all_fixed + 1 / r_f for k in range(2)])
        return a, -np.eye(2) / r_f, np.array([fixed - into[k] for k in range(2)])
    a = np.diag([*(sums[k] + 1 / R_REF + 1 / r_f for k in range(2)), all_fixed + 1 / R_REF])
    b = -np.array([[1 / r_f, 0, 1 / R_REF], [0, 1 / r_f, 1 / R_REF], [0, 0, 1 / R_REF]])
    return a, b, np.array([*into, fixed])


def unlimited(reference: bool, rows: np.ndarray, gain: float, offsets: np.ndarray) -> np.ndarray:
    """Return the outputs o = A (V - u) of all amplifiers."""
    a, b, d = network(reference, rows)
    return np.linalg.solve(b - a / gain, d - a @ offsets)


@pytest.mark.parametrize("reference", [False, True])
def test_every_amplifier_has_an_offset_of_its_own(reference: bool) -> None:
    config, offsets = hardware("reference-column" if reference else "paired", *REAL), V_TWO[: 2 + reference]
    transfer = replace(solve_transfer(make_tile(reference, G_TWO), config), v_offset=offsets)
    expected = np.array([unlimited(reference, rows, 40.0, offsets)[:2] for rows in ROWS_TWO])
    np.testing.assert_allclose(transfer.read(ROWS_TWO), expected, rtol=1e-12)


@pytest.mark.parametrize("reference", [False, True])
def test_spread_offsets_reach_the_outputs(reference: bool) -> None:
    config = hardware("reference-column" if reference else "paired", *REAL, "amplifier.offset_sigma=2 mV")
    tile = make_tile(reference, G_TWO)
    offsets = amplifier_offsets(tile.plan, config)
    assert len(set(offsets)) == 2 + reference
    expected = np.array([unlimited(reference, rows, 40.0, offsets)[:2] for rows in ROWS_TWO])
    np.testing.assert_allclose(solve_transfer(tile, config).read(ROWS_TWO), expected, rtol=1e-12)


@pytest.mark.parametrize("limit", [10.0, 0.055])
@pytest.mark.parametrize("reference", [False, True])
def test_noise_is_an_offset_of_its_own_in_each_read(reference: bool, limit: float) -> None:
    config = hardware("reference-column" if reference else "paired", *REAL)
    transfer = replace(solve_transfer(make_tile(reference, G_TWO), config), limit=limit)
    noise = np.random.default_rng(1).normal(0, 5e-3, (len(ROWS_TWO), 2 + reference))
    one_by_one = [
        replace(transfer, v_offset=transfer.v_offset + own).read(rows[None])[0]
        for rows, own in zip(ROWS_TWO, noise, strict=True)
    ]
    found = transfer.read(ROWS_TWO, noise)
    np.testing.assert_allclose(found, one_by_one, rtol=0, atol=1e-15)
    assert np.abs(found - transfer.read(ROWS_TWO)).max() > 5e-3


def limited(
    a: np.ndarray, b: np.ndarray, d: np.ndarray, offsets: np.ndarray, gain: float, limit: float
) -> list[np.ndarray]:
    """Return every solution of a u + b o = d, o = A (V - u) within +-limit, by trying each state of each amplifier."""
    found = []
    for states in product((-1, 0, 1), repeat=len(d)):
        held = np.array(states)
        free = held == 0
        whole = a + b @ np.diag(np.where(free, -gain, 0.0))
        u = np.linalg.solve(whole, d - b @ np.where(free, gain * offsets, limit * held))
        wanted = gain * (offsets - u)
        if np.all(np.where(free, np.abs(wanted) <= limit, held * wanted > limit)):
            found.append(np.clip(wanted, -limit, limit))
    return found


def start(transfer: Transfer, rows: np.ndarray) -> np.ndarray:
    """Return which amplifiers would be past their limits without them."""
    outputs = rows @ transfer.matrix + transfer.v_offset @ transfer.offsets
    return np.asarray(np.sign(outputs) * (np.abs(outputs) > transfer.limit))


@pytest.mark.parametrize("gain", [40.0, 1e4])
def test_limits_with_a_reference_column_are_the_only_consistent_ones(gain: float) -> None:
    """Where the reference saturates, columns past a limit come back, and others go from one limit to the other."""
    config = hardware("reference-column", f"amplifier.gain={gain}")
    tile = make_tile(True, G_TWO)
    moves = set()
    for r_f in (23e3, 80e3, 300e3):
        solved = solve_transfer(Tile(tile.plan.model_copy(update={"r_f": r_f}), tile.g, tile.g), config)
        for limit in (0.02, 0.04, 0.055):
            transfer = replace(solved, limit=limit, v_offset=V_TWO)
            inputs = np.random.default_rng(2).uniform(-1, 1, (60, 2))
            for rows, outputs in zip(inputs, transfer.read(inputs), strict=True):
                (expected,) = limited(*network(True, rows, r_f), V_TWO, gain, limit)
                np.testing.assert_allclose(outputs, expected[:2], rtol=0, atol=1e-12)
                ends = np.sign(expected) * (np.abs(expected) >= limit)
                moves |= set(zip(start(transfer, rows).tolist(), ends.tolist(), strict=True))
    assert moves >= {(1, 1), (-1, -1), (0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)}


def test_limits_with_wires_are_the_only_consistent_ones() -> None:
    """Bit lines that share row drivers: one that leaves its virtual ground moves the others."""
    rng = np.random.default_rng(3)
    config = hardware("reference-column", "array.r_driver=2000", "amplifier.gain=1000")
    g = rng.uniform(10e-6, 160e-6, (3, 4))
    tile = make_tile(True, g)
    tile = Tile(tile.plan.model_copy(update={"inputs": (0, 1, -1), "r_f": 200e3}), g, g)
    offsets = rng.normal(0, 2e-3, 5)
    transfer = replace(solve_transfer(tile, config), limit=0.05, v_offset=offsets)
    cells = np.hstack([g, np.full((3, 1), 1 / R_S)])
    share = 1 / (1 + 2000 * cells.sum(axis=1))  # of the drive that is left on a row with grounded columns
    into = cells * share[:, None]
    load = np.diag(cells.sum(axis=0)) - cells.T @ (into * 2000)
    conductances = [1 / 200e3] * 4
    a = load + np.diag([*(c + 1 / R_REF for c in conductances), 1 / R_REF])
    b = -np.diag([*conductances, 1 / R_REF])
    b[:4, 4] = -1 / R_REF
    changed = 0
    inputs = rng.uniform(-1, 1, (60, 3))
    for rows, outputs in zip(inputs, transfer.read(inputs), strict=True):
        (expected,) = limited(a, b, V_READ * rows @ into, offsets, 1000.0, 0.05)
        np.testing.assert_allclose(outputs, expected[:4], rtol=0, atol=1e-12)
        ends = np.sign(expected) * (np.abs(expected) >= 0.05)
        changed += bool(np.any(start(transfer, rows) != ends))
    assert changed >= 5


# --- settling --------------------------------------------------------------------------------

SLOW = ("amplifier.gain=40", "amplifier.gain_bandwidth=2 MHz", "timing.cycle=3 us", "timing.edge=20 ns")
FAST = ("timing.cycle=200 ns", "timing.edge=2 ns")


@pytest.mark.parametrize("encoding", ["amplitude", "bit-serial"])
def test_a_slow_row_settles_by_its_own_pole(encoding: str) -> None:
    config = hardware("paired", f"drive.encoding={encoding}", "dac.settling=20 ns", *FAST)
    expected = np.exp(-(0.8 * 200e-9 - 2e-9) / 20e-9)
    assert settling_error(make_tile(False, G_TWO), config) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reference", [False, True])
def test_the_slower_of_row_and_column_counts(reference: bool) -> None:
    tile, scheme = make_tile(reference, G_TWO), "reference-column" if reference else "paired"
    noise_gain = 1 + R_F * (162e-6 + (1 / R_REF if reference else 2 / R_S))
    column = 2 * np.pi * 2e6 * (1 / 40 + 1 / noise_gain)
    for settling in (0.2 / column, 5 / column):
        config = hardware(scheme, *SLOW, f"dac.settling={settling}")
        expected = np.exp(-(0.8 * 3e-6 - 20e-9) * min(column, 1 / settling))
        assert settling_error(tile, config) == pytest.approx(expected, rel=1e-9)


def test_an_integrator_has_from_the_last_pulse_to_the_sampling_edge() -> None:
    """A tenth of the cycle; its loop closes at gain_bandwidth, whatever hangs on its bit line."""
    for reference in (False, True):
        scheme = "reference-column" if reference else "paired"
        tile = make_tile(reference, G_TWO)
        config = hardware(scheme, "drive.encoding=pulse-width", *SLOW)
        expected = np.exp(-2 * np.pi * 2e6 * (0.1 * 3e-6 - 20e-9))
        assert settling_error(tile, config) == pytest.approx(expected, rel=1e-9)
        late = with_settling(config, 200e-9)
        assert settling_error(tile, late) == pytest.approx(np.exp(-(0.1 * 3e-6 - 20e-9) / 200e-9), rel=1e-9)


def with_settling(config: HardwareConfig, settling: float) -> HardwareConfig:
    """Return a configuration with a row's time constant, second, also one that files may not have."""
    return config.model_copy(update={"dac": config.dac.model_copy(update={"settling": settling})})


@pytest.mark.parametrize("error", [0.1, 1e-4])
@pytest.mark.parametrize(("extra", "settling"), [((), 0.0), ((), 300e-9), (("amplifier.gain=none",), 5e-9)])
@pytest.mark.parametrize("encoding", ["amplitude", "bit-serial", "pulse-width"])
@pytest.mark.parametrize("scheme", ["paired", "reference-column"])
def test_a_settled_cycle_leaves_its_error(
    scheme: str, encoding: str, extra: tuple[str, ...], settling: float, error: float
) -> None:
    tile = make_tile(scheme != "paired", G_TWO)
    config = with_settling(hardware(scheme, *SLOW, f"drive.encoding={encoding}", *extra), settling)
    cycle = settled_cycle(tile, config, error)
    settled = config.model_copy(update={"timing": config.timing.model_copy(update={"cycle": cycle})})
    assert settling_error(tile, settled) == pytest.approx(error, rel=1e-9)
    assert settled_cycle(tile, settled, error) == pytest.approx(cycle, rel=1e-12)
