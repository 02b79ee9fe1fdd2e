"""The figures of `evaluate` against closed forms and integrals."""

import math

import numpy as np
import pytest
import torch
from making import make_text_vae, sharpen
from torch.nn import functional

from hvae_mnn.model import output as output_module
from hvae_mnn.model import posteriors as posteriors_module
from hvae_mnn.model.corpus import EOS, SOS, Sentence, choose
from hvae_mnn.model.estimates import estimate_tighter
from hvae_mnn.model.evaluation import evaluate_honest, evaluate_paper, evaluate_plain, importance_bounds
from hvae_mnn.model.information import (
    active_units,
    importance_nll,
    mean_kl_steps,
    mutual_information,
)
from hvae_mnn.model.posteriors import Posterior, encode_sentences, length_batches, reconstruction
from hvae_mnn.model.sides import DRAWS, SoftwareSide
from hvae_mnn.model.vae import ModelConfig, TextVae, pad_batch

SENTENCES: list[Sentence] = [(4, 5, 6), (7, 4), (8, 8, 5, 9, 6), (4,), (10, 11, 5)]


pytestmark = pytest.mark.usefixtures("one_thread")


def random_sentences(count: int, size: int = 12, seed: int = 0) -> list[Sentence]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(4, size, rng.integers(1, 9)).tolist()) for _ in range(count)]


# importance weights


def test_one_posterior_equal_to_the_prior_and_a_deaf_decoder_give_the_reconstruction_for_any_k() -> None:
    model = make_text_vae()
    with torch.no_grad():
        for part in (model.mu, model.logvar, model.initial):
            for value in part.parameters():
                value.zero_()
        model.decoder.weight_ih_l0[:, 16:] = 0  # columns of z
    posteriors = encode_sentences(model, SENTENCES)

    found = importance_bounds(model, posteriors, seed=0, samples=(1, 5, 20))

    exact = reconstruction(model, SENTENCES, [torch.zeros(1, 3)] * len(SENTENCES)).numpy()
    for values in found.values():
        np.testing.assert_allclose(values, exact, rtol=1e-6)
    assert [posterior.kl() for posterior in posteriors] == [0.0] * len(SENTENCES)


def gaussian_posterior(mu: float, logvar: float) -> Posterior:
    return Posterior(0, (), torch.tensor([[mu]]).double(), torch.tensor([[logvar]]).double(), "last")


def gaussian_weights(posterior: Posterior, x: float, variance: float, samples: int) -> torch.Tensor:
    """Log weights of z ~ N(0, 1), x | z ~ N(z, variance)."""
    eps = posterior.noise(seed=0, stream=0, samples=samples)
    z = posterior.latents(eps)[:, 0, 0]
    return posterior.log_ratio(eps) - 0.5 * ((x - z) ** 2 / variance + math.log(2 * math.pi * variance))


def test_weights_of_a_linear_gaussian_model_in_closed_form() -> None:
    x, variance = 1.7, 0.4
    exact = 0.5 * (x**2 / (1 + variance) + math.log(2 * math.pi * (1 + variance)))
    true = gaussian_posterior(x / (1 + variance), math.log(variance / (1 + variance)))
    other = gaussian_posterior(0.6, math.log(0.5))

    for k in (1, 10, 500):
        assert importance_nll(gaussian_weights(true, x, variance, 500), k) == pytest.approx(exact, rel=1e-5)
    weights = gaussian_weights(other, x, variance, 100_000)
    bounds = [importance_nll(weights, k) for k in (1, 10, 100_000)]
    assert bounds[0] > bounds[1] + 0.01 > bounds[2]
    assert bounds[2] == pytest.approx(exact, abs=0.02)


@torch.no_grad()
def test_importance_weighting_reaches_the_integral_over_z() -> None:
    """One latent unit, integrated on a grid by torch alone."""
    model = make_text_vae(latent=1, seed=3).double().eval()
    model.initial.weight.mul_(8)
    posteriors = encode_sentences(model, SENTENCES)
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)

    found = importance_bounds(model, posteriors, seed=0, samples=(15_000,))[15_000]

    for sentence, value in zip(SENTENCES, found, strict=True):
        tokens = pad_batch([sentence]).expand(len(grid), -1)
        z = grid[:, None, None].expand(-1, tokens.shape[1] - 1, -1)
        log_p = functional.log_softmax(model.output(model.decode(tokens[:, :-1], z)), dim=2)
        joint = log_p.gather(2, tokens[:, 1:, None]).sum((1, 2)) - 0.5 * (grid**2 + math.log(2 * math.pi))
        assert value == pytest.approx(-float(torch.logsumexp(joint + math.log(16 / 800), 0)), abs=0.03)


@pytest.mark.parametrize("mode", ["last", "per-step"])
def test_more_samples_never_give_more_in_any_sentence(mode: str) -> None:
    model = make_text_vae(mode=mode)
    posteriors = encode_sentences(model, SENTENCES)

    found = importance_bounds(model, posteriors, seed=0, samples=(1, 10, 200))

    assert np.all(found[200] <= found[10])
    assert np.all(found[10] <= found[1])


def test_groups_are_averaged_after_the_logarithm() -> None:
    weights = torch.tensor([0.0, math.log(3), math.log(2), math.log(6)])

    assert importance_nll(weights, 4) == pytest.approx(-math.log(3))
    assert importance_nll(weights, 2) == pytest.approx(-(math.log(2) + math.log(4)) / 2)


# reconstruction and KL


@pytest.mark.parametrize("mode", ["last", "per-step"])
@torch.no_grad()
def test_columns_agree_with_the_model_s_own_losses(mode: str) -> None:
    model = make_text_vae(mode=mode)
    model.logvar.weight.zero_()
    model.logvar.bias.fill_(-60)  # a sample is the mean
    model.eval()
    losses = model.losses(pad_batch(SENTENCES))

    honest = evaluate_honest(model, SENTENCES, importance_sentences=2)
    paper = evaluate_paper(model, SENTENCES)

    expected = float(losses.reconstruction().mean())
    assert honest.reconstruction == pytest.approx(expected, rel=1e-5)
    assert paper.reconstruction == pytest.approx(expected, rel=1e-5)
    assert honest.kl == pytest.approx(float(losses.kl_driving(mode).mean()), rel=1e-5)
    assert paper.kl == pytest.approx(float(losses.kl_mean().mean()), rel=1e-5)
    assert honest.elbo.nll == pytest.approx(honest.reconstruction + honest.kl)
    assert honest.tokens == pytest.approx(sum(len(sentence) + 1 for sentence in SENTENCES) / 5)
    assert paper.tokens == honest.tokens + 1
    assert honest.kl_end == pytest.approx(float(losses.kl_last().mean()), rel=1e-5)
    assert honest.elbo.perplexity == pytest.approx(math.exp(honest.elbo.nll / honest.tokens))


def test_a_sampled_z_moves_by_its_standard_deviation() -> None:
    posterior = Posterior(3, (4,), torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, -2.0]]), "last")

    z = posterior.latents(posterior.noise(seed=1, stream=0, samples=20_000))[:, 0]

    assert z.mean(0).tolist() == pytest.approx([1.0, -2.0], abs=0.03)
    assert z.std(0).tolist() == pytest.approx([1.0, math.exp(-1)], rel=0.03)


@pytest.mark.parametrize("mode", ["last", "per-step"])
def test_the_divergence_is_its_monte_carlo_estimate(mode: str) -> None:
    with torch.no_grad():
        model = make_text_vae(mode=mode)
        model.mu.bias.fill_(1.5)
    for posterior in encode_sentences(model, SENTENCES[:2]):
        eps = posterior.noise(seed=0, stream=7, samples=100_000)

        assert -float(posterior.log_ratio(eps).mean()) == pytest.approx(posterior.kl(), rel=0.01)


def test_per_step_bounds_take_every_latent_but_the_last() -> None:
    posterior = encode_sentences(make_text_vae(mode="per-step"), SENTENCES)[2]

    assert posterior.driving()[0].shape == (6, 3)
    assert posterior.kl() == pytest.approx(float(posterior.kl_steps()[:-1].sum()))
    assert encode_sentences(make_text_vae(), SENTENCES)[2].kl() == pytest.approx(float(posterior.kl_steps()[-1]))


def test_the_curve_averages_over_sentences_that_have_the_step() -> None:
    parts = [encode_sentences(make_text_vae(), [sentence])[0] for sentence in ((4, 5), (6, 7, 8))]

    curve, counts = mean_kl_steps(parts)

    assert counts == (2, 2, 2, 2, 1)
    assert curve[1] == pytest.approx(float(parts[0].kl_steps()[1] + parts[1].kl_steps()[1]) / 2)
    assert curve[4] == pytest.approx(float(parts[1].kl_steps()[4]))


# what must not matter


@pytest.mark.parametrize("mode", ["last", "per-step"])
def test_no_figure_depends_on_the_size_of_batches(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sentences = make_text_vae(mode=mode), random_sentences(70)
    before = evaluate_honest(model, sentences, importance_sentences=3), evaluate_paper(model, sentences)
    monkeypatch.setattr(posteriors_module, "STEPS", 37)
    monkeypatch.setattr(output_module, "_CACHED", 50)  # four words' scores at once

    after = evaluate_honest(model, sentences, importance_sentences=3), evaluate_paper(model, sentences)

    for one, other in zip(before, after, strict=True):
        assert flat(one.to_json()) == pytest.approx(flat(other.to_json()), rel=1e-5, abs=1e-5)


def flat(values: object) -> list[float]:
    if isinstance(values, dict):
        return [number for value in values.values() for number in flat(value)]
    if isinstance(values, list | tuple):
        return [number for value in values for number in flat(value)]
    return [float(values)]  # type: ignore[arg-type]


def test_the_seed_decides_and_the_model_is_left_as_it_was() -> None:
    model = make_text_vae().train()
    first, again, other = (evaluate_honest(model, SENTENCES, seed=seed, importance_sentences=3) for seed in (4, 4, 5))

    assert first == again
    assert first.elbo.nll != other.elbo.nll
    assert model.training


def test_batches_stay_under_the_bound_and_hold_every_sentence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posteriors_module, "STEPS", 30)
    lengths = [5, 40, 3, 3, 9, 9, 9, 1]

    batches = list(length_batches(lengths))

    assert sorted(place for batch in batches for place in batch) == list(range(8))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 30


def test_a_subset_estimates_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sentences = make_text_vae(), random_sentences(60)
    with torch.no_grad():
        model.mu.weight.mul_(4)

    whole = evaluate_honest(model, sentences, importance_sentences=60)
    parts = [evaluate_honest(model, sentences, importance_sentences=15, seed=seed) for seed in range(12)]

    bounds = importance_bounds(model, encode_sentences(model, sentences), seed=0)
    every, single = bounds[500], bounds[1]
    assert whole.importance[500].nll == pytest.approx(whole.elbo.nll - (single - every).mean())
    tight = whole.bounds - (single - every)
    assert whole.importance[500].standard_error == pytest.approx(tight.std(ddof=1) / math.sqrt(60))
    found = np.array([part.importance[500].nll for part in parts])
    assert found.mean() == pytest.approx(every.mean(), abs=3 * found.std(ddof=1) / math.sqrt(12))
    assert found.std() < every.std() / math.sqrt(15) / 2  # far closer than the subset's own mean would be


@pytest.mark.parametrize("drawn", [40, 100])
def test_the_error_of_a_weighted_subset_is_its_spread_over_splits(drawn: int) -> None:
    """4,000 splits of 100 sentences, gains larger where likelihoods are, and each split's own places drawn."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        gain = rng.gamma(4, 3, 100)
        single = 100 + 2 * gain + rng.normal(0, 4, 100)
        bound, places = single + rng.normal(0, 1, 100), rng.choice(100, drawn, replace=False)
        tighter = single - gain
        found.append(estimate_tighter(bound, places.tolist(), single[places], tighter[places], tokens=20.0))

    spread = np.var([each.nll for each in found])
    assert np.mean([each.standard_error**2 for each in found]) == pytest.approx(spread, rel=0.08)
    assert np.mean([each.nll for each in found]) == pytest.approx(112, abs=0.05)


@pytest.mark.parametrize("draws", [DRAWS, (50, 500)])
def test_no_bound_is_looser_with_more_draws(draws: tuple[int, ...]) -> None:
    """A collapsed posterior gains nothing: what one draw of z adds to -ELBO is not taken for a gain, or for a loss."""
    model, sentences = make_text_vae(), random_sentences(60)
    with torch.no_grad():
        for layer in (model.mu, model.logvar):
            layer.weight.mul_(0.01)

    for seed in range(5):
        found = evaluate_honest(SoftwareSide(model, draws), sentences, importance_sentences=6, seed=seed)
        assert tuple(found.importance) == draws
        bounds = [found.elbo.nll, *(each.nll for each in found.importance.values())]
        assert bounds == sorted(bounds, reverse=True)


def test_places_can_be_drawn_as_sentences_can() -> None:
    assert choose(range(100), 5, 3) == choose(list(range(100)), 5, 3)
    assert choose(range(3), 5, 0) == [0, 1, 2]


# information


@pytest.mark.parametrize("count", [2, 64, 700])
def test_separate_posteriors_reach_the_ceiling_and_equal_ones_give_nothing(count: int) -> None:
    mu = 100.0 * torch.arange(count)[:, None].double()
    logvar = torch.zeros(count, 1)

    assert mutual_information(mu + 0.3, mu, logvar) == pytest.approx(math.log(count))
    assert mutual_information(torch.randn(count, 1), 0 * mu, logvar) == pytest.approx(0, abs=1e-12)


def test_information_of_two_overlapping_kinds_of_sentence() -> None:
    """Half the posteriors are N(-1, 1), half N(1, 1): I = H(mixture) - H(N(0, 1)), on a grid."""
    count, rng = 3000, np.random.default_rng(0)
    mu = torch.tensor([-1.0, 1.0]).repeat(count // 2)[:, None]
    z = mu + torch.from_numpy(rng.standard_normal((count, 1)))
    grid = np.linspace(-12, 12, 4801)
    mixture = sum(np.exp(-0.5 * (grid - m) ** 2) for m in (-1, 1)) / (2 * math.sqrt(2 * math.pi))
    expected = -np.sum(mixture * np.log(mixture)) * (grid[1] - grid[0]) - 0.5 * math.log(2 * math.pi * math.e)

    assert mutual_information(z, mu, torch.zeros(count, 1)) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_no_information_passes_its_ceiling(scale: float) -> None:
    model, sentences = sharpen(make_text_vae(), scale), random_sentences(200)

    honest, paper = evaluate_honest(model, sentences, importance_sentences=2), evaluate_paper(model, sentences)

    assert honest.mutual_information <= honest.ceiling + 1e-9
    assert paper.mutual_information <= paper.ceiling + 1e-9 <= math.log(64) + 2e-9


def test_the_ceiling_is_reached_where_no_two_sentences_share_a_latent() -> None:
    model, sentences = sharpen(make_text_vae()), sorted(set(random_sentences(400)))[:128]

    assert evaluate_paper(model, sentences).mutual_information == pytest.approx(math.log(64), abs=1e-6)
    honest = evaluate_honest(model, sentences, importance_sentences=2)
    assert honest.mutual_information == pytest.approx(math.log(128), abs=1e-6)


def test_units_are_active_above_a_variance_of_one_hundredth() -> None:
    rng = np.random.default_rng(0)
    scales = np.sqrt([0.0, 0.005, 0.02, 1.0])

    assert active_units(torch.from_numpy(5 + scales * rng.standard_normal((2000, 4)))) == 2


# a plain language model


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_nll(model: TextVae, sentence: Sentence) -> float:
    """Return -log p of the words and `<eos>` of a plain lstm model by numpy alone (gates i, f, g, o)."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    h = c = np.zeros(model.config.hidden_sizes[-1])
    nll = 0.0
    for read, said in zip((SOS, *sentence), (*sentence, EOS), strict=True):
        given = weights["decoder.weight_ih_l0"] @ weights["decoder_embedding.weight"][read]
        own = weights["decoder.weight_hh_l0"] @ h
        i, f, g, o = np.split(given + own + weights["decoder.bias_ih_l0"] + weights["decoder.bias_hh_l0"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        scores = weights["output.weight"] @ h + weights["output.bias"]
        nll += math.log(np.exp(scores).sum()) - scores[said]
    return nll


def test_a_plain_model_has_an_exact_likelihood() -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        vocabulary_size=12, embedding=5, hidden=7, latent=3, latent_mode="none", embedding_dropout=0.4, word_dropout=0.3
    )
    model = TextVae(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)

    found = evaluate_plain(model, SENTENCES)

    expected = np.array([lstm_nll(model, sentence) for sentence in SENTENCES])
    words = sum(len(sentence) + 1 for sentence in SENTENCES)
    assert found.nll == pytest.approx(expected.mean(), rel=1e-5)
    assert found.standard_error == pytest.approx(expected.std(ddof=1) / math.sqrt(5), rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(expected.sum() / words), rel=1e-5)
    assert found.tokens == pytest.approx(words / 5)
    assert model.training
