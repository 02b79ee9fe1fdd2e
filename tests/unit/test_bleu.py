"""BLEU against the worked examples of Papineni et al. 2002 and values counted by hand."""

import math

import pytest

from hvae_mnn.model.evaluation.bleu import _precision, corpus_bleu

# Section 2 of the paper: two candidates with three references, and the clipped "the".
FIRST = "it is a guide to action which ensures that the military always obeys the commands of the party".split()
SECOND = "it is to insure the troops forever hearing the activity guidebook that party direct".split()
REFERENCES = [
    "it is a guide to action that ensures that the military will forever heed party commands".split(),
    "it is the guiding principle which guarantees the military forces always being under the command of the "
    "party".split(),
    "it is the practical guide for the army always to heed the directions of the party".split(),
]


def test_the_paper_s_modified_precisions() -> None:
    assert _precision([(FIRST, REFERENCES)], 1) == pytest.approx(17 / 18)
    assert _precision([(SECOND, REFERENCES)], 1) == pytest.approx(8 / 14)
    assert _precision([(FIRST, REFERENCES)], 2) == pytest.approx(10 / 17)
    assert _precision([(SECOND, REFERENCES)], 2) == pytest.approx(1 / 13)
    the = ["the cat is on the mat".split(), "there is a cat on the mat".split()]
    assert _precision([(["the"] * 7, the)], 1) == pytest.approx(2 / 7)
    assert _precision([(["the"] * 7, the)], 2) == 0


def test_the_first_candidate_s_bleu() -> None:
    """17/18, 10/17, 7/16 and 4/15 n-grams counted by hand; 18 words, as the second reference has: no penalty."""
    wanted = (17 / 18 * 10 / 17 * 7 / 16 * 4 / 15) ** 0.25
    assert corpus_bleu([FIRST], [REFERENCES]) == pytest.approx(wanted)
    assert corpus_bleu([SECOND], [REFERENCES]) == 0  # no trigram


def test_counts_are_summed_before_they_are_divided() -> None:
    """abcd and abxyz against abcd and abcyz: 8/9 ... by hand."""
    candidates, references = ["abcd", "abxyz"], [["abcd"], ["abcyz"]]
    wanted = (8 / 9 * 5 / 7 * 2 / 5 * 1 / 3) ** 0.25
    assert corpus_bleu(candidates, references) == pytest.approx(wanted)


def test_the_brevity_penalty() -> None:
    """Five of eight words, all n-grams right: exp(1 - 8/5)."""
    assert corpus_bleu(["abcde"], [["abcdefgh"]]) == pytest.approx(math.exp(1 - 8 / 5))
    assert corpus_bleu(["abcde"], [["abcdexx", "abcd"]]) == pytest.approx(1.0)  # 4 is closer than 7
    assert corpus_bleu(["abcde"], [["abcdef", "abcd"]]) == pytest.approx(1.0)  # equally close: the shorter
    assert corpus_bleu(["abcdefgh", "abcd"], [["abcdefgh"], ["abcdefgh"]]) == pytest.approx(math.exp(1 - 16 / 12))


def test_the_whole_text_again_is_one_and_nothing_is_zero() -> None:
    text = [(4, 5, 6, 7, 8), (9, 4)]
    assert corpus_bleu(text, [[sentence] for sentence in text]) == 1.0
    assert corpus_bleu([(), ()], [[(4, 5)], [(6,)]]) == 0.0
    assert corpus_bleu([(4, 5, 6)], [[(4, 5, 6)]]) == 0.0  # no four words anywhere
