"""The subcircuits of netlists/ in a stock ngspice against closed forms written out here."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from support import complaints, measures, parse_raw, run_ngspice, run_ngspice_batch

pytestmark = pytest.mark.ngspice

NETLISTS = Path(__file__).resolve().parents[2] / "netlists"
SUBCIRCUITS = sorted(path.stem for path in NETLISTS.glob("*.lib"))
SUFFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}


@pytest.fixture
def simulate(tmp_path):
    """Return a function that runs deck lines with every subcircuit included."""

    def run(*lines):
        deck = tmp_path / "deck.cir"
        deck.write_text("\n".join(["* test deck", *includes(), *lines, ".end"]) + "\n")
        return run_ngspice_batch(deck)

    return run


def includes():
    return [f'.include "{NETLISTS / name}.lib"' for name in SUBCIRCUITS]


# --- benches ---------------------------------------------------------------------------


def expected_measures(bench):
    found = re.findall(r"^\* expected: (\w+) = ([-+.\deE]+)([munp]?)\s*$", bench.read_text(), re.MULTILINE)
    return {name: float(number) * SUFFIXES[suffix] for name, number, suffix in found}


def test_every_subcircuit_has_a_bench():
    assert SUBCIRCUITS
    assert {path.name for path in NETLISTS.glob("*_tb.cir")} == {f"{name}_tb.cir" for name in SUBCIRCUITS}


@pytest.mark.parametrize("name", SUBCIRCUITS)
def test_a_bench_runs_clean_from_any_folder_and_prints_what_it_says(name, tmp_path):
    bench = NETLISTS / f"{name}_tb.cir"
    printed = run_ngspice([str(bench)], workdir=tmp_path)
    assert complaints(printed) == []
    expected, found = expected_measures(bench), measures(printed)
    assert expected and expected.keys() <= found.keys()
    for measure, value in expected.items():
        assert found[measure] == pytest.approx(value, rel=5e-4, abs=1e-12), measure


# --- converters --------------------------------------------------------------------------


def nearest_code(u, code_max):
    return np.clip(np.floor(np.asarray(u) + 0.5), -code_max, code_max)


@pytest.mark.parametrize("code_max", [1, 7, 127, 2**23 - 1])
def test_dac_rounds_clips_and_drives_both_rows(simulate, code_max):
    codes = [0, 1, -1, 0.5, -0.5, 1.5, -1.5, 0.25, -0.75, code_max, -code_max, code_max + 3, -3 * code_max]
    lines = ["V_on on 0 1", "V_off off 0 0"]
    for k, code in enumerate(codes):
        lines += [f"V{k} c{k} 0 {code}", f"X{k} c{k} on p{k} n{k} dac code_max={code_max} v_ref=0.123"]
        lines += [f"Xo{k} c{k} off q{k} m{k} dac code_max={code_max} v_ref=0.123"]
    found = simulate(*lines, ".op")
    p = np.array([found[f"v(p{k})"][0] for k in range(len(codes))])
    n = np.array([found[f"v(n{k})"][0] for k in range(len(codes))])
    np.testing.assert_allclose(p, 0.123 * nearest_code(codes, code_max) / code_max, rtol=1e-14, atol=0)
    np.testing.assert_array_equal(n, -p)
    for k in range(len(codes)):
        assert found[f"v(q{k})"][0] == 0 and found[f"v(m{k})"][0] == 0


def test_adc_decides_at_the_half_codes(simulate):
    lsb = 0.5 / 127
    thresholds = np.arange(-127, 127) + 0.5
    inputs = np.concatenate([(thresholds - 1e-9) * lsb, (thresholds + 1e-9) * lsb, [0.5, -0.5, 0.7, -9.0, 0]])
    lines = []
    for k, v in enumerate(inputs):
        lines += [f"V{k} a{k} 0 {float(v)!r}", f"X{k} a{k} k{k} adc code_max=127 v_full_scale=0.5"]
    found = simulate(*lines, ".op")
    codes = [found[f"v(k{k})"][0] for k in range(len(inputs))]
    expected = [*np.arange(-127, 127), *np.arange(-126, 128), 127, -127, 127, -127, 0]
    np.testing.assert_array_equal(codes, expected)


def test_adc_takes_exact_halves_upwards(simulate):
    inputs = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    lines = []
    for k, v in enumerate(inputs):
        lines += [f"V{k} a{k} 0 {v}", f"X{k} a{k} k{k} adc code_max=7 v_full_scale=7"]
    found = simulate(*lines, ".op")
    assert [found[f"v(k{k})"][0] for k in range(len(inputs))] == [-3, -2, -1, 0, 1, 2, 3, 4]


def test_ideal_converters_pass_fractions_through(simulate):
    fractions = [0.1234567890123, -0.987654321, 1.7, -2.5, 0]
    lines = ["V_on on 0 1", "V_off off 0 0"]
    for k, fraction in enumerate(fractions):
        lines += [f"V{k} f{k} 0 {fraction}", f"X{k} f{k} on p{k} n{k} dac_ideal v_ref=0.0437"]
        lines += [f"Xo{k} f{k} off q{k} m{k} dac_ideal v_ref=0.0437"]
        lines += [f"Xa{k} f{k} k{k} adc_ideal v_full_scale=0.37"]
    found = simulate(*lines, ".op")
    for k, fraction in enumerate(fractions):
        assert found[f"v(p{k})"][0] == pytest.approx(0.0437 * fraction, rel=1e-14)
        assert found[f"v(n{k})"][0] == pytest.approx(-0.0437 * fraction, rel=1e-14)
        assert found[f"v(q{k})"][0] == 0 and found[f"v(m{k})"][0] == 0
        assert found[f"v(k{k})"][0] == pytest.approx(fraction / 0.37, rel=1e-14)


# --- transimpedance amplifier --------------------------------------------------------------


def settled_output(i_0, g_total, r_f, gain, offset, v_saturation):
    noise_gain = 1 + r_f * g_total
    linear = (-r_f * i_0 + offset * noise_gain) / (1 + noise_gain / gain)
    return min(max(linear, -v_saturation), v_saturation)


def test_transimpedance_settles_to_its_closed_form(simulate):
    rng = np.random.default_rng(3)
    cases = []
    for _ in range(60):
        cases.append(
            {
                "i_0": rng.uniform(-1, 1) * 1e-4,
                "g_total": rng.uniform(1e-5, 1e-2),
                "r_f": 10 ** rng.uniform(3, 5),
                "gain": 10 ** rng.uniform(2, 6),
                "offset": rng.uniform(-2e-3, 2e-3),
                "v_saturation": rng.uniform(0.3, 1.2),
            }
        )
    lines = []
    for k, case in enumerate(cases):
        case = {name: float(value) for name, value in case.items()}
        lines.append(f"V{k} a{k} 0 {case['i_0'] / case['g_total']!r}")
        lines.append(f"R{k} a{k} in{k} {1 / case['g_total']!r}")
        named = " ".join(f"{name}={case[name]!r}" for name in ("r_f", "gain", "offset", "v_saturation"))
        lines.append(f"X{k} in{k} out{k} transimpedance {named}")
    found = simulate(*lines, ".op")
    outputs = np.array([found[f"v(out{k})"][0] for k in range(len(cases))])
    expected = np.array([settled_output(**case) for case in cases])
    limited = np.abs(expected) == [case["v_saturation"] for case in cases]
    assert 10 < limited.sum() < 50
    np.testing.assert_allclose(outputs[~limited], expected[~limited], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(outputs[limited], expected[limited], rtol=0, atol=1e-5)


def test_ideal_transimpedance_inverts_without_a_limit(simulate):
    found = simulate("I1 0 in 300u", "R1 in 0 100", "X1 in out transimpedance_ideal r_f=12345", "R2 out 0 50", ".op")
    assert found["v(out)"][0] == pytest.approx(-300e-6 * 12345, rel=1e-12)
    assert found["v(in)"][0] == 0


def coupled_tile(rng, rows, columns, r_f):
    """Return lines of a tile whose rows have a common resistance, so that columns disturb each other."""
    g = rng.uniform(1e-5, 1.7e-4, (rows, columns))
    lines = []
    for j in range(rows):
        lines += [
            f"V{j} s{j} 0 0",
            f"E{j} m{j} 0 s{j} 0 -1",
            f"Rp{j} s{j} rp{j} 200",
            f"Rn{j} m{j} rn{j} 200",
        ]
        for k in range(columns):
            lines += [
                f"Rs{j}_{k} rp{j} c{k} 11.23k",
                f"Rm{j}_{k} rn{j} c{k} {float(1 / g[j, k])!r}",
            ]
    for k in range(columns):
        lines.append(f"X{k} c{k} o{k} transimpedance r_f={r_f} gain=1e6 offset=0.1m v_saturation=0.6")
    return lines, g


def test_operating_points_converge_through_any_sequence_of_limits(tmp_path):
    rows, columns, r_f, cycles = 12, 12, 200e3, 40
    rng = np.random.default_rng(11)
    lines, g = coupled_tile(rng, rows, columns, r_f)
    control = [".control", "set filetype=binary", "set appendwrite"]
    for cycle in range(cycles):
        drive = rng.uniform(-1, 1, rows) * (0.05 if cycle % 3 else 0.005)
        drive = np.full(rows, 0.05 * (-1) ** cycle) if cycle % 5 == 0 else drive
        control += [f"alter v{j} = {float(v)!r}" for j, v in enumerate(drive)]
        control += ["op", f"write {tmp_path / 'ops.raw'} all"]
    deck = tmp_path / "deck.cir"
    deck.write_text("\n".join(["* limits", *includes(), *lines, *control, "quit", ".endc", ".end"]) + "\n")
    assert complaints(run_ngspice([str(deck)])) == []  # a retried operating point is a complaint
    plots = parse_raw((tmp_path / "ops.raw").read_bytes())
    assert len(plots) == cycles
    states = set()
    for plot in plots:
        v = {name: np.array([plot[f"v({name}{k})"][0] for k in range(columns)]) for name in ("c", "o")}
        v |= {name: np.array([plot[f"v({name}{j})"][0] for j in range(rows)]) for name in ("rp", "rn")}
        into = ((v["rp"][:, None] - v["c"]) / 11.23e3 + (v["rn"][:, None] - v["c"]) * g).sum(axis=0)
        np.testing.assert_allclose(into, (v["c"] - v["o"]) / r_f, rtol=0, atol=1e-15)
        np.testing.assert_allclose(v["o"], np.clip(1e6 * (1e-4 - v["c"]), -0.6, 0.6), rtol=0, atol=1e-6)
        states |= {(k, int(np.sign(o)) if abs(o) > 0.6 - 1e-6 else 0) for k, o in enumerate(v["o"])}
    assert len(states) == 3 * columns  # each amplifier was at both limits and in between


def test_transimpedance_step_has_one_time_constant(simulate):
    r_f, g_total, bandwidth = 10e3, 2.5e-4, 5e6
    tau = (1 + r_f * g_total) / (2 * math.pi * bandwidth)
    found = simulate(
        "V1 a 0 PWL(0 0 10n 0 10.1n 50m)",
        f"R1 a in {1 / g_total}",
        f"X1 in out transimpedance r_f={r_f} gain=1e7 gain_bandwidth={bandwidth}",
        ".tran 1n 800n 0 0.5n",
    )
    since = found["time"] - 10.05e-9  # from the middle of the edge
    expected = np.where(since > 0, -r_f * g_total * 0.05 * (1 - np.exp(-np.maximum(since, 0) / tau)), 0)
    settled = r_f * g_total * 0.05
    np.testing.assert_allclose(found["v(out)"], expected, rtol=0, atol=1e-4 * settled)


def test_transimpedance_leaves_its_limit_without_delay(simulate):
    found = simulate(
        "V1 a 0 PWL(0 0 1n 0.1 1u 0.1 1.001u 0.01)",
        "R1 a in 1k",
        "X1 in out transimpedance r_f=10k gain_bandwidth=1g v_saturation=0.6",
        ".tran 1n 1.2u 0 1n",
    )
    at = {t: np.interp(t, found["time"], found["v(out)"]) for t in (0.9e-6, 1.1e-6)}
    assert at[0.9e-6] == pytest.approx(-0.6, abs=1e-5)
    assert at[1.1e-6] == pytest.approx(-0.1, abs=1e-5)


# --- sample and hold -------------------------------------------------------------------------


def test_sample_hold_tracks_then_holds(simulate):
    found = simulate(
        "V1 in 0 PWL(0 0 1u 0.5 2u -0.5)",
        "V2 clk 0 PWL(0 1 600n 1 600.001n 0)",
        "X1 in out clk sample_hold r_switch=2k c_hold=1p",
        ".tran 1n 2u 0 0.5n",
    )
    t, out = found["time"], found["v(out)"]
    ramp, tau = 0.5 / 1e-6, 2e3 * 1e-12
    tracking = t < 599e-9
    expected = ramp * (t - tau * (1 - np.exp(-t / tau)))
    np.testing.assert_allclose(out[tracking], expected[tracking], rtol=0, atol=1e-5)
    held = ramp * (600e-9 - tau)
    np.testing.assert_allclose(out[t > 601e-9], held, rtol=0, atol=1e-5)


def test_sample_hold_droops_through_its_leak(simulate):
    found = simulate(
        "V1 in 0 PWL(0 0.4 1u 0.4 1.001u 0)",
        "V2 clk 0 PWL(0 1 0.5u 1 0.501u 0)",
        "X1 in out clk sample_hold r_leak=1g c_hold=2p",
        ".tran 1u 1m 0 1u",
    )
    assert found["v(out)"][-1] == pytest.approx(0.4 * math.exp(-(1e-3 - 1.001e-6) / 2e-3), rel=1e-5)


def test_sample_hold_passes_an_operating_point_in_either_state_of_its_clock(simulate):
    found = simulate(
        "V1 in 0 -0.321",
        "V2 high 0 1",
        "V3 low 0 0",
        "X1 in sampled high sample_hold",
        "X2 in resting low sample_hold",
        "R1 sampled 0 1k",
        ".op",
    )
    assert found["v(sampled)"][0] == pytest.approx(-0.321, rel=1e-12)
    assert found["v(resting)"][0] == pytest.approx(-0.321, rel=1e-6)


# --- memristors --------------------------------------------------------------------------------

R_ON, R_OFF = 5e3, 100e3


def resistance(x):
    return R_ON * x + R_OFF * (1 - x)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("analysis", [".op", ".tran 1u 20u", ".tran 1u 20u uic"])
def test_a_memristor_below_threshold_is_its_resistance(simulate, kind, analysis):
    states = [0, 0.01, 0.3, 0.526, 0.99, 1]
    lines = []
    for k, x in enumerate(states):
        lines += [f"V{k} p{k} n{k} -73m", f"Vn{k} n{k} 0 0.4", f"X{k} p{k} n{k} x{k} memristor_{kind} x0={x}"]
    found = simulate(*lines, analysis)
    for k, x in enumerate(states):
        assert found[f"i(v{k})"][-1] == pytest.approx(0.073 / resistance(x), rel=1e-9)
        np.testing.assert_allclose(found[f"v(x{k})"], x, rtol=0, atol=1e-12)


def test_memristors_take_their_resistances_from_their_parameters(simulate):
    found = simulate(
        "V1 a 0 50m",
        "X1 a b x memristor_static x0=0.25 r_on=2k r_off=42k",
        "V2 b 0 0",
        "X2 a c y memristor_dynamic x0=0.25 r_on=2k r_off=42k",
        "V3 c 0 0",
        ".op",
    )
    assert found["i(v2)"][0] == pytest.approx(0.05 / 32e3, rel=1e-12)
    assert found["i(v3)"][0] == pytest.approx(0.05 / 32e3, rel=1e-12)


def test_an_operating_point_above_threshold_leaves_the_state(tmp_path):
    deck = tmp_path / "deck.cir"
    lines = [*includes(), "V1 a 0 0.3", "X1 a 0 x memristor_dynamic x0=0.3", "V2 b 0 -2"]
    lines += ["X2 b 0 y memristor_dynamic x0=0.6", ".op", ".end"]
    deck.write_text("\n".join(["* above threshold", *lines]) + "\n")
    assert complaints(run_ngspice([str(deck)])) == []
    found = run_ngspice_batch(deck)
    assert found["v(x)"][0] == pytest.approx(0.3, abs=1e-12)
    assert found["v(y)"][0] == pytest.approx(0.6, abs=1e-12)


# --- crosspoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_bit_line_collects_equation_12(simulate, kind):
    rng = np.random.default_rng(5)
    shape, r_s = (5, 3), 11.23e3
    states, rows = rng.uniform(0.01, 0.99, shape), rng.uniform(-0.09, 0.09, shape[0])
    lines = [f"Vc{k} c{k} 0 0" for k in range(shape[1])]
    for j, v in enumerate(rows):
        lines += [f"V{j} rp{j} 0 {float(v)!r}", f"E{j} rn{j} 0 rp{j} 0 -1"]
        for k in range(shape[1]):
            cell = f"crosspoint_{kind} r_s={r_s} x0={float(states[j, k])!r}"
            lines.append(f"X{j}_{k} rp{j} rn{j} c{k} x{j}_{k} {cell}")
    found = simulate(*lines, ".op")
    for k in range(shape[1]):
        expected = sum((1 / r_s - 1 / resistance(states[j, k])) * rows[j] for j in range(shape[0]))
        assert found[f"i(vc{k})"][0] == pytest.approx(expected, rel=1e-9)
        for j in range(shape[0]):
            assert found[f"v(x{j}_{k})"][0] == pytest.approx(states[j, k], abs=1e-12)


def test_a_dynamic_crosspoint_is_programmed_with_the_sign_of_its_memristors_row(simulate):
    """Row +V puts -V on the memristor: a positive row resets it, a negative one sets it."""
    found = simulate(
        "V1 rp 0 -0.2",
        "E1 rn 0 rp 0 -1",
        "X1 rp rn 0 x crosspoint_dynamic x0=0.3",
        "V2 sp 0 1",
        "E2 sn 0 sp 0 -1",
        "X2 sp sn 0 y crosspoint_dynamic x0=0.8",
        ".tran 5u 1m 0 2u",
    )
    # 0.2 ln(R/R0) - i_0 (R - R0) = -dR K i_off t and R^2 = R0^2 + 2 dR K t, as in memristor_dynamic_tb.cir
    assert found["v(x)"][-1] == pytest.approx(0.535824, abs=1e-4)
    assert found["v(y)"][-1] == pytest.approx(0.702914, abs=1e-4)


@pytest.mark.parametrize(("x0", "window"), [(0.4, 1), (0, 0)])  # at 0 a move depends on window_floor
def test_a_dynamic_crosspoint_hands_every_parameter_to_its_memristor(simulate, x0, window):
    parameters = (
        f"x0={x0} window={window} r_on=6k r_off=90k v_set=0.15 v_reset=-0.25 mobility=8f thickness=2.5n"
        " i_0=0.8u i_off=0.3n i_on=0.7 window_p=2 window_floor=0.05 v_soft=5m pole_width=0.1"
    )
    found = simulate(
        "V1 rp 0 PWL(0 0 10u -0.3 1m -0.3 1.01m 0.2 1.2m 0.2 1.21m 0.8 1.5m 0.8)",
        "E1 rn 0 rp 0 -1",
        f"X1 rp rn 0 x crosspoint_dynamic {parameters}",
        f"X2 rn 0 y memristor_dynamic {parameters}",
        f"X3 rn 0 z memristor_dynamic x0={x0}",
        ".tran 5u 1.5m 0 5u",
    )
    np.testing.assert_allclose(found["v(x)"], found["v(y)"], rtol=0, atol=1e-12)
    assert abs(found["v(x)"][-1] - found["v(z)"][-1]) > 0.05
