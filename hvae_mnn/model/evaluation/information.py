"""How much the latent says about the sentence. Shapes: `N` sentences, `L` latent, `k` samples."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_mnn.model.evaluation.posterior_kinds import FlowPosterior, Posterior
from hvae_mnn.model.network.planar import planar_inverse

ACTIVE_VARIANCE = 0.01
"""A unit is active if its posterior mean varies more than this over sentences (Burda et al. 2016)."""
_ROWS = 512  # rows of the N x N table of densities held at once; chosen
_FLOW_ROWS = 16  # the same where each density needs arrays of width L


def posterior_information(posteriors: Sequence[Posterior], seed: int, stream: int) -> float:
    """Estimate I(x; z) of the last latent that drives the decoder, whose number is the same in all sentences.

    Args:
        posteriors: Of sentences of one model.
        seed: Seed of the draws of z.
        stream: Stream of the draws of z.
    """
    draws = torch.stack([posterior.latents(posterior.noise(seed, stream))[0, -1] for posterior in posteriors])
    means, logvars = (torch.stack([posterior.driving()[part][-1] for posterior in posteriors]) for part in (0, 1))
    flows = [posterior.flow[-1] for posterior in posteriors if isinstance(posterior, FlowPosterior)]
    return mutual_information(draws, means, logvars, torch.stack(flows) if flows else None)


def mutual_information(z: Tensor, mu: Tensor, logvar: Tensor, flow: Tensor | None = None) -> float:
    """Estimate I(x; z) under the aggregate posterior of N sentences, nats.

    mean_n [log q(z_n | x_n) - log (1/N) sum_m q(z_n | x_m)], z_n drawn from q(z | x_n) (Hoffman & Johnson
    2016). The sum holds the term m = n, so no sample can pass ln N: a value near ln N says that N was
    too small to tell more, not how much the latent holds.

    Args:
        z: One draw from each posterior, (N, L).
        mu: Posterior means, (N, L).
        logvar: Posterior log variances, (N, L).
        flow: Parameters of planar flows behind these Gaussians, (N, parameters), if there are any.
    """
    z, mu, logvar = z.double(), mu.double(), logvar.double()
    total = 0.0
    rows = _ROWS if flow is None else _FLOW_ROWS
    for start in range(0, len(z), rows):
        own = torch.arange(start, min(start + rows, len(z)))
        density = _log_density(z[own], mu, logvar) if flow is None else _flow_density(z[own], mu, logvar, flow.double())
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


def mean_kl_steps(posteriors: Sequence[Posterior]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the mean KL at each step over the sentences that have it, nats, and how many have it."""
    steps = [posterior.kl_steps() for posterior in posteriors]
    longest = max(len(each) for each in steps)
    sums = torch.zeros(longest, dtype=torch.float64)
    counts = torch.zeros(longest, dtype=torch.int64)
    for each in steps:
        sums[: len(each)] += each
        counts[: len(each)] += 1
    return tuple((sums / counts).tolist()), tuple(counts.tolist())


def _log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(z_n; mu_m, exp(logvar_m)) less its constant, (n, m)."""
    total = torch.zeros(len(z), len(mu), dtype=z.dtype)
    for unit in range(z.shape[1]):
        distance = z[:, unit, None] - mu[None, :, unit]
        total -= 0.5 * (distance.square() * torch.exp(-logvar[:, unit]) + logvar[:, unit])
    return total


def _flow_density(z: Tensor, mu: Tensor, logvar: Tensor, flow: Tensor) -> Tensor:
    """Return log q(z_n | x_m) of Gaussians behind flows less its constant, (n, m)."""
    pairs = z[:, None].expand(-1, len(mu), -1)
    start, log_det = planar_inverse(pairs, flow.expand(len(z), -1, -1))
    distance = (start - mu).square() * torch.exp(-logvar)
    return -0.5 * (distance + logvar).sum(2) - log_det
