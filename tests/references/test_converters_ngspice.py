"""Converters measured in a stock ngspice as on a bench, and against their arithmetic in numpy.

Nonlinearity is the end-point one: a DAC's outputs against the line through its outermost two, an
ADC's transition levels against the line through its outermost two, in LSB of that line.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from support import run_ngspice_batch

from hvae_mnn.circuit.converters import Converter, ConverterErrors, draw_converter_errors
from hvae_mnn.circuit.streams import Purpose
from hvae_mnn.hardware.config import Adc, Dac

pytestmark = pytest.mark.ngspice

NETLISTS = Path(__file__).resolve().parents[2] / "netlists"
V_REF, V_FULL_SCALE = 0.0437, 0.37
STEP = 1 / 200  # of an LSB, between two points of an ADC's sweep
COUNT = 4  # converters of a tile
# With a relative tolerance above one step of a sweep, ngspice leaves converters one point behind.
TOLERANCES = ".options reltol=1e-9 vntol=1e-12"


@pytest.fixture
def simulate(tmp_path):
    """Return a function that runs deck lines with the four converters included."""

    def run(*lines):
        deck = tmp_path / "deck.cir"
        files = [f'.include "{NETLISTS / name}.lib"' for name in ("dac", "adc", "dac_real", "adc_real")]
        deck.write_text("\n".join(["* test deck", TOLERANCES, *files, *lines, ".end"]) + "\n")
        return run_ngspice_batch(deck)

    return run


def code_max_of(bits):
    return 2 ** (bits - 1) - 1


def number(value):
    return repr(float(value))


# --- sweeps --------------------------------------------------------------------------------


def dac_sweep(simulate, bits, kinds, step=1, beyond=0):
    """Return codes (points,) and outputs as parts of v_ref (points, count) of DACs given as `name parameters`."""
    last = code_max_of(bits) + beyond
    lines = ["V_code code 0 0", "V_on on 0 1", f".dc V_code {-last} {last} {step}"]
    for k, kind in enumerate(kinds):
        lines.append(f"X{k} code on p{k} n{k} {kind} code_max={code_max_of(bits)} v_ref={V_REF}")
    found = simulate(*lines)
    outputs = np.stack([found[f"v(p{k})"] for k in range(len(kinds))], axis=1)
    np.testing.assert_array_equal(np.stack([found[f"v(n{k})"] for k in range(len(kinds))], axis=1), -outputs)
    return found["v(code)"], outputs / V_REF


def adc_sweep(simulate, bits, kinds, step=STEP):
    """Return inputs in ideal LSB (points,) and codes (points, count) of ADCs given as `name parameters`."""
    code_max = code_max_of(bits)
    lsb = V_FULL_SCALE / code_max
    last = 1.05 * code_max + 4  # room for offsets and gain errors; the odd part keeps points off the half codes
    ends = [number(v * lsb) for v in (-last - 1 / 3171, last, step)]
    lines = ["V_in in 0 0", f".dc V_in {' '.join(ends)}"]
    for k, kind in enumerate(kinds):
        lines.append(f"X{k} in k{k} {kind} code_max={code_max} v_full_scale={V_FULL_SCALE}")
    found = simulate(*lines)
    codes = np.stack([found[f"v(k{k})"] for k in range(len(kinds))], axis=1)
    # ngspice reads some code_max one ulp low, so that clipped codes are not quite integers.
    np.testing.assert_allclose(codes, np.rint(codes), rtol=1e-15)
    return found["v(in)"] / lsb, np.rint(codes)


def transitions(inputs, codes, code_max):
    """Return where codes rise to -code_max + 1 .. code_max, ideal LSB, from a sweep of one ADC."""
    assert np.diff(codes).min() >= 0
    at = np.searchsorted(codes, np.arange(-code_max + 1, code_max + 1))
    return (inputs[at] + inputs[at - 1]) / 2


def nonlinearity(levels):
    """Return end-point DNL and INL of a DAC's outputs or an ADC's transitions, LSB."""
    lsb = (levels[-1] - levels[0]) / (len(levels) - 1)
    return np.diff(levels) / lsb - 1, (levels - levels[0]) / lsb - np.arange(len(levels))


def with_errors(kind, errors):
    return [f"{kind} {errors.parameters(k)}" for k in range(len(errors.inl))]


def dac_with_errors(bits, errors):
    return [f"{kind} lsb={number(1 / code_max_of(bits))}" for kind in with_errors("dac_real", errors)]


# --- ideal converters ----------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8, 10])
def test_an_ideal_dac_is_linear(simulate, bits):
    codes, outputs = dac_sweep(simulate, bits, ["dac"])
    assert len(codes) == 2**bits - 1
    dnl, inl = nonlinearity(outputs[:, 0])
    assert np.abs(dnl).max() < 0.01 and np.abs(inl).max() < 0.01
    assert outputs[0, 0] == pytest.approx(-1, rel=1e-14) and outputs[-1, 0] == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("bits", [4, 8, 10])
def test_an_ideal_adc_is_linear(simulate, bits):
    inputs, codes = adc_sweep(simulate, bits, ["adc"])
    levels = transitions(inputs, codes[:, 0], code_max_of(bits))
    assert len(levels) == 2**bits - 2
    dnl, inl = nonlinearity(levels)
    assert np.abs(dnl).max() < 0.01 and np.abs(inl).max() < 0.01
    np.testing.assert_allclose(levels[[0, -1]], [0.5 - code_max_of(bits), code_max_of(bits) - 0.5], rtol=0, atol=0.01)


def sqnr(simulate, bits, beyond):
    """Return the rms of a sine over the rms of dac(adc(sine)) - sine, dB.

    4097 samples of 1021 periods, each at a phase of its own; the amplitude is full scale and `beyond` LSB.
    """
    code_max = code_max_of(bits)
    amplitude = number(V_FULL_SCALE * (1 + beyond / code_max))
    found = simulate(
        "V_k k 0 0",
        f"B_in in 0 V={amplitude}*sin(2*pi*1021*V(k)/4097)",
        "V_on on 0 1",
        f"X_adc in code adc code_max={code_max} v_full_scale={V_FULL_SCALE}",
        f"X_dac code on p n dac code_max={code_max} v_ref={V_FULL_SCALE}",
        ".dc V_k 0 4096 1",
    )
    sine, noise = found["v(in)"], found["v(p)"] - found["v(in)"]
    assert len(sine) == 4097
    assert np.abs(noise).max() <= (0.5 + 1e-9) * V_FULL_SCALE / code_max
    return 10 * math.log10(np.mean(sine**2) / np.mean(noise**2))


@pytest.mark.parametrize("bits", range(4, 11))
def test_a_sine_through_adc_and_dac_has_the_noise_of_its_bits(simulate, bits):
    """Amplitude in the middle between the last code and the clip, half an LSB beyond it."""
    assert sqnr(simulate, bits, 0.25) == pytest.approx(6.02 * bits + 1.76, abs=0.5)


@pytest.mark.parametrize("bits", range(4, 11))
def test_a_sine_to_the_last_code_loses_the_code_that_symmetry_leaves_out(simulate, bits):
    """Its amplitude is 2^(bits-1) - 1 LSB, where the rule has 2^(bits-1): 1.16 dB at 4 bits, 0.07 dB at 8."""
    rule = 6.02 * bits + 1.76 + 20 * math.log10(code_max_of(bits) / 2 ** (bits - 1))
    assert sqnr(simulate, bits, 0) == pytest.approx(rule, abs=0.5)


# --- errors as measured ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("bits", "bound"), [(4, 0.5), (8, 0.5), (8, 3.0), (10, 2.0)])
def test_a_dac_has_the_nonlinearity_that_was_asked(simulate, bits, bound, seed):
    errors = draw_converter_errors(Dac(bits=bits, inl=bound), "tile", Purpose.DAC_ERRORS, COUNT, seed)
    _, outputs = dac_sweep(simulate, bits, dac_with_errors(bits, errors))
    for k in range(COUNT):
        dnl, inl = nonlinearity(outputs[:, k])
        assert dnl.min() > -0.91  # never falls
        assert bound / 10 < np.abs(inl).max() <= bound + 1e-9


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("bits", "bound"), [(4, 0.5), (8, 0.5), (8, 3.0)])
def test_an_adc_has_the_nonlinearity_that_was_asked(simulate, bits, bound, seed):
    errors = draw_converter_errors(Adc(bits=bits, inl=bound, v_full_scale=1), "tile", Purpose.ADC_ERRORS, COUNT, seed)
    inputs, codes = adc_sweep(simulate, bits, with_errors("adc_real", errors))
    for k in range(COUNT):
        assert set(codes[:, k]) == set(range(-code_max_of(bits), code_max_of(bits) + 1))
        _, inl = nonlinearity(transitions(inputs, codes[:, k], code_max_of(bits)))
        assert bound / 10 < np.abs(inl).max() <= bound + STEP


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_nonlinearity_makes_a_converter_fall(simulate, bits):
    dac = draw_converter_errors(Dac(bits=bits, inl=100), "tile", Purpose.DAC_ERRORS, COUNT, 3)
    adc = draw_converter_errors(Adc(bits=bits, inl=100, v_full_scale=1), "tile", Purpose.ADC_ERRORS, COUNT, 3)
    _, outputs = dac_sweep(simulate, bits, dac_with_errors(bits, dac))
    _, codes = adc_sweep(simulate, bits, with_errors("adc_real", adc))
    assert np.diff(outputs, axis=0).min() > 0
    assert np.diff(codes, axis=0).min() >= 0
    assert all(set(column) == set(range(-code_max_of(bits), code_max_of(bits) + 1)) for column in codes.T)


CASES = [(4, 0.8, -0.03), (8, -1.7, 0.02), (8, 2.3, 0.0), (10, 0.0, -0.01)]


@pytest.mark.parametrize(("bits", "offset", "gain_error"), CASES)
@pytest.mark.parametrize("inl", [0.0, 0.5])
def test_a_dac_has_the_offset_and_gain_error_that_were_asked(simulate, bits, offset, gain_error, inl):
    errors = draw_converter_errors(
        Dac(bits=bits, offset=offset, gain_error=gain_error, inl=inl), "t", Purpose.DAC_ERRORS, 1, 0
    )
    _, outputs = dac_sweep(simulate, bits, dac_with_errors(bits, errors))
    lowest, highest = outputs[[0, -1], 0]
    lsb = (highest - lowest) / (2 * code_max_of(bits))
    assert (highest + lowest) / 2 / lsb == pytest.approx(offset, abs=0.01)
    assert highest - lowest == pytest.approx(2 * (1 + gain_error), abs=0.01 / code_max_of(bits))


@pytest.mark.parametrize(("bits", "offset", "gain_error"), CASES)
@pytest.mark.parametrize("inl", [0.0, 0.5])
def test_an_adc_has_the_offset_and_gain_error_that_were_asked(simulate, bits, offset, gain_error, inl):
    settings = Adc(bits=bits, offset=offset, gain_error=gain_error, inl=inl, v_full_scale=1)
    errors = draw_converter_errors(settings, "t", Purpose.ADC_ERRORS, 1, 0)
    inputs, codes = adc_sweep(simulate, bits, with_errors("adc_real", errors))
    levels = transitions(inputs, codes[:, 0], code_max_of(bits))
    lsb = (levels[-1] - levels[0]) / (len(levels) - 1)
    assert -(levels[-1] + levels[0]) / 2 / lsb == pytest.approx(offset, abs=0.01)
    assert (levels[-1] - levels[0]) * (1 + gain_error) == pytest.approx(len(levels) - 1, abs=0.01)


# --- settling --------------------------------------------------------------------------------


@pytest.mark.parametrize("settling", [0.2e-9, 5e-9, 1e-6])
def test_a_drive_settles_with_its_time_constant(simulate, settling):
    edge = settling / 1000
    at = settling  # of the step
    found = simulate(
        f"V_code code 0 PWL(0 -40 {at} -40 {at + edge} 100)",
        "V_on on 0 1",
        f"X1 code on p n dac_real v_ref={V_REF} settling={settling}",
        f".tran {settling / 50} {9 * settling} 0 {settling / 100}",
    )
    v, t = found["v(p)"] / V_REF, found["time"] - at
    expected = np.where(t > edge, (100 - 140 * np.exp(-np.maximum(t - edge, 0) / settling)) / 127, -40 / 127)
    np.testing.assert_allclose(v, expected, rtol=0, atol=2e-3 * 140 / 127)
    np.testing.assert_array_equal(found["v(n)"], -found["v(p)"])
    through = np.interp(-40 + 140 * (1 - math.exp(-1)), v[t > 0] * 127, t[t > 0])
    assert through == pytest.approx(settling, rel=2e-3)


def test_without_settling_a_drive_follows_at_once(simulate):
    rng = np.random.default_rng(1)
    points = " ".join(f"{k}n {code} {k}.99n {code}" for k, code in enumerate(rng.integers(-140, 140, 20)))
    parameters = f"v_ref={V_REF} offset=0.3 gain_error=0.01 i3=0.4"
    found = simulate(
        f"V_code code 0 PWL({points})",
        "V_on on 0 PWL(0 1 15n 1 15.01n 0)",
        f"X1 code on p n dac_real {parameters}",
        ".tran 0.1n 20n 0 0.1n",
    )
    errors = ConverterErrors(0.3, 0.01, np.array([[0.0, 0.4, 0.0, 0.0]]))
    expected = found["v(on)"] * Converter(8).drive(found["v(code)"][:, None], errors)[:, 0]
    np.testing.assert_allclose(found["v(p)"] / V_REF, expected, rtol=0, atol=1e-12)
    assert np.abs(found["v(p)"][found["time"] > 15.02e-9]).max() == 0


# --- the same arithmetic in numpy ---------------------------------------------------------------


ERRORS = {"offset": -0.37, "gain_error": 0.013, "inl": 0.8}


@pytest.mark.parametrize("bits", [2, 4, 8, 10, 16])
def test_a_dac_puts_out_what_numpy_says(simulate, bits):
    errors = draw_converter_errors(Dac(bits=bits, **ERRORS), "tile", Purpose.DAC_ERRORS, COUNT, 7)
    step = max(0.25, code_max_of(bits) // 4096 + 0.25)  # halves and quarters, and beyond full scale
    codes, outputs = dac_sweep(simulate, bits, [*dac_with_errors(bits, errors), "dac", "dac_real"], step, beyond=3)
    expected = Converter(bits).drive(np.repeat(codes[:, None], COUNT, axis=1), errors)
    np.testing.assert_allclose(outputs[:, :COUNT], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(outputs[:, COUNT], Converter(bits).drive(codes), rtol=0, atol=1e-14)
    np.testing.assert_allclose(outputs[:, COUNT + 1], outputs[:, COUNT], rtol=0, atol=1e-15)


def test_a_driver_of_one_bit_has_the_errors_of_its_converter(simulate):
    errors = draw_converter_errors(Dac(bits=8, **ERRORS), "tile", Purpose.DAC_ERRORS, COUNT, 7)
    kinds = [f"{kind} lsb={number(1 / 127)}" for kind in with_errors("dac_real", errors)]
    codes, outputs = dac_sweep(simulate, 2, kinds, 0.25, beyond=1)
    expected = Converter(2).drive(np.repeat(codes[:, None], COUNT, axis=1), errors, lsb=1 / 127)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)
    assert np.abs(outputs - np.clip(np.floor(codes + 0.5), -1, 1)[:, None]).max() < 0.03


@pytest.mark.parametrize("bits", [2, 4, 8, 10, 16])
def test_an_adc_gives_the_codes_that_numpy_says(simulate, bits):
    errors = draw_converter_errors(Adc(bits=bits, v_full_scale=1, **ERRORS), "tile", Purpose.ADC_ERRORS, COUNT, 7)
    step = max(1 / 64, code_max_of(bits) / 12345.6)
    inputs, codes = adc_sweep(simulate, bits, [*with_errors("adc_real", errors), "adc", "adc_real"], step)
    fractions = np.repeat(inputs[:, None], COUNT, axis=1) / code_max_of(bits)
    np.testing.assert_array_equal(codes[:, :COUNT], Converter(bits).read(fractions, errors))
    np.testing.assert_array_equal(codes[:, COUNT], Converter(bits).read(fractions[:, 0]))
    np.testing.assert_array_equal(codes[:, COUNT + 1], codes[:, COUNT])


def test_an_adc_without_errors_takes_exact_halves_upwards(simulate):
    inputs = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    lines = [".op"]
    for k, v in enumerate(inputs):
        lines += [f"V{k} a{k} 0 {v}", f"X{k} a{k} k{k} adc_real code_max=7 v_full_scale=7"]
    found = simulate(*lines)
    assert [found[f"v(k{k})"][0] for k in range(len(inputs))] == [-3, -2, -1, 0, 1, 2, 3, 4]


def test_a_converter_behind_a_circuit_is_exact(simulate):
    """A DAC that drives a divider whose middle an ADC reads."""
    errors = draw_converter_errors(Dac(bits=14, **ERRORS), "tile", Purpose.DAC_ERRORS, 1, 7)
    found = simulate(
        "V_on on 0 1",
        "V_code code 0 0",
        f"X_dac code on p n {dac_with_errors(14, errors)[0]} code_max=8191 v_ref=1",
        "R1 p m 1k",
        "R2 m 0 3k",
        f"X_adc m k adc_real code_max=8191 v_full_scale=0.8 {errors.parameters(0)}",
        ".dc V_code -8191 8191 1",
    )
    converter = Converter(14)
    output = converter.drive(found["v(code)"][:, None], errors)
    np.testing.assert_allclose(found["v(p)"], output[:, 0], rtol=0, atol=1e-12)
    fractions = found["v(m)"][:, None] / 0.8
    expected = converter.read(fractions, errors)[:, 0]
    near = converter.read(fractions - 1e-12, errors)[:, 0] != converter.read(fractions + 1e-12, errors)[:, 0]
    np.testing.assert_array_equal(found["v(k)"][~near], expected[~near])
