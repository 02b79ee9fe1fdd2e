"""Gradient steps on a posterior, by closed form: their size, what of a gradient is clipped, and the KL's weight."""

import math

import pytest
import torch
from torch import Tensor

from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.network.batches import pad_batch
from hvae_mnn.model.network.refinement import refine
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.training.objectives import find_objective

LARGEST = 5.0  # norm of a sentence's gradient (Kim et al. 2018)


@pytest.mark.parametrize("training", [True, False])
def test_a_steep_sentence_takes_a_step_of_the_largest_norm_and_a_flat_one_its_own(training: bool) -> None:
    slopes = torch.tensor([[300.0, -400.0], [0.3, -0.4]])
    mu, logvar = torch.tensor([[0.5, -1.0], [0.5, -1.0]]), torch.full((2, 2), -40.0)  # no noise

    found, spread = refine(lambda z: (slopes * z).sum(1), mu, logvar, steps=1, rate=0.1, kl_weight=0, training=training)

    torch.testing.assert_close(found[0] - mu[0], -0.1 * LARGEST * torch.tensor([0.6, -0.8]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[1] - mu[1], -0.1 * slopes[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(spread, logvar, atol=1e-4, rtol=0)


def test_the_norm_that_is_clipped_is_of_mean_and_log_variance_together() -> None:
    """Without a cost the gradient is the KL's: mu, and (exp(logvar) - 1) / 2."""
    mu, logvar = torch.tensor([[3.0, 0.0]]), torch.tensor([[math.log(9.0), 0.0]])

    found, spread = refine(lambda z: 0 * z.sum(1), mu, logvar, steps=1, rate=0.2)
    whole, _ = refine(lambda z: 0 * z.sum(1), mu, torch.zeros(1, 2), steps=1, rate=0.2)

    torch.testing.assert_close(found[0, 0], torch.tensor(3 - 0.2 * 5 * 3 / 5))  # 3, 4: a norm of 5
    torch.testing.assert_close(spread[0, 0], torch.tensor(math.log(9.0) - 0.2 * 5 * 4 / 5))
    torch.testing.assert_close(whole[0, 0], torch.tensor(3 - 0.2 * 3))
    twice, wide = refine(lambda z: 0 * z.sum(1), mu, logvar, steps=1, rate=0.2, kl_weight=2)
    torch.testing.assert_close((twice, wide), (found, spread))  # 6, 8, shrunk to 5


def refined_model(rate: float) -> TextVae:
    torch.manual_seed(0)
    config = ModelConfig(
        vocabulary_size=12, embedding=8, hidden=7, latent=3, posterior="svi", posterior_steps=1, posterior_rate=rate
    )
    return TextVae(config).double()


def test_refinement_weighs_the_kl_as_training_does() -> None:
    """One step moves mu by -rate mu and logvar by -rate (exp(logvar) - 1) / 2 for each unit of the KL's weight."""
    model, rate = refined_model(0.1).eval(), 0.1
    tokens = pad_batch([(4, 5, 6), (7, 8, 9, 10)])
    with torch.no_grad():
        mu, logvar = (part[torch.arange(2), [4, 5]] for part in model.encode(tokens))

    def last(weight: float) -> tuple[Tensor, Tensor]:
        belief = model.infer(tokens, weight)
        return belief.mu[torch.arange(2), [4, 5]], belief.logvar[torch.arange(2), [4, 5]]

    with torch.no_grad():
        free, charged = last(0.0), last(0.4)

    torch.testing.assert_close(charged[0] - free[0], -rate * 0.4 * mu)
    torch.testing.assert_close(charged[1] - free[1], -rate * 0.4 * (logvar.exp() - 1) / 2)


def test_the_loss_of_sa_is_at_the_posterior_that_its_weight_leads_to() -> None:
    objective = find_objective("sa")({"steps": 1.0, "rate": 0.5}, 0.0)
    model = refined_model(0.5).eval()
    tokens = pad_batch([(4, 5, 6), (7, 8, 9, 10)])

    def loss(weight: float) -> float:
        torch.manual_seed(1)
        return float(objective.loss(model, tokens, weight).detach())

    torch.manual_seed(1)
    with torch.no_grad():
        parts = model.losses(tokens, kl_weight=0.0)
    assert loss(0.0) == pytest.approx(float(parts.reconstruction().mean()))
    torch.manual_seed(1)
    with torch.no_grad():
        parts = model.losses(tokens, kl_weight=0.5)
    assert loss(0.5) == pytest.approx(float((parts.reconstruction() + 0.5 * parts.kl_last()).mean()))
