"""DAC and ADC arithmetic against codes worked out by hand."""

import numpy as np
import pytest

from hvae_mnn.physics.converters import Converter


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
    assert converter.count_clipped(fractions) == 3


def test_decoding_divides_by_the_full_scale_code() -> None:
    assert Converter(3).decode(np.array([2.0, -3.0])).tolist() == [2 / 3, -1.0]


def test_without_bits_fractions_pass_and_nothing_clips() -> None:
    converter, fractions = Converter(None), np.array([0.123456789, -7.5])
    assert converter.encode(fractions).tolist() == [0.123456789, -7.5]
    assert converter.decode(fractions).tolist() == [0.123456789, -7.5]
    assert converter.count_clipped(fractions) == 0
