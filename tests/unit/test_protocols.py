import json
import math

import numpy as np
import pytest

from hvae_mnn.model.evaluation.protocols import (
    PTB_PAPER,
    Estimate,
    HonestColumn,
    PaperColumn,
    perplexity,
    published_row,
    split_again,
    tokens_counted,
    unknown_share,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The bank 's Profit", "the bank 's profit"),
        ("mr. smith waits ...", "mr . smith waits ."),
        ("the u.s. market", "the u .s . market"),
        ("who, me?! yes", "who , me ? ! yes"),
        ("it's john's", "it 's john 's"),
        ("<unk> N n't $ 1.5", "<unk> n n't $ 1 .5"),
        ("a . b", "a . b"),
    ],
)
def test_text_is_split_again_as_twr_vae_does(text: str, expected: str) -> None:
    assert " ".join(split_again(text.split())) == expected


@pytest.mark.parametrize(("nll", "tokens"), [(79.4, 23.32), (103.2, 21.917), (3.81, 8.0)])
def test_nll_over_the_logarithm_of_perplexity_is_the_token_count(nll: float, tokens: float) -> None:
    assert tokens_counted(nll, perplexity(nll, tokens)) == pytest.approx(tokens)


def test_the_published_row_agrees_with_itself() -> None:
    assert tokens_counted(PTB_PAPER.nll, PTB_PAPER.perplexity) == pytest.approx(PTB_PAPER.tokens, abs=0.03)
    assert PTB_PAPER.baseline_tokens == round((78669 + 3761) / 3761, 3)


def test_only_the_penn_treebank_has_a_published_row() -> None:
    rows = [("a",) * 20] * 3760
    assert published_row([*rows, ("a",) * 3469]) is PTB_PAPER
    assert published_row([*rows, ("a",) * 3468]) is None
    assert published_row([*rows[1:], ("a",) * 3489]) is None


def test_a_perplexity_beyond_floats_is_infinite() -> None:
    assert perplexity(1e6, 1.0) == math.inf


def test_the_share_of_unknown_words() -> None:
    assert unknown_share([((4, 1, 5), ("x",)), ((1,), ("y",))]) == 0.5


def test_columns_as_json() -> None:
    bound = Estimate(20.0, 0.5, 8.0)
    paper = PaperColumn(9.0, 0.1, 10.0, 2.0, 3.0, 4.0)
    honest = HonestColumn(
        8.0, 0.0, 15.0, 5.0, bound, {50: bound}, 10, bound, 1.0, 6.0, 3, 4, (0.1, 0.2), (2, 1), 5.0, np.zeros(2)
    )

    left, right = (json.loads(json.dumps(column.to_json())) for column in (paper, honest))

    assert (left["nll"], left["perplexity"]) == (12.0, pytest.approx(math.exp(12 / 9)))
    assert left["nll_over_ln_perplexity"] == pytest.approx(9.0)
    assert right["nll_over_ln_perplexity"] == pytest.approx(8.0)
    assert right["elbo"] == {
        "nll": 20.0,
        "standard_error": 0.5,
        "tokens": 8.0,
        "perplexity": pytest.approx(math.exp(2.5)),
    }
    assert right["importance"]["50"] == right["elbo"]
    assert right["kl_steps"] == [0.1, 0.2]
