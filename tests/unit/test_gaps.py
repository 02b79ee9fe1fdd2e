"""Inference gaps where log p(x) and the best Gaussian are known in closed form, and on small models."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from making import make_checkpoint, random_sentences

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.evaluation import evaluate as evaluation
from hvae_mnn.model.evaluation import gaps as module
from hvae_mnn.model.evaluation.evaluate import Extent
from hvae_mnn.model.evaluation.gaps import best_posteriors, fit_gaussians, measure_gaps
from hvae_mnn.model.evaluation.posteriors import Posterior, encode_sentences
from hvae_mnn.model.evaluation.sides import SoftwareSide
from hvae_mnn.model.network.vae import TextVae

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = random_sentences(12, seed=4, vocabulary_size=9)
NOISE = 2.0


def linear_gaussian(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return W (X, L) and sentences x (N, X) of x | z ~ N(W z, 2): with z ~ N(0, 1) all is Gaussian."""
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.normal(size=(5, 3)))
    x = torch.from_numpy(rng.normal(size=(7, 3))) @ weight.T + math.sqrt(NOISE) * torch.from_numpy(
        rng.normal(size=(7, 5))
    )
    return weight, x


def test_the_best_gaussian_of_a_linear_model_is_the_closed_form() -> None:
    """The mean field of a Gaussian posterior: its mean, and the inverse of its precision's diagonal (Bishop 10.1.2)."""
    weight, x = linear_gaussian()
    precision = torch.eye(3, dtype=torch.float64) + weight.T @ weight / NOISE
    mean = torch.linalg.solve(precision, weight.T @ x.T / NOISE).T

    def likelihood(z: torch.Tensor) -> torch.Tensor:
        off = x - z[:, :, 0] @ weight.T
        return -0.5 * (off.square() / NOISE + math.log(2 * math.pi * NOISE)).sum(2)

    start = torch.zeros(7, 1, 3, dtype=torch.float64)
    mu, logvar = fit_gaussians(likelihood, start, start, seed=1, steps=600, draws=8)

    np.testing.assert_allclose(mu[:, 0], mean, atol=0.05)
    np.testing.assert_allclose(logvar[:, 0], -torch.log(torch.diagonal(precision)).expand(7, 3), atol=0.1)


class Linear:
    """Stands in for a model's side: the costs of the linear Gaussian model; a sentence's only word is its number."""

    draws = (500,)

    def __init__(self) -> None:
        self.weight, self.x = linear_gaussian()

    def costs(self, sentences: list, latents: list, report: object = None) -> np.ndarray:  # type: ignore[type-arg]
        z = torch.stack(list(latents))[:, 0]
        off = self.x[[ids[0] for ids in sentences]] - z @ self.weight.T
        return 0.5 * (off.square() / NOISE + math.log(2 * math.pi * NOISE)).sum(1).numpy()


def test_the_gaps_of_a_linear_model_are_those_of_the_closed_form() -> None:
    """log p(x) = log N(x; 0, W W' + 2); the approximation gap of the mean field is KL(q*, posterior), the same for
    every x, and a posterior at the prior has a gap of KL(prior, posterior) in all."""
    side = Linear()
    weight, x = side.weight, side.x
    precision = torch.eye(3, dtype=torch.float64) + weight.T @ weight / NOISE
    mean = torch.linalg.solve(precision, weight.T @ x.T / NOISE).T
    diagonal = torch.diagonal(precision)
    posterior = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    prior = torch.distributions.MultivariateNormal(torch.zeros_like(mean), torch.eye(3, dtype=torch.float64))
    marginal = torch.distributions.MultivariateNormal(
        torch.zeros(5, dtype=torch.float64), weight @ weight.T + NOISE * torch.eye(5, dtype=torch.float64)
    )
    logvar = -torch.log(diagonal)[None]
    best = [Posterior(n, (n,), mean[n : n + 1], logvar, "last") for n in range(7)]
    amortised = [Posterior(n, (n,), 0 * mean[n : n + 1], 0 * logvar, "last") for n in range(7)]

    def weigh(posteriors: list[Posterior]) -> list[torch.Tensor]:
        return [module.weigh_draws(side, each, each.noise(0, 0, 4000)) for each in posteriors]  # type: ignore[arg-type]

    found = module._gaps(weigh(best), weigh(amortised), 4000)

    field = torch.distributions.MultivariateNormal(mean, torch.diag(1 / diagonal))
    wanted = torch.distributions.kl_divergence(field, posterior)
    assert found.log_p.value == pytest.approx(float(marginal.log_prob(x).mean()), abs=0.05)
    assert found.approximation.value == pytest.approx(float(wanted.mean()), abs=0.1)
    whole = torch.distributions.kl_divergence(prior, posterior)
    assert found.amortisation.value == pytest.approx(float((whole - wanted).mean()), rel=0.05)
    assert found.draws == 4000


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_no_gap_of_a_small_model_is_negative(latent_mode: str) -> None:
    model = make_checkpoint(latent_mode=latent_mode).build_model().double()
    found = measure_gaps(SoftwareSide(model), encode_sentences(model, SENTENCES), seed=0, stream=0).software

    assert found.draws == 500
    for gap in (found.approximation, found.amortisation):
        assert gap.value >= -3 * gap.standard_error
    assert found.amortisation.value > 0.05  # an untrained encoder is far from the best
    assert found.log_p.value - found.best.value == pytest.approx(found.approximation.value)
    assert found.best.value - found.encoded.value == pytest.approx(found.amortisation.value)


def test_hardware_s_encoder_is_held_against_both_decoders() -> None:
    """Another model stands in for hardware: its q with its own decoder, and with software's."""
    models = [make_checkpoint(seed=seed).build_model().double() for seed in (0, 1)]
    (ours, theirs), (own, read) = map(SoftwareSide, models), (encode_sentences(each, SENTENCES) for each in models)
    found = measure_gaps(ours, own, 0, 0, (theirs, read))

    def bound(side: SoftwareSide, posteriors: list[Posterior]) -> float:
        return float(np.mean([module.weigh_draws(side, q, q.noise(0, 0, 500)).mean() for q in posteriors]))

    assert found.software.encoded.value == pytest.approx(bound(ours, own))
    assert found.crossed.value == pytest.approx(bound(ours, read))
    assert found.hardware.encoded.value == pytest.approx(bound(theirs, read))
    assert found.encoder_cost.value == pytest.approx(bound(ours, own) - bound(ours, read))
    assert abs(bound(ours, read) - bound(theirs, read)) > 0.01


@pytest.mark.parametrize("latent_mode", ["last", "per-step"])
def test_what_is_exchanged_is_the_driving_part_and_the_model_is_left_alone(latent_mode: str) -> None:
    model = make_checkpoint(latent_mode=latent_mode).build_model()
    encoded = encode_sentences(model, SENTENCES)
    best = best_posteriors(model, encoded)

    driving = slice(-1, None) if latent_mode == "last" else slice(None, -1)
    rest = slice(None, -1) if latent_mode == "last" else slice(-1, None)
    for old, new in zip(encoded, best, strict=True):
        assert (old.place, old.ids, old.mu.shape) == (new.place, new.ids, new.mu.shape)
        torch.testing.assert_close(new.mu[rest], old.mu[rest])
        assert (new.mu[driving] != old.mu[driving]).all()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_the_best_posterior_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the noise of the search."""
    model = make_checkpoint().build_model().double()
    encoded = encode_sentences(model, SENTENCES[:6])
    together = best_posteriors(model, encoded)
    monkeypatch.setattr(module, "SCORES", 0)
    alone = best_posteriors(model, encoded)

    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.mu, other.mu, atol=0.15, rtol=0.1)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ({"posterior": "flow", "posterior_steps": 2}, "posterior 'flow'"),
        ({"latent_mode": "per-step", "prior": "learned"}, "prior 'learned'"),
    ],
)
def test_posteriors_of_another_kind_are_refused(kind: dict[str, Any], found: str) -> None:
    model = TextVae(replace(make_checkpoint().config, **kind))
    with pytest.raises(CheckpointError, match=f"the model has {found}; expected a diagonal Gaussian"):
        measure_gaps(SoftwareSide(model), [], 0, 0)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ({"posterior": "flow", "posterior_steps": 2}, {"gaps": 2}),
        ({"latent_mode": "per-step", "prior": "learned"}, {"gaps": 2}),
        ({"latent_mode": "none"}, {"gaps": 2}),
        ({"latent_mode": "none"}, {"samples": 1}),
        ({"latent_mode": "none"}, {"points": 2}),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(
    kind: dict[str, Any], asked: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(make_checkpoint().config, **kind)
    weights = {name: value.numpy() for name, value in TextVae(config).state_dict().items()}
    checkpoint = Checkpoint(config, make_checkpoint().vocabulary, weights)
    monkeypatch.setattr(evaluation, "read_split", lambda *_: pytest.fail("read a corpus first"))
    with pytest.raises(CheckpointError, match=r"Leave --gaps out|plain language model"):
        evaluation.evaluate(checkpoint, "grammar", name="it", extent=Extent(**asked))
