"""DAC and ADC arithmetic against codes worked out by hand."""

import numpy as np
import pytest

from hvae_mnn.circuit.converters import Converter, ConverterErrors, draw_converter_errors
from hvae_mnn.circuit.streams import Purpose
from hvae_mnn.hardware.config import Adc, Dac


@pytest.mark.parametrize(("bits", "code_max"), [(2, 1), (3, 3), (8, 127), (12, 2047)])
def test_full_scale_code_is_symmetric(bits: int, code_max: int) -> None:
    converter = Converter(bits)
    assert converter.code_max == code_max
    assert converter.encode(np.array([1.0, 0.0, -1.0])).tolist() == [code_max, 0, -code_max]


def test_three_bits_by_hand() -> None:
    """Times 3: 0.3, 0.48, 0.51, -1.2, 2.4; the nearest integers."""
    codes = Converter(3).encode(np.array([[0.1, 0.16, 0.17], [-0.4, 0.8, -0.84]]))
    assert codes.tolist() == [[0, 0, 1], [-1, 2, -3]]


def test_halves_go_upwards() -> None:
    assert Converter(3).encode(np.array([-0.5, -1 / 6, 0.5])).tolist() == [-1, 0, 2]


def test_beyond_full_scale_clips_and_is_counted_past_half_a_code() -> None:
    converter = Converter(3)
    fractions = np.array([[1.16, 1.17, 9.0], [-1.16, -1.17, 0.2]])
    assert converter.encode(fractions).tolist() == [[3, 3, 3], [-3, -3, 1]]
    assert converter.count_clipped(fractions).sum() == 3


def test_decoding_divides_by_the_full_scale_code() -> None:
    assert Converter(3).decode(np.array([2.0, -3.0])).tolist() == [2 / 3, -1.0]


def test_without_bits_fractions_pass_and_nothing_clips() -> None:
    converter, fractions = Converter(None), np.array([0.123456789, -7.5])
    assert converter.encode(fractions).tolist() == [0.123456789, -7.5]
    assert converter.decode(fractions).tolist() == [0.123456789, -7.5]
    assert not converter.count_clipped(fractions).any()


# --- with errors ---------------------------------------------------------------------------


def errors(*rows: list[float], offset: float = 0.0, gain_error: float = 0.0) -> ConverterErrors:
    return ConverterErrors(offset, gain_error, np.array(rows))


def test_without_errors_a_dac_rounds_clips_and_divides() -> None:
    driven = Converter(3).drive(np.array([[2.0, -3.0, 0.5], [-0.5, 4.0, 1.4]]))
    assert driven.tolist() == [[2 / 3, -1.0, 1 / 3], [0.0, 1.0, 1 / 3]]


def test_without_errors_an_adc_encodes() -> None:
    fractions = np.array([[0.1, 0.16, 0.17], [-0.4, 0.8, -9.0]])
    assert Converter(3).read(fractions).tolist() == Converter(3).encode(fractions).tolist()


def test_a_dac_with_offset_and_gain_error_by_hand() -> None:
    """(code + 0.3) / 3 times 1.1, after the clip."""
    driven = Converter(3).drive(np.array([[0.0], [2.0], [7.0]]), errors([0, 0, 0, 0], offset=0.3, gain_error=0.1))
    np.testing.assert_allclose(driven, [[0.11], [1.1 * 2.3 / 3], [1.1 * 3.3 / 3]], rtol=1e-15)


def test_a_dac_with_nonlinearity_by_hand() -> None:
    """At code 0 u = pi/2: sin 2u .. sin 5u are 0, -1, 0 and 1; at both ends all are 0."""
    driven = Converter(3).drive(np.array([[-3.0], [0.0], [3.0]]), errors([0.4, 0.3, 0.2, 0.1]))
    np.testing.assert_allclose(driven, [[-1.0], [-0.2 / 3], [1.0]], rtol=0, atol=1e-15)


def test_each_converter_has_the_profile_of_its_row() -> None:
    driven = Converter(3).drive(np.zeros((2, 3)), errors([0, 0.3, 0, 0], [0, 0, 0, 0.6], [0.9, 0, 0, 0]))
    np.testing.assert_allclose(driven, [[-0.1, 0.2, 0.0]] * 2, rtol=0, atol=1e-15)


def test_an_adc_with_offset_and_gain_error_by_hand() -> None:
    """Three times the fraction, times 1.5, plus 0.25: 0.475, 0.52, 3.1 and -4.25; the nearest codes."""
    fractions = np.array([[0.05], [0.06], [1.9 / 3], [-1.0]])
    read = Converter(3).read(fractions, errors([0, 0, 0, 0], offset=0.25, gain_error=0.5))
    assert read.tolist() == [[0], [1], [3], [-3]]


def test_an_adc_with_nonlinearity_by_hand() -> None:
    """At 0 the profile is -i3 = 0.5, a half upwards; the outermost transitions at +-2.5 stay."""
    one = errors([0, -0.5, 0, 0])
    fractions = np.array([[0.0], [-0.01], [2.499 / 3], [2.501 / 3], [-2.499 / 3], [-2.501 / 3]])
    assert Converter(3).read(fractions, one).tolist() == [[1], [0], [2], [3], [-2], [-3]]


def test_a_driver_of_one_bit_has_the_lsb_of_its_converter() -> None:
    driven = Converter(2).drive(np.array([[1.0], [0.0], [-1.0]]), errors([0, 0, 0, 0], offset=2.0), lsb=1 / 127)
    np.testing.assert_allclose(driven, [[129 / 127], [2 / 127], [-125 / 127]], rtol=1e-15)


def test_without_bits_fractions_pass_without_errors() -> None:
    fractions, some = np.array([[0.123456789, -7.5]]), errors([1, 1, 1, 1], offset=3.0)
    assert Converter(None).drive(fractions, some).tolist() == fractions.tolist()
    assert Converter(None).read(fractions, some).tolist() == fractions.tolist()


@pytest.mark.parametrize("bits", [None, 3, 8])
def test_codes_and_their_clipped_ones_at_once(bits: int | None) -> None:
    converter, fractions = Converter(bits), np.random.default_rng(2).normal(size=(50, 2))
    for some in (None, errors([0.4, 0, -0.25, 0.1], [0, 0.3, 0, 0], offset=0.5, gain_error=0.1)):
        codes, clipped = converter.read_and_count(fractions, some)
        np.testing.assert_array_equal(codes, converter.read(fractions, some))
        np.testing.assert_array_equal(clipped, converter.count_clipped(fractions, some))
        assert (clipped.sum() > 0) == (bits is not None)


def test_parameters_are_those_of_the_subcircuits() -> None:
    some = errors([0.1, 0, -0.25, 1e-9], [1, 2, 3, 4], offset=-0.5, gain_error=0.02)
    text = "offset=-0.5 gain_error=0.02 i2=0.10000000000000001 i3=0 i4=-0.25 i5=1.0000000000000001e-09"
    assert some.parameters(0) == text.replace("0.02", f"{0.02:.17g}")
    assert some.parameters(1).endswith("i2=1 i3=2 i4=3 i5=4")


@pytest.mark.parametrize("settings", [Dac(bits=8), Dac(), Dac(offset=1, inl=1), Adc(bits=8, v_full_scale=1)])
def test_no_errors_are_none(settings: Dac | Adc) -> None:
    assert draw_converter_errors(settings, "tile", Purpose.DAC_ERRORS, 3, 0) is None


def test_sizes_are_taken_over_and_amplitudes_add_up_to_the_bound() -> None:
    drawn = draw_converter_errors(Dac(bits=8, offset=0.3, gain_error=-0.01, inl=0.5), "tile", Purpose.DAC_ERRORS, 6, 0)
    assert drawn is not None and (drawn.offset, drawn.gain_error) == (0.3, -0.01)
    assert drawn.inl.shape == (6, 4)
    np.testing.assert_allclose(np.abs(drawn.inl).sum(axis=1), 0.5, rtol=1e-12)


def test_an_offset_alone_has_no_nonlinearity() -> None:
    drawn = draw_converter_errors(Adc(bits=8, offset=0.3, v_full_scale=1), "tile", Purpose.ADC_ERRORS, 2, 0)
    assert drawn is not None and not drawn.inl.any()


def test_every_converter_seed_tile_and_purpose_has_a_profile_of_its_own() -> None:
    settings = Dac(bits=8, inl=1)
    keys = [
        ("a", Purpose.DAC_ERRORS, 0),
        ("b", Purpose.DAC_ERRORS, 0),
        ("a", Purpose.ADC_ERRORS, 0),
        ("a", Purpose.DAC_ERRORS, 1),
    ]
    drawn = [draw_converter_errors(settings, name, purpose, 5, seed) for name, purpose, seed in keys]
    rows = np.concatenate([each.inl for each in drawn if each is not None])
    assert len(np.unique(rows, axis=0)) == 20
    again = draw_converter_errors(settings, "a", Purpose.DAC_ERRORS, 5, 0)
    assert again is not None and again.inl.tolist() == rows[:5].tolist()
    assert Purpose.DAC_ERRORS != Purpose.ADC_ERRORS


def test_a_larger_bound_scales_the_same_profile() -> None:
    small, large = (draw_converter_errors(Dac(bits=10, inl=inl), "tile", Purpose.DAC_ERRORS, 5, 0) for inl in (0.5, 2))
    assert small is not None and large is not None
    np.testing.assert_allclose(large.inl, 4 * small.inl, rtol=1e-12)


def test_what_an_error_pushes_beyond_the_last_code_is_clipped_too() -> None:
    """At twice the gain everything beyond half of full scale clips."""
    errors = ConverterErrors(0.0, 1.0, np.zeros((1, 4)))
    fractions = np.array([[0.4], [0.49], [0.51], [-0.6], [1.2]])
    assert Converter(8).count_clipped(fractions).sum() == 1
    assert Converter(8).count_clipped(fractions, errors).sum() == 3
