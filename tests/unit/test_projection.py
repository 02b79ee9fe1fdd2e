"""The most likely word: that of a whole float64 product, however close the next one is."""

import numpy as np
import pytest
import torch

from hvae_mnn.digital.projection import Projection
from hvae_mnn.model.network.vae import best_token
from hvae_mnn.model.text.corpus import PAD, SOS

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("spread", [1.0, 1e-6, 1e-9, 0.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e3])
def test_it_is_the_best_token_of_float64(spread, scale):
    """Rows that differ by `spread` only are alike in float32; all that is certain there is how uncertain it is."""
    weight = scale * (RNG.normal(size=(1, 40)) + spread * RNG.normal(size=(300, 40)))
    bias, h = scale * spread * RNG.normal(size=300), RNG.normal(size=(64, 40))
    found = Projection(weight, bias).choose(h)
    scores = np.einsum("bh,vh->bv", h, weight) + bias
    np.testing.assert_array_equal(found, best_token(torch.from_numpy(scores)))


def test_pad_and_sos_are_never_said():
    weight, bias = np.ones((6, 3)), np.zeros(6)
    bias[[PAD, SOS]] = 9.0
    bias[5] = 1e-12
    assert Projection(weight, bias).choose(np.ones((2, 3))).tolist() == [5, 5]
    assert bias[PAD] == 9.0


def test_of_equal_words_the_lowest_number():
    weight = np.repeat(np.eye(5, 3) - np.eye(5, 3, -3) + np.eye(5, 3, -2), 4, axis=0)
    h = RNG.normal(size=(300, 3))
    found = Projection(weight, np.zeros(20)).choose(h)
    first = next(number for number in range(4) if number not in (PAD, SOS))
    assert set(found) == {first, 4, 8, 12, 16}


def test_one_sentence_chooses_as_it_does_among_others():
    projection, h = Projection(RNG.normal(size=(500, 20)), RNG.normal(size=500)), RNG.normal(size=(50, 20))
    together = projection.choose(h)
    assert [int(projection.choose(h[i : i + 1])[0]) for i in range(50)] == together.tolist()
    assert len(set(together)) > 20
