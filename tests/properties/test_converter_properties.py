"""What holds for every resolution and every fraction."""

from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hvae_mnn.physics.converters import Converter

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
