"""Inference gaps: what the family of posteriors costs, and what the encoder adds (Cremer, Li & Duvenaud 2018).

L[q] is the ELBO with posterior q, q* the diagonal Gaussian that has the largest for a sentence.

    approximation gap = log p(x) - L[q*]        amortisation gap = L[q*] - L[q of the encoder]

Shapes: `N` sentences, `S` latents that drive the decoder, `L` latent, `k` draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.evaluation.posteriors import SCORES, Posterior, Report
from hvae_mnn.model.evaluation.sides import Side, SoftwareSide
from hvae_mnn.model.network.vae import TextVae, kl_divergence, pad_batch
from hvae_mnn.model.text.corpus import PAD, Sentence

Array = NDArray[np.float64]
LogLikelihood = Callable[[Tensor], Tensor]
"""Takes z, (k, N, S, L), and returns log p(x_n | z), (k, N)."""

STEPS, DRAWS, RATE = 300, 4, 0.1
"""Steps of Adam, draws of z a step and step size at the start, which falls to 0 as half a cosine. Chosen: on the
shipped models of the grammar and of the Penn Treebank twice as many steps and draws raise L[q*] by 0.1 nats."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A mean over sentences, nats.

    Attributes:
        value: The mean.
        standard_error: Its standard error.
    """

    value: float
    standard_error: float

    @classmethod
    def of(cls, values: Array) -> "Gap":
        """Return the mean of one value a sentence."""
        return cls(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))


@dataclass(frozen=True, slots=True)
class DecoderGaps:
    """The gaps with one decoder.

    Attributes:
        draws: Draws of z from q* that log p(x) is estimated with. ELBOs are means over as many; with hardware beside
            software, over the first ones, as many as hardware has, so that they compare.
        log_p: Importance-weighted estimate of log p(x) with q*, a lower bound in expectation.
        best: L[q*].
        encoded: L[q], q of the encoder that belongs to this decoder.
        approximation: log_p - best.
        amortisation: best - encoded.
    """

    draws: int
    log_p: Gap
    best: Gap
    encoded: Gap
    approximation: Gap
    amortisation: Gap


@dataclass(frozen=True, slots=True)
class Gaps:
    """Inference gaps before and after mapping onto hardware.

    Attributes:
        sentences: Sentences measured.
        software: Software's encoder and decoder.
        crossed: L[q], q of hardware's encoder, with software's decoder; nothing without hardware.
        encoder_cost: L[q] of software's encoder less that of hardware's, both with software's decoder.
        hardware: Hardware's encoder and decoder; q* is software's, as a circuit has no gradient.
    """

    sentences: int
    software: DecoderGaps
    crossed: Gap | None = None
    encoder_cost: Gap | None = None
    hardware: DecoderGaps | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return asdict(self)


def check_gaussian(config: ModelConfig) -> None:
    """Refuse a model whose inference gaps are not defined here.

    Raises:
        CheckpointError: The posterior is no Gaussian, or the prior another than N(0, 1).
    """
    if config.posterior == "flow" or config.prior == "learned":
        found = "posterior 'flow'" if config.posterior == "flow" else "prior 'learned'"
        raise CheckpointError(
            f"the model has {found}; expected a diagonal Gaussian posterior and the prior N(0, 1) to measure inference "
            "gaps. Leave --gaps out."
        )


def fit_gaussians(
    log_likelihood: LogLikelihood, mu: Tensor, logvar: Tensor, *, seed: int = 0, steps: int = STEPS, draws: int = DRAWS
) -> tuple[Tensor, Tensor]:
    """Return mean and log variance of the diagonal Gaussians that have the largest ELBO under a prior of N(0, 1).

    Adam on both, by the gradient of log p(x given mu + exp(logvar / 2) eps) less the KL in closed form. What is
    returned is the mean of the parameters over the last quarter of the steps (Polyak & Juditsky 1992).

    Args:
        log_likelihood: Differentiable log p(x | z) of all sentences.
        mu: Means to begin with, (N, S, L).
        logvar: Log variances to begin with, (N, S, L).
        seed: Seed of eps.
        steps: Steps of Adam.
        draws: Draws of eps a step.
    """
    generator = torch.Generator().manual_seed(seed)
    mu, logvar = (value.detach().clone().requires_grad_() for value in (mu, logvar))
    adam = torch.optim.Adam([mu, logvar], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    kept, last = [torch.zeros_like(mu), torch.zeros_like(mu)], max(1, steps // 4)
    for step in range(steps):
        eps = torch.randn((draws, *mu.shape), generator=generator, dtype=mu.dtype)
        bound = log_likelihood(mu + torch.exp(logvar / 2) * eps).mean(0) - kl_divergence(mu, logvar).sum(1)
        adam.zero_grad()
        (-bound.sum()).backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
        if step >= steps - last:
            for total, value in zip(kept, (mu, logvar), strict=True):
                total += value.detach() / last
    return kept[0], kept[1]


def best_posteriors(
    model: TextVae, posteriors: Sequence[Posterior], *, seed: int = 0, report: Report | None = None
) -> list[Posterior]:
    """Return the sentences' posteriors with the driving latents exchanged for q*, found on the model's decoder.

    The encoder's are where the search begins. The model's parameters are left as they are.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    found: dict[int, Posterior] = {}
    model.requires_grad_(False)
    try:
        for places in _batches(posteriors, model.config.vocabulary_size):
            some = [posteriors[place] for place in places]
            mu, logvar = (_padded([posterior.driving()[part] for posterior in some]) for part in (0, 1))
            likelihood = _likelihood(model, [posterior.ids for posterior in some])
            mu, logvar = fit_gaussians(likelihood, mu, logvar, seed=seed)
            for place, own_mu, own_logvar in zip(places, mu, logvar, strict=True):
                found[place] = _exchanged(posteriors[place], own_mu, own_logvar)
            if report is not None:
                report(len(found), len(posteriors))
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
    return [found[place] for place in range(len(posteriors))]


def weigh_draws(side: Side, posterior: Posterior, eps: Tensor) -> Tensor:
    """Return log p(x | z) p(z) / q(z | x) of each z = mu + exp(logvar / 2) eps, (k,), nats."""
    costs = side.costs([posterior.ids] * len(eps), list(posterior.latents(eps)))
    return posterior.log_ratio(eps) - torch.from_numpy(costs)


def measure_gaps(
    software: SoftwareSide,
    encoded: Sequence[Posterior],
    seed: int,
    stream: int,
    hardware: tuple[Side, Sequence[Posterior]] | None = None,
    report: Report | None = None,
) -> Gaps:
    """Measure the inference gaps of some sentences.

    All ELBOs of a sentence are taken with the same eps.

    Args:
        software: The software model.
        encoded: What its encoder makes of them.
        seed: Seed of eps.
        stream: Stream of eps.
        hardware: Hardware, and what its encoder makes of them.
        report: Called with sentences done and all sentences while q* is sought.

    Raises:
        CheckpointError: As `check_gaussian`.
    """
    check_gaussian(software.config)
    best = best_posteriors(software.model, encoded, seed=seed, report=report)

    def weigh(side: Side, posteriors: Sequence[Posterior]) -> list[Tensor]:
        draws = max(side.draws)
        return [weigh_draws(side, each, each.noise(seed, stream, draws)) for each in posteriors]

    ours = weigh(software, encoded)
    common = max(software.draws) if hardware is None else min(max(software.draws), max(hardware[0].draws))
    found = Gaps(len(encoded), _gaps(weigh(software, best), ours, common))
    if hardware is None:
        return found
    circuit, read = hardware
    crossed = _bounds(weigh(software, read), common)
    return replace(
        found,
        crossed=Gap.of(crossed),
        encoder_cost=Gap.of(_bounds(ours, common) - crossed),
        hardware=_gaps(weigh(circuit, best), weigh(circuit, read), common),
    )


def _gaps(best: Sequence[Tensor], encoded: Sequence[Tensor], common: int) -> DecoderGaps:
    """Return the gaps from log weights under q* and under the encoder's q; ELBOs are means of the first `common`."""
    log_p = np.array([float(weights.logsumexp(0)) - math.log(len(weights)) for weights in best])
    bound, own = _bounds(best, common), _bounds(encoded, common)
    figures = (Gap.of(values) for values in (log_p, bound, own, log_p - bound, bound - own))
    return DecoderGaps(len(best[0]), *figures)


def _bounds(weights: Sequence[Tensor], common: int) -> Array:
    return np.array([float(each[:common].mean()) for each in weights])


def _batches(posteriors: Sequence[Posterior], vocabulary: int) -> list[list[int]]:
    """Put sentences of like length together, so many that word scores and their gradients stay in bounds."""
    most = max(1, 4 * SCORES // (vocabulary * DRAWS))  # predicted words of a batch
    batches: list[list[int]] = [[]]
    for place in sorted(range(len(posteriors)), key=lambda each: len(posteriors[each].ids)):
        if batches[-1] and (len(posteriors[place].ids) + 1) * (len(batches[-1]) + 1) > most:
            batches.append([])
        batches[-1].append(place)
    return batches


def _likelihood(model: TextVae, sentences: Sequence[Sentence]) -> LogLikelihood:
    """Return log p(x | z) of some sentences under the model's decoder, teacher-forced and without dropout."""
    tokens = pad_batch(sentences)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    predicted = targets != PAD

    def score(z: Tensor) -> Tensor:
        draws, count = z.shape[:2]
        steps = z.flatten(0, 1).expand(-1, inputs.shape[1], -1)
        hidden = model.decode(inputs.repeat(draws, 1), steps)
        told = predicted.repeat(draws, 1)
        costs = nn.functional.cross_entropy(
            model.output(hidden[told]), targets.repeat(draws, 1)[told], reduction="none"
        )
        sums = torch.zeros(draws * count, dtype=costs.dtype).index_add(0, told.nonzero()[:, 0], costs)
        return -sums.reshape(draws, count)

    return score


def _padded(values: Sequence[Tensor]) -> Tensor:
    """Join (S, L) of several lengths, with zeros at the end: there q is the prior, and no gradient moves it."""
    return nn.utils.rnn.pad_sequence(list(values), batch_first=True)


def _exchanged(posterior: Posterior, mu: Tensor, logvar: Tensor) -> Posterior:
    """Return a posterior with other driving latents, of (S, L) and padding."""
    steps, last = len(posterior.driving()[0]), posterior.latent_mode == "last"

    def join(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old[:-1], new[:steps]] if last else [new[:steps], old[-1:]])

    return replace(posterior, mu=join(posterior.mu, mu), logvar=join(posterior.logvar, logvar))
