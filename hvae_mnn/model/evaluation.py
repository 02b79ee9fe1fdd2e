"""What a trained model is worth on a test split, by the `paper` and the `honest` protocol.

All likelihoods are nats a sentence. docs/evaluation.md has the equations and their sources.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.corpus import Sentence, Vocabulary, choose
from hvae_mnn.model.estimates import count_tokens, estimate_mean, estimate_tighter, not_finite
from hvae_mnn.model.gaps import Gap, Gaps, check_gaussian, measure_gaps, weigh_draws
from hvae_mnn.model.generation import interpolate, speak_prior
from hvae_mnn.model.information import (
    active_units,
    importance_nll,
    mean_kl_steps,
    posterior_information,
)
from hvae_mnn.model.posteriors import Posterior, Report, reconstruction
from hvae_mnn.model.protocols import (
    BATCH,
    Estimate,
    Evaluation,
    HonestColumn,
    Measured,
    PaperColumn,
    published_row,
)
from hvae_mnn.model.quality import evaluate_quality
from hvae_mnn.model.sides import DRAWS, Side, SoftwareSide, as_side
from hvae_mnn.model.splits import PLAIN, ReadSplit, check_plain, read_split
from hvae_mnn.model.vae import TextVae

_BOUND, _IMPORTANCE, _PRIOR, _INFORMATION, _BATCH_INFORMATION, _QUALITY, _GAPS = range(7)  # streams of noise
_CURVED = ("encoder", "svi")  # posteriors that have a KL at more than the last token

Progress = Callable[[str, int, int], None]


class _Settings(TypedDict):
    seed: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        limit: Sentences of the split, drawn by the seed; all of it if not given.
        importance: Sentences, of these, that importance weighting is computed on.
        draws: Draws of z that it is averaged over, rising; the largest is a multiple of the others.
        rebuilt: Sentences, of these, that are decoded freely.
        samples: Sentences to say from the prior.
        points: Points of an interpolation between two sentences; none if 0.
        gaps: Sentences that the inference gaps are measured on; not at all if 0.
    """

    limit: int | None = None
    importance: int = 200
    draws: tuple[int, ...] = DRAWS
    rebuilt: int = 1000
    samples: int = 0
    points: int = 0
    gaps: int = 0


@dataclass(frozen=True, slots=True)
class Hardware:
    """Hardware that is measured beside the software model.

    Attributes:
        side: It encodes and decodes.
        name: What the result calls it.
    """

    side: Side
    name: str


def _say_nothing(stage: str, done: int, total: int) -> None:
    """Stand in for a progress bar."""


def evaluate(
    checkpoint: Checkpoint,
    corpus: str | Path,
    *,
    name: str,
    language_model: Checkpoint | None = None,
    seed: int = 0,
    extent: Extent = Extent(),
    hardware: Hardware | None = None,
    progress: Progress = _say_nothing,
) -> Evaluation:
    """Measure a model on a corpus's test split by both protocols.

    Args:
        checkpoint: The model.
        corpus: `grammar`, or a folder with a test split.
        name: What the result calls the model.
        language_model: A plain language model of the same words to stand beside it.
        seed: Seed of all noise and of the sentences drawn.
        extent: How much is measured.
        hardware: The model on hardware, measured in the same way; software then counts in float64, and an `svi`
            posterior is the encoder's own on both sides.
        progress: Called with the stage, what is done and what there is.

    Raises:
        CorpusError: The split cannot be read, has fewer than two sentences, or none of its words is known.
        CheckpointError: The language model is none, or knows other words; the model gives no finite number, or has not
            what samples, an interpolation or gaps need.
    """
    _check_askable(checkpoint.config, extent)
    if language_model is not None:
        check_plain(checkpoint, language_model)
    split = read_split(checkpoint.vocabulary, corpus, extent.limit, seed)
    config, published = checkpoint.config, published_row(split.texts)
    plain = checkpoint if config.latent_mode == PLAIN else language_model
    found = Evaluation(name, split.corpus, len(split.sentences), config.latent_mode, seed, published=published)
    found = replace(found, posterior=config.posterior)
    costs = None if plain is None else plain_costs(plain.build_model(), split.sentences)
    if costs is not None:
        found = replace(found, plain=estimate_mean(costs, count_tokens(split.sentences)))
    if plain is checkpoint:
        return found
    model = checkpoint.build_model() if hardware is None else _as_on_circuit(checkpoint).build_model().double()
    software, settings = SoftwareSide(model, extent.draws), _Settings(seed=seed, progress=progress)
    found = _evaluate_sides(found, checkpoint.vocabulary, split, software, hardware, extent, settings)
    if costs is None or found.software is None:
        return found
    return replace(found, over_plain=Gap.of(found.software.honest.bounds - costs))


def _check_askable(config: ModelConfig, extent: Extent) -> None:
    """Refuse at once what a model cannot be asked for."""
    if extent.samples or extent.points or extent.gaps:
        config.check_has_latent()
    if extent.gaps:
        check_gaussian(config)


def _as_on_circuit(checkpoint: Checkpoint) -> Checkpoint:
    """Return what a circuit runs of a model: of an `svi` posterior the encoder alone, whose weights are the same."""
    if checkpoint.config.posterior != "svi":
        return checkpoint
    config = replace(checkpoint.config, posterior="encoder", posterior_steps=0, posterior_rate=0.0)
    return replace(checkpoint, config=config)


def _evaluate_sides(
    found: Evaluation,
    vocabulary: Vocabulary,
    split: ReadSplit,
    software: SoftwareSide,
    hardware: Hardware | None,
    extent: Extent,
    settings: _Settings,
) -> Evaluation:
    """Add what software and hardware make of a test split."""
    ours = software.encode(split.sentences)
    found = replace(found, software=_measure(software, vocabulary, split, ours, extent, settings))
    circuit = None
    if hardware is not None:
        theirs = hardware.side.encode(split.sentences)
        told = _Settings(seed=settings["seed"], progress=_prefixed(settings["progress"], "hardware: "))
        measured = _measure(hardware.side, vocabulary, split, theirs, extent, told)
        found = replace(found, hardware=measured, hardware_name=hardware.name)
        circuit = hardware.side, theirs
    return replace(found, gaps=_gaps(software, ours, circuit, extent, settings)) if extent.gaps else found


def _measure(
    side: Side,
    vocabulary: Vocabulary,
    split: ReadSplit,
    posteriors: Sequence[Posterior],
    extent: Extent,
    settings: _Settings,
) -> Measured:
    seed, report = settings["seed"], _stage(settings["progress"], "reconstructed freely")
    ends = choose(posteriors, 2, seed)
    return Measured(
        paper=evaluate_paper(side, split.again, split.again_unknown, **settings),
        honest=evaluate_honest(
            side,
            split.sentences,
            split.unknown,
            posteriors=posteriors,
            importance_sentences=extent.importance,
            **settings,
        ),
        quality=evaluate_quality(side, choose(posteriors, extent.rebuilt, seed), seed, _QUALITY, report),
        samples=speak_prior(side, vocabulary, extent.samples, seed) if extent.samples else (),
        interpolation=interpolate(side, vocabulary, ends, extent.points) if extent.points else None,
    )


def _gaps(
    software: SoftwareSide,
    ours: Sequence[Posterior],
    circuit: tuple[Side, Sequence[Posterior]] | None,
    extent: Extent,
    settings: _Settings,
) -> Gaps:
    places = choose(range(len(ours)), extent.gaps, settings["seed"])
    some = [ours[place] for place in places]
    if circuit is not None:
        circuit = circuit[0], [circuit[1][place] for place in places]
    report = _stage(settings["progress"], "inference gaps: best posteriors")
    return measure_gaps(SoftwareSide(software.model), some, settings["seed"], _GAPS, circuit, report)


def plain_costs(model: TextVae, sentences: Sequence[Sentence]) -> NDArray[np.float64]:
    """Return -log p(x) of each sentence under a plain language model, nats: exact, with nothing to integrate over."""
    nothing = torch.zeros(1, 0, dtype=model.output.weight.dtype)
    costs: NDArray[np.float64] = reconstruction(model, sentences, [nothing] * len(sentences)).numpy()
    return costs


def evaluate_plain(model: TextVae, sentences: Sequence[Sentence]) -> Estimate:
    """Measure a plain language model: its NLL is exact, there is nothing to integrate over."""
    return estimate_mean(plain_costs(model, sentences), count_tokens(sentences))


def evaluate_paper(
    model: TextVae | Side,
    sentences: Sequence[Sentence],
    unknown: float = 0.0,
    *,
    seed: int = 0,
    progress: Progress = _say_nothing,
) -> PaperColumn:
    """Measure by the `paper` protocol.

    Args:
        model: The model, or what stands in for it.
        sentences: The words of each, split again.
        unknown: Share of unknown words, for the result.
        seed: Seed of the draws of z for the MI.
        progress: Called with the stage, what is done and what there is.
    """
    side = as_side(model)
    posteriors = side.encode(sentences)
    means = [posterior.centre() for posterior in posteriors]
    costs = _costs(side, posteriors, means, _stage(progress, "paper: reconstruction"))
    kl = [float(posterior.kl_steps().sum()) / len(posterior.mu) for posterior in posteriors]
    ordered = sorted(posteriors, key=lambda posterior: len(posterior.ids))
    batches = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    information = [len(batch) * posterior_information(batch, seed, _BATCH_INFORMATION) for batch in batches]
    return PaperColumn(
        tokens=float(np.mean([len(sentence) + 2 for sentence in sentences])),
        unknown=unknown,
        reconstruction=float(costs.mean()),
        kl=float(np.mean(kl)),
        mutual_information=sum(information) / len(sentences),
        ceiling=math.log(min(BATCH, len(sentences))),
    )


def evaluate_honest(
    model: TextVae | Side,
    sentences: Sequence[Sentence],
    unknown: float = 0.0,
    *,
    seed: int = 0,
    importance_sentences: int = 200,
    posteriors: Sequence[Posterior] | None = None,
    progress: Progress = _say_nothing,
) -> HonestColumn:
    """Measure by the `honest` protocol.

    The arguments are those of `evaluate_paper`, with the words as they are in the file; importance weighting is
    computed on `importance_sentences` of them, drawn by the seed. `posteriors` are the sentences' where they have
    been encoded already.
    """
    side = as_side(model)
    posteriors = posteriors or side.encode(sentences)
    tokens = count_tokens(sentences)
    kl = np.array([posterior.kl() for posterior in posteriors])
    costs, prior = _likelihoods(side, posteriors, seed, progress)
    drawn = choose(range(len(posteriors)), importance_sentences, seed)
    some = [posteriors[place] for place in drawn]
    weighted = importance_bounds(side, some, seed, progress, sorted({1, *side.draws}))
    curve, counts = mean_kl_steps(posteriors) if side.config.posterior in _CURVED else ((), ())
    return HonestColumn(
        tokens=tokens,
        unknown=unknown,
        reconstruction=float(costs.mean()),
        kl=float(kl.mean()),
        elbo=estimate_mean(costs + kl, tokens),
        importance={k: estimate_tighter(costs + kl, drawn, weighted[1], weighted[k], tokens) for k in side.draws},
        importance_sentences=len(drawn),
        prior=estimate_mean(prior, tokens),
        mutual_information=posterior_information(posteriors, seed, _INFORMATION),
        ceiling=math.log(len(posteriors)),
        active_units=active_units(torch.stack([posterior.centre()[-1] for posterior in posteriors])),
        latent=side.config.latent,
        kl_steps=curve,
        kl_counts=counts,
        kl_end=float(torch.stack([posterior.kl_steps()[-1] for posterior in posteriors]).mean()),
        bounds=costs + kl,
        kl_first=2 if side.config.prior == "learned" else 1,
    )


def importance_bounds(
    model: TextVae | Side,
    posteriors: Sequence[Posterior],
    seed: int,
    progress: Progress = _say_nothing,
    samples: Sequence[int] | None = None,
) -> dict[int, NDArray[np.float64]]:
    """Return the importance-weighted bound on -log p(x) of each sentence, nats, for each number of samples.

    All come from the same draws of z, so that a larger number gives no more in any sentence. Without `samples` it
    is the side's own `draws`.
    """
    side = as_side(model)
    samples = side.draws if samples is None else samples
    found: dict[int, list[float]] = {k: [] for k in samples}
    report = _stage(progress, "honest: importance weighting")
    for done, posterior in enumerate(posteriors, start=1):
        log_weights = weigh_draws(side, posterior, posterior.noise(seed, _IMPORTANCE, max(samples)))
        for k in samples:
            found[k].append(importance_nll(log_weights, k))
        report(done, len(posteriors))
    return {k: np.array(values) for k, values in found.items()}


def _likelihoods(
    side: Side, posteriors: Sequence[Posterior], seed: int, progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return -log p(x | z) of each sentence with z from its posterior, and with z from the prior."""
    from_posterior = [posterior.latents(posterior.noise(seed, _BOUND))[0] for posterior in posteriors]
    from_prior = [posterior.prior_latents(posterior.noise(seed, _PRIOR))[0] for posterior in posteriors]
    return (
        _costs(side, posteriors, from_posterior, _stage(progress, "honest: reconstruction")),
        _costs(side, posteriors, from_prior, _stage(progress, "honest: z from the prior")),
    )


def _costs(
    side: Side, posteriors: Sequence[Posterior], latents: Sequence[Tensor], report: Report
) -> NDArray[np.float64]:
    costs = side.costs([each.ids for each in posteriors], latents, report)
    if not np.all(np.isfinite(costs)):
        raise not_finite(float(costs[~np.isfinite(costs)][0]))
    return costs


def _stage(progress: Progress, stage: str) -> Report:
    return lambda done, total: progress(stage, done, total)


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda stage, done, total: progress(f"{prefix}{stage}", done, total)
