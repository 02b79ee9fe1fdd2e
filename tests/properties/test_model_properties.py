import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_mnn.model.network.vae import pad_batch
from hvae_mnn.model.text.corpus import EOS, PAD, SOS, SPECIALS, UNK, Vocabulary
from hvae_mnn.model.text.grammar import ENGLISH

WORDS = Vocabulary((*SPECIALS, "N", "the", "Dr", "river"))


@given(st.text())
def test_any_text_can_be_encoded(text: str) -> None:
    ids, unknown = WORDS.encode(text)

    assert len(ids) == len(text.split())
    assert not {PAD, SOS, EOS} & set(ids)
    assert set(unknown) <= set(text.split())
    assert len(unknown) <= ids.count(UNK)


@given(st.lists(st.sampled_from([word for word in WORDS.words if word not in ("<pad>", "<sos>", "<eos>")])))
def test_known_words_come_back(words: list[str]) -> None:
    ids, unknown = WORDS.encode(" ".join(words))

    assert WORDS.tokens(ids) == tuple(words)
    assert unknown == ()


@given(st.lists(st.lists(st.integers(4, 30), min_size=1, max_size=12), min_size=1, max_size=8))
def test_a_padded_batch_can_be_taken_apart(sentences: list[list[int]]) -> None:
    rows = pad_batch(sentences).tolist()

    assert [[word for word in row if word != PAD] for row in rows] == [[SOS, *s, EOS] for s in sentences]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_sentence_is_as_likely_as_its_derivation(seed: int) -> None:
    words, log_p = ENGLISH.sample(np.random.default_rng(seed))

    assert ENGLISH.log_probability(words) == pytest.approx(log_p, abs=1e-9)
    assert ENGLISH.log_probability(words[:-1]) < log_p or len(words) > 5
    assert ENGLISH.log_probability((*words, words[-1])) == -math.inf
