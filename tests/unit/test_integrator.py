"""Integrators solved for all pulse widths against the whole circuit's equations, integrated in time by scipy."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from hvae_mnn.circuit.amplifiers import amplifier_offsets
from hvae_mnn.circuit.crossbar import solve_array
from hvae_mnn.circuit.integrator import PulseTransfer, solve_pulses
from hvae_mnn.circuit.plan import Tile, TilePlan
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

Array = NDArray[np.float64]
Event = Callable[[float, Array, Array, bool], float]

G = np.array([[31e-6, 150e-6], [117e-6, 12e-6], [44e-6, 95e-6]])
G_OTHER = np.array([[88e-6, 20e-6], [15e-6, 140e-6], [101e-6, 66e-6]])  # on -V, for `differential`
R_S, R_F, R_REF = 14e3, 80e3, 9e3
V_READ, FULL_SCALE = 0.05, 0.5
CYCLE, RESET, PULSES, SAMPLE, LENGTH = 4e-6, 0.2e-6, 0.4e-6, 3.2e-6, 2.4e-6
TICKS = 127
TICK = LENGTH / TICKS
R_RESET, R_SWITCH, C_HOLD = 10.0, 1e3, 1e-12
SCHEMES = ("paired", "reference-column", "differential")
ROWS = np.array(
    [
        [0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0],
        [1.0, -0.5, 0.3],
        [-1.0, 0.02, 0.7],
        [0.1, -1.0, -0.9],
        [1.0, 0.0, -1.0],
        [-0.5, 0.5, 1.0],  # column 1 turns back half way
        [0.4, -0.3, -1.0],
    ]
)
OFFSETS = ("amplifier.offset=2 mV", "amplifier.offset_sigma=3 mV")
WIRES = ("array.r_wire=20", "array.r_driver=100")
SATURATING = ("adc.v_full_scale=0.05", "amplifier.v_saturation=0.15")  # the converter's range is within the limit


def make_tile(scheme: str) -> Tile:
    g = np.vstack([G, G_OTHER]) if scheme == "differential" else G
    plan = TilePlan(
        name="encoder1.i.r0c0",
        gate="i",
        deck="decks/encoder1/i/r0c0.cir",
        inputs=(0, 1, -1),
        column_start=0,
        column_stop=2,
        weight_per_siemens=1e4,
        r_s=None if scheme == "differential" else R_S,
        r_f=R_F,
        r_reference=R_REF if scheme == "reference-column" else None,
        full_scale=1.0,
        scale=1.0,
        clipped_weights=0,
    )
    return Tile(plan, g, g)


def hardware(scheme: str, *overrides: str) -> HardwareConfig:
    wide = "amplifier.v_saturation=10 V"  # unless an override says otherwise
    shape = ["drive.encoding=pulse-width", f"array.scheme={scheme}", f"timing.cycle={CYCLE}", wide]
    return load_hardware("default", [*shape, *overrides])


def ports_without_wires(scheme: str) -> tuple[Array, Array]:
    """Return current into grounded bit lines per volt on a row, and what hangs on the bit lines."""
    if scheme == "paired":
        return 1 / R_S - G, np.diag((1 / R_S + G).sum(axis=0))
    if scheme == "differential":
        return G - G_OTHER, np.diag((G + G_OTHER).sum(axis=0))
    g = np.hstack([G, np.full((3, 1), 1 / R_S)])
    return g, np.diag(g.sum(axis=0))


def in_time(config: HardwareConfig, rows: Array, transfer: Array, load: Array, offsets: Array) -> Array:
    """Return the held outputs of one cycle, by the circuits of `netlists/` written out.

    A column has bit line u, output o (its amplifier's pole), q = u - o across C_f, and h on the sample-and-hold:

        C_f q' = i - q/r_reset [while reset],    o'/w = V_os - u - o/A,    h' = (o - h)/(r_switch C_hold)

    with i = v T - Y u, and (o_ref - u)/R_ref more where there is a reference column, whose bit line follows from
    (o_ref - u_ref)/R_ref + i_ref = 0. A row is behind its pulse by settling. At its limit o stays until o' turns back.
    """
    gain, w, limit = config.amplifier.gain, 2 * np.pi * config.amplifier.gain_bandwidth, config.amplifier.v_saturation
    settling, n, amplifiers = config.dac.settling, 2, len(load)
    lengths = np.abs(rows) * TICKS
    assert gain is not None
    at_columns = load.diagonal()[:n].mean() + (1 / R_REF if amplifiers > n else 0.0)
    c_f = max(LENGTH / R_F - at_columns / w, LENGTH / R_F / 2)  # trimmed by what the bandwidth adds

    def pulse(time: float) -> Array:
        ticks = (time - PULSES) / TICK
        shape = np.clip(ticks + 0.5, 0, 1) - np.clip(ticks - lengths + 0.5, 0, 1)
        return np.asarray(V_READ * np.sign(rows) * shape)

    def slope(time: float, state: Array, held: Array, is_reset: bool) -> Array:
        q, o, h, v = state[:n], state[n : n + amplifiers], state[n + amplifiers : 2 * n + amplifiers], state[-3:]
        flowing = (v if settling else pulse(time)) @ transfer
        u = np.zeros(amplifiers)
        u[:n] = q + o[:n]
        if amplifiers > n:
            u[n] = (flowing[n] - load[n, :n] @ u[:n] + o[n] / R_REF) / (load[n, n] + 1 / R_REF)
        i = (flowing - load @ u)[:n] + ((o[n] - u[:n]) / R_REF if amplifiers > n else 0.0)
        return np.concatenate(
            [
                (i - (q / R_RESET if is_reset else 0)) / c_f,
                np.where(held != 0, 0.0, w * (offsets - u - o / gain)),
                (o[:n] - h) / (R_SWITCH * C_HOLD),
                (pulse(time) - v) / settling if settling else np.zeros(3),
            ]
        )

    def changes(k: int) -> Event:
        """Return what crosses 0 upwards where column k's amplifier reaches a limit or leaves it."""

        def crossing(time: float, state: Array, held: Array, is_reset: bool) -> float:
            if held[k] == 0:
                return float(np.abs(state[n + k]) - limit)
            return float(-held[k] * (offsets[k] - (state[k] + state[n + k]) - state[n + k] / gain))

        crossing.terminal, crossing.direction = True, 1  # type: ignore[attr-defined]
        return crossing

    ends = PULSES + np.array([0, *lengths]) * TICK
    corners = np.unique([0, RESET, SAMPLE, *(ends - TICK / 2), *(ends + TICK / 2)])
    state, held = np.zeros(2 * n + amplifiers + 3), np.zeros(amplifiers)
    for start, stop in pairwise(corners):
        while start < stop:
            solved = solve_ivp(
                slope,
                (start, stop),
                state,
                "LSODA",
                args=(held, stop <= RESET),
                events=[changes(k) for k in range(n)],
                rtol=1e-9,
                atol=1e-11,
            )
            assert solved.success
            start, state = solved.t[-1], solved.y[:, -1]
            for k in range(n):
                if len(solved.t_events[k]):
                    held[k] = 0 if held[k] else np.sign(state[n + k])
                    state[n + k] = np.sign(state[n + k]) * limit
    return np.asarray(state[n + amplifiers : 2 * n + amplifiers])


def compare(scheme: str, *overrides: str) -> tuple[Array, Array, PulseTransfer]:
    """Return outputs as solved and as integrated in time, (batch, columns), and the solved tile."""
    config, tile = hardware(scheme, *overrides), make_tile(scheme)
    transfer, load = ports_without_wires(scheme)
    if config.array.r_wire:
        ports = solve_array(tile, config)
        transfer, load = ports.transfer, ports.load
    offsets = amplifier_offsets(tile.plan, config)
    expected = np.array([in_time(config, rows, transfer, load, offsets) for rows in ROWS])
    solved = solve_pulses(tile, config)
    return solved.read(ROWS), expected, solved


@pytest.mark.parametrize("wires", [(), WIRES], ids=["", "wires"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_offsets_and_a_large_gain(scheme: str, wires: tuple[str, ...]) -> None:
    found, expected, _ = compare(scheme, *OFFSETS, *wires)
    assert np.abs(expected).max() > 0.8 * FULL_SCALE
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * FULL_SCALE)


@pytest.mark.parametrize("extra", [(), WIRES, ("dac.settling=10 ns",)], ids=["", "wires", "settling"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gain_of_300(scheme: str, extra: tuple[str, ...]) -> None:
    found, expected, _ = compare(scheme, *OFFSETS, "amplifier.gain=300", *extra)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * FULL_SCALE)
    without = solve_pulses(make_tile(scheme), hardware(scheme, *OFFSETS, *extra)).read(ROWS)
    assert np.abs(found - without).max() > 0.005 * FULL_SCALE


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_slow_amplifier(scheme: str) -> None:
    found, expected, _ = compare(scheme, *OFFSETS, "amplifier.gain_bandwidth=50 MHz")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * FULL_SCALE)
    without = solve_pulses(make_tile(scheme), hardware(scheme, *OFFSETS)).read(ROWS)
    assert np.abs(found - without).max() > 0.002 * FULL_SCALE


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("amplifier.gain=300",),
        ("amplifier.gain=300", *WIRES),
        ("amplifier.gain_bandwidth=50 MHz",),  # the reference column's amplifier is behind its rows
        ("dac.settling=10 ns", "amplifier.v_saturation=0.1"),
    ],
    ids=["large gain", "gain of 300", "wires", "slow", "settling, lower"],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_integrators_that_saturate(scheme: str, extra: tuple[str, ...]) -> None:
    found, expected, solved = compare(scheme, *OFFSETS, *SATURATING, *extra)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * FULL_SCALE)
    unlimited = solve_pulses(make_tile(scheme), hardware(scheme, *OFFSETS, *extra[:1])).read(ROWS)
    assert np.abs(expected - np.clip(unlimited, -solved.limit, solved.limit)).max() > 0.01 * FULL_SCALE
    assert np.abs(expected).max() <= solved.limit * (1 + 1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ideal_integrators_are_eq_12(scheme: str) -> None:
    """-R_f sum (1/R_s - G) V, or -R_f sum (G+ - G-) V; R_f sum (1/R_s - G) V with a reference column."""
    weights = {"paired": G - 1 / R_S, "reference-column": 1 / R_S - G, "differential": G_OTHER - G}[scheme]
    config = hardware(scheme, "amplifier.gain=none", *OFFSETS, "amplifier.noise=1e-6")
    np.testing.assert_allclose(
        solve_pulses(make_tile(scheme), config).read(ROWS), R_F * V_READ * ROWS @ weights, rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("limit", ["10 V", "0.2 V"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_noise_is_an_offset_of_its_own_in_each_read(scheme: str, limit: str) -> None:
    config = hardware(scheme, *OFFSETS, *SATURATING[:1], f"amplifier.v_saturation={limit}")
    solved = solve_pulses(make_tile(scheme), config)
    noise = np.random.default_rng(1).normal(0, 3e-3, (len(ROWS), len(solved.v_offset)))
    one_by_one = [
        replace(solved, v_offset=solved.v_offset + own).read(rows[None])[0]
        for rows, own in zip(ROWS, noise, strict=True)
    ]
    np.testing.assert_allclose(solved.read(ROWS, noise), one_by_one, rtol=0, atol=1e-12)
    assert np.abs(solved.read(ROWS, noise) - solved.read(ROWS)).max() > 1e-2
