"""A posterior mean with batch normalisation of fixed scale."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.training.objectives.base import Objective, Option, Weights

_MOMENTUM = 0.1  # of running statistics, as torch's
_EPSILON = 1e-5  # added to the variance, as torch's


class LastNorm(nn.Module):
    """Normalises means (B, T, L) by the statistics of the last tokens' over the batch: gamma (mu - m) / s + beta.

    gamma is fixed, beta is learned. In evaluation m and s^2 are running ones: the mean over the first batches, then one
    that forgets. Variances are biased, so that a batch of one sentence has one.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, latent: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.beta = nn.Parameter(torch.zeros(latent))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_var", torch.ones(latent))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, mu: Tensor, last: Tensor) -> Tensor:
        """Return normalised means; `last` says where each sentence's last token stands, (B, 1, L)."""
        mean, variance = self.running_mean, self.running_var
        if self.training:
            drawn = mu.gather(1, last)[:, 0]
            mean, variance = drawn.mean(0), drawn.var(0, unbiased=False)
            self.batches += 1
            share = max(_MOMENTUM, 1 / float(self.batches))
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach(), share)
        return self.gamma * (mu - mean) * torch.rsqrt(variance + _EPSILON) + self.beta


class BatchNorm(Objective):
    """The ELBO, with batch normalisation of the last token's mean: its KL cannot vanish.

    Zhu, Bi, Liu, Ma, Li & Wu 2020, A Batch Normalized Inference Network Keeps the KL Vanishing Away, ACL,
    arXiv:2004.12585: the expected KL is at least L gamma^2 / 2. The finished model is an ordinary one: running
    statistics are folded into the layer of mu.
    """

    name = "bn"
    options: ClassVar[Mapping[str, Option]] = {"gamma": Option(0.6, "fixed scale of the normalised mean", least=1e-3)}
    latent_modes: ClassVar[tuple[str, ...]] = ("last",)
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 10.0}

    def prepare(self, model: TextVae) -> None:
        """Put the normalisation behind the layer of mu."""
        model.mu_norm = LastNorm(model.config.latent, self.values["gamma"])

    def exported(self, weights: Weights) -> Weights:
        """Fold the normalisation into weight and bias of mu."""
        parts = {name: weights[f"mu_norm.{name}"].double() for name in ("running_mean", "running_var", "beta")}
        scale = self.values["gamma"] * torch.rsqrt(parts["running_var"] + _EPSILON)
        weight, bias = weights["mu.weight"].double(), weights["mu.bias"].double()
        folded = {
            "mu.weight": (scale[:, None] * weight).float(),
            "mu.bias": (scale * (bias - parts["running_mean"]) + parts["beta"]).float(),
        }
        kept = {name: value for name, value in weights.items() if not name.startswith("mu_norm.")}
        return kept | folded
