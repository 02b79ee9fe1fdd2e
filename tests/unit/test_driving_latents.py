"""Of which latents the figures are: those that drive the decoder, or the last of them, by torch's distributions."""

import math

import numpy as np
import pytest
import torch
from making import make_text_vae, sharpen
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.evaluation.evaluate import evaluate_honest, evaluate_paper
from hvae_mnn.model.evaluation.measures import evaluate_likelihood
from hvae_mnn.model.evaluation.posteriors import Posterior
from hvae_mnn.model.evaluation.quality import evaluate_quality
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import EOS

SENTENCES = [(4, 5, 6), (7, 4), (8, 8, 5, 9, 6), (4,), (10, 11, 5)]
ALIKE = [(4, 4, word) for word in range(4, 12)]

pytestmark = pytest.mark.usefixtures("one_thread")


def steps_of(model: TextVae, sentence: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and log variance at every token of one sentence, (T, L)."""
    with torch.no_grad():
        mu, logvar = model.eval().encode(pad_batch([sentence]))
    return mu[0], logvar[0]


def learned_prior() -> TextVae:
    torch.manual_seed(0)
    config = ModelConfig(
        vocabulary_size=12, embedding=6, hidden=7, latent=3, max_length=9, latent_mode="per-step", prior="learned"
    )
    return TextVae(config)


def made(mode: str) -> TextVae:
    return learned_prior() if mode == "prior" else make_text_vae(mode=mode)


@pytest.mark.parametrize(("mode", "driving"), [("last", slice(-1, None)), ("per-step", slice(None, -1))])
def test_the_bound_of_a_checkpoint_charges_the_latents_that_drive(mode: str, driving: slice) -> None:
    model = make_text_vae(mode=mode)
    with torch.no_grad():
        model.mu.bias.fill_(0.7)
    gaps = []
    for sentence in SENTENCES:
        mu, logvar = (part.double() for part in steps_of(model, sentence))
        gaps.append(kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0, 1)).sum(1).numpy())

    found = evaluate_likelihood(model, SENTENCES)

    assert found.kl == pytest.approx(np.mean([gap[driving].sum() for gap in gaps]), rel=1e-5)
    assert found.kl_mean == pytest.approx(np.mean([gap.mean() for gap in gaps]), rel=1e-5)
    assert found.elbo_nll == pytest.approx(found.reconstruction + found.kl)


@pytest.mark.parametrize(("mode", "place"), [("last", -1), ("per-step", -2), ("prior", -1)])
def test_active_units_are_those_of_the_last_latent_that_drives(mode: str, place: int) -> None:
    """All sentences begin alike: no unit of the first latent is active."""
    model = sharpen(made(mode))
    with torch.no_grad():
        model.mu.weight[0].zero_()  # one of three is dead
    means = np.stack([steps_of(model, sentence)[0][place].double().numpy() for sentence in ALIKE])

    found = evaluate_honest(model, ALIKE, importance_sentences=2).active_units

    assert found == (means.var(0, ddof=1) > 0.01).sum() == 2


@pytest.mark.parametrize("mode", ["last", "per-step", "prior"])
def test_information_is_that_of_the_last_latent_that_drives(mode: str) -> None:
    """All sentences begin alike and end differently: the first latents say nothing, the last ones all."""
    model = sharpen(made(mode))

    honest, paper = evaluate_honest(model, ALIKE, importance_sentences=2), evaluate_paper(model, ALIKE)
    same = evaluate_honest(model, [(4, 4, 4)] * 8, importance_sentences=2)

    assert honest.mutual_information == pytest.approx(math.log(8), abs=1e-6)
    assert paper.mutual_information == pytest.approx(math.log(8), abs=1e-6)
    assert same.mutual_information == pytest.approx(0, abs=1e-6)


def test_batches_of_the_paper_column_weigh_by_their_sentences() -> None:
    """64 sentences that no two share a latent, and one by itself, which tells nothing."""
    rng = np.random.default_rng(0)
    model = sharpen(make_text_vae())
    sentences = sorted({tuple(rng.integers(4, 12, rng.integers(3, 9)).tolist()) for _ in range(200)})[:65]

    found = evaluate_paper(model, sentences)

    assert found.mutual_information == pytest.approx(64 / 65 * math.log(64), abs=1e-6)


@pytest.mark.parametrize(("mode", "first"), [("last", -1), ("per-step", 0), ("prior", 1)])
def test_free_decoding_is_driven_by_the_same_latents(mode: str, first: int) -> None:
    """At the means; past a sentence's own end its last latent stays."""
    model = sharpen(made(mode), 1.0).eval()
    with torch.no_grad():
        model.logvar.bias.fill_(-60)
        found = model.free_latents(pad_batch(SENTENCES))

    for row, sentence in enumerate(SENTENCES):
        wanted = steps_of(model, sentence)[0][first:]
        padding = wanted[-1:].expand(found.shape[1] - len(wanted), -1)
        torch.testing.assert_close(found[row], torch.cat([wanted, padding]), rtol=1e-5, atol=1e-6)


class Listener:
    """Stands in for a side: notes the latents that it is asked to decode, and says nothing."""

    def __init__(self) -> None:
        self.forced_at: list[list[Tensor]] = []
        self.spoken_at: list[list[Tensor]] = []

    def forced(self, sentences: list[tuple[int, ...]], latents: list[Tensor]) -> list[tuple[int, ...]]:
        self.forced_at.append(list(latents))
        return [(*sentence, EOS) for sentence in sentences]

    def speak(self, latents: list[Tensor], report: object = None) -> list[tuple[int, ...]]:
        self.spoken_at.append(list(latents))
        return [()] * len(latents)


def test_what_comes_back_is_asked_at_the_mean_and_then_at_a_draw() -> None:
    posteriors = [
        Posterior(n, (4, 5), torch.tensor([[float(n), -1.0]]), torch.tensor([[0.0, 2.0]]), "last") for n in (0, 1)
    ]
    side = Listener()

    evaluate_quality(side, posteriors, seed=3, stream=5)  # type: ignore[arg-type]

    for asked in (side.forced_at, side.spoken_at):
        mean, drawn = (torch.stack(latents)[:, 0] for latents in asked)
        torch.testing.assert_close(mean, torch.tensor([[0.0, -1.0], [1.0, -1.0]]))
        eps = torch.stack([each.noise(3, 5)[0, 0] for each in posteriors])
        torch.testing.assert_close(drawn, mean + eps * torch.tensor([1.0, math.e]))
        assert float(eps.abs().min()) > 1e-3
