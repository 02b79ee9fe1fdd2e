"""Latents found by gradient steps for each sentence: SVI, a fitted Gaussian, Langevin dynamics.

Every sentence's steps depend on it alone, whatever it shares a batch with: gradients are clipped by sentence, and
outside training the noise is fixed, the same for all. Shapes: `B` sentences, `L` latent.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hvae_mnn.model.network.losses import kl_divergence

FIT_STEPS = 60
"""Steps that fit a Gaussian where there is no encoder. Chosen: more gain little."""
_FIT_RATE = 0.1  # Adam's step size in a fit; chosen
_FIT_LOGVAR = -2.0  # where the fit starts; chosen
_CLIP = 5.0  # largest norm of a sentence's gradient (Kim et al. 2018)

Cost = Callable[[Tensor], Tensor]
"""-log p(x | z) of each sentence, (B,), from z (B, L)."""


def refine(
    cost: Cost, mu: Tensor, logvar: Tensor, *, steps: int, rate: float, kl_weight: float = 1.0, training: bool = False
) -> tuple[Tensor, Tensor]:
    """Lower -ELBO by gradient steps on mu and logvar, (B, L) each (stochastic variational inference).

    Args:
        cost: The decoder.
        mu: Where to start.
        logvar: Where to start.
        steps: How many steps.
        rate: Their size.
        kl_weight: Weight of the KL.
        training: Draw fresh noise, and keep the steps differentiable in where they started and in the decoder.
    """
    if not training:
        mu, logvar = mu.detach(), logvar.detach()
    with torch.enable_grad():
        for step in range(steps):
            if not mu.requires_grad:
                mu.requires_grad_()
            if not logvar.requires_grad:
                logvar.requires_grad_()
            loss = cost(mu + torch.exp(logvar / 2) * _noise(mu, step, training)) + kl_weight * kl_divergence(mu, logvar)
            slopes = torch.autograd.grad(loss.sum(), (mu, logvar), create_graph=training)
            shrink = _shrinking(slopes)
            mu, logvar = mu - rate * shrink * slopes[0], logvar - rate * shrink * slopes[1]
            if not training:
                mu, logvar = mu.detach(), logvar.detach()
    return mu, logvar


def fit_gaussian(cost: Cost, mu: Tensor, steps: int = FIT_STEPS) -> tuple[Tensor, Tensor]:
    """Fit N(mu, exp(logvar)) to the posterior by Adam on -ELBO with fixed noise, from mu (B, L) on."""
    mu = mu.detach().clone().requires_grad_()
    logvar = torch.full_like(mu, _FIT_LOGVAR).requires_grad_()
    optimiser = torch.optim.Adam([mu, logvar], lr=_FIT_RATE)
    with torch.enable_grad():
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = _FIT_RATE * (1 - step / steps)
            loss = cost(mu + torch.exp(logvar / 2) * _noise(mu, step, False)) + kl_divergence(mu, logvar)
            mu.grad, logvar.grad = torch.autograd.grad(loss.sum(), (mu, logvar))
            optimiser.step()
    return mu.detach(), logvar.detach()


def langevin(cost: Cost, z: Tensor, *, steps: int, size: float, training: bool = False) -> Tensor:
    """Run Langevin dynamics on p(z | x) under the prior N(0, 1), (B, L), from z on.

    z' = z - (size^2 / 2) grad [-log p(x | z) + |z|^2 / 2] + size eps: eq. 8 of Nijkamp et al. 2020.
    """
    for step in range(steps):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad((cost(z) + 0.5 * z.square().sum(1)).sum(), z)
        z = z.detach() - size**2 / 2 * slope + size * _noise(z, step, training)
    return z.detach()


def start_from_prior(like: Tensor, training: bool) -> Tensor:
    """Draw where Langevin dynamics starts, of the shape of a tensor (B, L)."""
    return _noise(like, -1, training).expand(like.shape).clone()


def _noise(like: Tensor, step: int, training: bool) -> Tensor:
    """Standard normal numbers: new ones in training, (B, L), else those of a step, (1, L)."""
    if training:
        return torch.randn(like.shape, dtype=like.dtype)
    generator = torch.Generator().manual_seed(step + 1)
    return torch.randn((1, like.shape[1]), generator=generator, dtype=torch.float64).to(like.dtype)


def _shrinking(slopes: tuple[Tensor, ...]) -> Tensor:
    """Return by what each sentence's gradient is multiplied so that its norm is at most `_CLIP`, (B, 1)."""
    norm: Tensor = torch.linalg.vector_norm(torch.cat(slopes, dim=1), dim=1, keepdim=True)
    return (norm.detach() / _CLIP).clamp_min(1).reciprocal()
