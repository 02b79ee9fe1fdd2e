"""How much the latent says about the sentence. Shapes: `N` sentences, `L` latent, `k` samples."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_mnn.model.posteriors import Posterior

ACTIVE_VARIANCE = 0.01
"""A unit is active if its posterior mean varies more than this over sentences (Burda et al. 2016)."""
_ROWS = 512  # rows of the N x N table of densities held at once; chosen


def mutual_information(z: Tensor, mu: Tensor, logvar: Tensor) -> float:
    """Estimate I(x; z) under the aggregate posterior of N sentences, nats.

    mean_n [log q(z_n | x_n) - log (1/N) sum_m q(z_n | x_m)], z_n drawn from q(z | x_n) (Hoffman & Johnson
    2016). The sum holds the term m = n, so no sample can pass ln N: a value near ln N says that N was
    too small to tell more, not how much the latent holds.

    Args:
        z: One draw from each posterior, (N, L).
        mu: Posterior means, (N, L).
        logvar: Posterior log variances, (N, L).
    """
    z, mu, logvar = z.double(), mu.double(), logvar.double()
    total = 0.0
    for start in range(0, len(z), _ROWS):
        own = torch.arange(start, min(start + _ROWS, len(z)))
        density = _log_density(z[own], mu, logvar)
        mixture = density.logsumexp(1) - math.log(len(z))
        total += float((density[torch.arange(len(own)), own] - mixture).sum())
    return total / len(z)


def active_units(mu: Tensor) -> int:
    """Count the units whose posterior mean (N, L) varies by more than 0.01 over sentences (Burda et al. 2016)."""
    return int((mu.double().var(0) > ACTIVE_VARIANCE).sum())


def importance_nll(log_weights: Tensor, samples: int) -> float:
    """Return the importance-weighted bound on -log p(x), nats: never below it in expectation.

    -log (1/k) sum_i p(x | z_i) p(z_i) / q(z_i | x) (Burda et al. 2016), averaged over the groups of k that
    the weights (a multiple of k) fall into. From the same weights a larger k never gives more.
    """
    groups = log_weights.double().reshape(-1, samples)
    return float(math.log(samples) - groups.logsumexp(1).mean())


def log_prior_ratio(posterior: Posterior, eps: Tensor) -> Tensor:
    """Return log p(z) - log q(z | x) of z = mu + exp(logvar / 2) eps, summed over driving latents, (k,)."""
    logvar = posterior.driving()[1].double()
    z, eps = posterior.latents(eps).double(), eps.double()
    return 0.5 * (eps.square() + logvar - z.square()).sum((1, 2))


def mean_kl_steps(posteriors: Sequence[Posterior]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the mean KL at each step over the sentences that have it, nats, and how many have it."""
    longest = max(len(posterior.mu) for posterior in posteriors)
    sums = torch.zeros(longest, dtype=torch.float64)
    counts = torch.zeros(longest, dtype=torch.int64)
    for posterior in posteriors:
        sums[: len(posterior.mu)] += posterior.kl_steps()
        counts[: len(posterior.mu)] += 1
    return tuple((sums / counts).tolist()), tuple(counts.tolist())


def _log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(z_n; mu_m, exp(logvar_m)) less its constant, (n, m)."""
    total = torch.zeros(len(z), len(mu), dtype=z.dtype)
    for unit in range(z.shape[1]):
        distance = z[:, unit, None] - mu[None, :, unit]
        total -= 0.5 * (distance.square() * torch.exp(-logvar[:, unit]) + logvar[:, unit])
    return total
