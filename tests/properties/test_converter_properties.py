"""What holds for every resolution and every fraction."""

from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hvae_mnn.circuit.converters import Converter, ConverterErrors, draw_converter_errors
from hvae_mnn.circuit.streams import Purpose
from hvae_mnn.hardware.config import Adc, Dac

few = settings(derandomize=True, deadline=None, max_examples=60)
bits = st.integers(2, 24)
inside: Any = st.floats(-1, 1, allow_subnormal=False)
anything = st.floats(-5, 5, allow_subnormal=False)


def encode(converter: Converter, fraction: float) -> float:
    return converter.encode(np.array([fraction])).item()


@few
@given(bits, inside)
@example(3, -0.5)
def test_the_code_is_a_nearest_one(n: int, fraction: float) -> None:
    converter = Converter(n)
    code = encode(converter, fraction)
    assert code == int(code)
    assert abs(code - fraction * converter.code_max) <= 0.5 + 1e-9


@few
@given(bits, anything, anything)
def test_more_in_is_never_less_out(n: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert encode(Converter(n), low) <= encode(Converter(n), high)


@few
@given(bits, st.data())
def test_every_code_comes_back(n: int, data: st.DataObject) -> None:
    converter = Converter(n)
    code = data.draw(st.integers(-int(converter.code_max), int(converter.code_max)))
    assert encode(converter, converter.decode(np.array([code])).item()) == code


@few
@given(bits, inside)
def test_decoding_is_within_half_a_step(n: int, fraction: float) -> None:
    converter = Converter(n)
    back = converter.decode(converter.encode(np.array([fraction]))).item()
    assert abs(back - fraction) <= 0.5 / converter.code_max * (1 + 1e-9)


@few
@given(bits, anything)
def test_symmetric_but_for_halves(n: int, fraction: float) -> None:
    converter = Converter(n)
    odd = encode(converter, fraction) + encode(converter, -fraction)
    if abs(fraction * converter.code_max % 1 - 0.5) > 1e-6:
        assert odd == 0
    else:
        assert odd in (0, 1)


# --- with errors ---------------------------------------------------------------------------

sizes = st.fixed_dictionaries(
    {"offset": st.floats(-5, 5), "gain_error": st.floats(-0.5, 0.5), "inl": st.floats(1e-3, 100)}
)
coarse = st.integers(2, 10)  # few enough codes to try them all
seeds = st.integers(0, 2**32)


def all_codes(converter: Converter) -> Any:
    return np.arange(-converter.code_max, converter.code_max + 1)[:, None] * np.ones(3)


def drawn_for(section: Dac | Adc, purpose: int, seed: int) -> ConverterErrors:
    errors = draw_converter_errors(section, "tile", purpose, 3, seed)
    assert errors is not None
    return errors


@few
@given(bits, st.lists(anything, min_size=1))
def test_without_errors_drive_decodes_and_read_encodes(n: int, fractions: list[float]) -> None:
    converter, some = Converter(n), np.array(fractions)
    codes = converter.encode(some)
    np.testing.assert_array_equal(converter.read(some), codes)
    np.testing.assert_array_equal(converter.drive(codes), converter.decode(codes))
    none = ConverterErrors(0.0, 0.0, np.zeros((len(fractions), 4)))
    np.testing.assert_array_equal(converter.read(some, none), codes)
    np.testing.assert_array_equal(converter.drive(codes, none), converter.decode(codes))


@few
@given(coarse, sizes, seeds)
def test_a_dac_with_errors_rises_with_every_code(n: int, size: dict[str, float], seed: int) -> None:
    converter, errors = Converter(n), drawn_for(Dac(bits=n, **size), Purpose.DAC_ERRORS, seed)
    assert np.diff(converter.drive(all_codes(converter), errors), axis=0).min() > 0


@few
@given(coarse, sizes, seeds)
def test_the_nonlinearity_of_a_dac_is_within_its_bound(n: int, size: dict[str, float], seed: int) -> None:
    converter, errors = Converter(n), drawn_for(Dac(bits=n, **size), Purpose.DAC_ERRORS, seed)
    driven = converter.drive(all_codes(converter), errors)
    line = np.linspace(driven[0], driven[-1], len(driven))
    lsb = (driven[-1] - driven[0]) / (len(driven) - 1)
    assert np.abs((driven - line) / lsb).max() <= size["inl"] + 1e-9


@few
@given(coarse, sizes, seeds)
def test_an_adc_with_errors_never_falls_and_skips_no_code(n: int, size: dict[str, float], seed: int) -> None:
    converter, errors = Converter(n), drawn_for(Adc(bits=n, v_full_scale=1, **size), Purpose.ADC_ERRORS, seed)
    most = (converter.code_max + 6) / converter.code_max / (1 + size["gain_error"])
    steps = np.diff(converter.read(np.linspace(-most, most, 60_000)[:, None] * np.ones(3), errors), axis=0)
    assert set(np.unique(steps)) == {0, 1}
    assert (steps.sum(axis=0) == 2 * converter.code_max).all()


@few
@given(coarse, sizes, seeds, anything)
def test_a_code_with_errors_is_within_their_bounds(n: int, size: dict[str, float], seed: int, fraction: float) -> None:
    converter, errors = Converter(n), drawn_for(Adc(bits=n, v_full_scale=1, **size), Purpose.ADC_ERRORS, seed)
    exact = fraction * converter.code_max * (1 + size["gain_error"]) + size["offset"]
    code = converter.read(np.full((1, 3), fraction), errors)
    nearest = np.clip(exact, -converter.code_max, converter.code_max)
    assert np.abs(code - nearest).max() <= 0.5 + size["inl"] + 1e-9


@few
@given(bits, sizes, seeds)
def test_equal_seeds_draw_equal_errors(n: int, size: dict[str, float], seed: int) -> None:
    section = Dac(bits=n, **size)
    one, same, other = (drawn_for(section, Purpose.DAC_ERRORS, s) for s in (seed, seed, seed + 1))
    np.testing.assert_array_equal(one.inl, same.inl)
    assert (one.inl != other.inl).all()
    assert len(np.unique(one.inl, axis=0)) == 3
