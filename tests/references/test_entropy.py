"""No honest figure falls below the entropy of a source whose entropy is known exactly; the `paper` sum does."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from making import make_text_vae
from torch import nn

from hvae_mnn.model.evaluation.evaluate import evaluate_honest, evaluate_paper
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import Sentence, Vocabulary
from hvae_mnn.model.text.grammar import ENGLISH

Draw = Callable[[int], list[Sentence]]
TYPES, WORDS = 20, 6


pytestmark = pytest.mark.usefixtures("one_thread")


def iid_source(seed: int) -> tuple[Draw, float]:
    """Five to seven tokens drawn evenly from 20 types; H = ln 3 + 6 ln 20, ln 3 of it in `<eos>`."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> list[Sentence]:
        table = (rng.integers(0, TYPES, (count, WORDS + 1)) + 4).tolist()
        return [tuple(row[:length]) for row, length in zip(table, rng.integers(5, 8, count), strict=True)]

    return draw, math.log(3) + WORDS * math.log(TYPES)


def markov_source(seed: int) -> tuple[Draw, float]:
    """Six tokens of a chain over 20 types; H = ln 20 + sum_t sum_i p_t(i) H(row i)."""
    table = np.random.default_rng(1).dirichlet(np.full(TYPES, 0.3), TYPES)
    rows = -np.sum(table * np.log(np.maximum(table, 1e-300)), axis=1)
    place, entropy = np.full(TYPES, 1 / TYPES), math.log(TYPES)
    for _ in range(WORDS - 1):
        entropy += float(place @ rows)
        place = place @ table
    rng = np.random.default_rng(seed)

    def draw(count: int) -> list[Sentence]:
        states = [rng.integers(0, TYPES, count)]
        edges = table.cumsum(1)
        for _ in range(WORDS - 1):
            points = rng.random((count, 1))
            states.append(np.minimum((points > edges[states[-1]]).sum(1), TYPES - 1))
        return [tuple(row) for row in (np.stack(states, axis=1) + 4).tolist()]

    return draw, entropy


def grammar_source(seed: int) -> tuple[Draw, float]:
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary.from_sentences([ENGLISH.words()])
    draw = lambda count: [vocabulary.encode(" ".join(ENGLISH.sample(rng)[0]))[0] for _ in range(count)]  # noqa: E731
    return draw, ENGLISH.entropy()


SOURCES = {"iid": iid_source, "markov": markov_source, "grammar": grammar_source}


def fit(draw: Draw, mode: str, steps: int, size: int, hidden: int = 48) -> TextVae:
    """Train a small model on fresh draws, by the loss that `hvae-mnn train` takes."""
    model = make_text_vae(size, hidden, latent=16, mode=mode)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(steps):
            loss = model.train().losses(pad_batch(draw(96))).objective()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
    return model


@pytest.mark.parametrize(
    ("source", "mode", "steps", "excess"),
    [("iid", "per-step", 110, 0.5), ("markov", "per-step", 150, 1.6), ("grammar", "per-step", 120, 6.0)],
)
def test_honest_bounds_stay_above_the_entropy_of_the_source(source: str, mode: str, steps: int, excess: float) -> None:
    draw, entropy = SOURCES[source](seed=0)
    model = fit(draw, mode, steps, size=140 if source == "grammar" else TYPES + 4)

    found = evaluate_honest(model, draw(2000), importance_sentences=40)

    for bound in (found.elbo, *found.importance.values()):
        assert bound.nll >= entropy - 3 * bound.standard_error
    for bound in (found.elbo, found.importance[50], found.importance[500]):
        assert bound.nll < entropy + excess  # near it, so that a token left out would fall below
    assert found.prior.nll >= entropy - 3 * found.prior.standard_error


def test_the_paper_protocol_falls_below_the_entropy_where_the_latent_remembers() -> None:
    """What the guard is for: the same model, and a sum that no model can reach."""
    draw, entropy = iid_source(seed=0)
    model = fit(draw, "last", 250, TYPES + 4)
    test = draw(600)

    honest, paper = evaluate_honest(model, test, importance_sentences=60), evaluate_paper(model, test)

    assert paper.nll < entropy - 3
    for bound in (honest.elbo, *honest.importance.values()):
        assert bound.nll >= entropy - 3 * bound.standard_error
    assert honest.importance[500].nll <= honest.importance[50].nll <= honest.elbo.nll
    assert honest.active_units > 0
    assert honest.mutual_information <= honest.ceiling == math.log(600)
    assert paper.mutual_information <= paper.ceiling == math.log(64)
