"""What a trained model is worth on a test split, by the `paper` and the `honest` protocol.

All likelihoods are nats a sentence. docs/evaluation.md has the equations and their sources.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_mnn.errors import CheckpointError, CorpusError
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.corpus import Sentence, Text, Vocabulary, load_text
from hvae_mnn.model.information import (
    active_units,
    importance_nll,
    mean_kl_steps,
    posterior_information,
)
from hvae_mnn.model.measures import choose, evaluate_likelihood
from hvae_mnn.model.posteriors import Posterior, Report, encode_sentences, reconstruction
from hvae_mnn.model.protocols import (
    BATCH,
    Estimate,
    Evaluation,
    HonestColumn,
    PaperColumn,
    published_row,
    split_again,
    unknown_share,
)
from hvae_mnn.model.vae import TextVae

PLAIN = "none"
"""The latent mode of a plain language model: it has no encoder, and its NLL is exact."""
SAMPLES = (50, 500)
"""Draws of z an importance-weighted bound is averaged over; the largest is a multiple of the others."""
_BOUND, _IMPORTANCE, _PRIOR, _INFORMATION, _BATCH_INFORMATION = range(5)  # streams of noise

Progress = Callable[[str, int, int], None]


class _Settings(TypedDict):
    seed: int
    progress: Progress


def _say_nothing(stage: str, done: int, total: int) -> None:
    """Stand in for a progress bar."""


def evaluate(
    checkpoint: Checkpoint,
    corpus: str | Path,
    *,
    name: str,
    language_model: Checkpoint | None = None,
    seed: int = 0,
    importance_sentences: int = 200,
    progress: Progress = _say_nothing,
) -> Evaluation:
    """Measure a model on a corpus's test split by both protocols.

    Args:
        checkpoint: The model.
        corpus: `grammar`, or a folder with a test split.
        name: What the result calls the model.
        language_model: A plain language model of the same words to stand beside it.
        seed: Seed of all noise and of the sentences drawn for importance weighting.
        importance_sentences: How many sentences of the split importance weighting is computed on.
        progress: Called with the stage, what is done and what there is.

    Raises:
        CorpusError: The split cannot be read, has fewer than two sentences, or none of its words is known.
        CheckpointError: The language model is none, or knows other words; the model gives no finite number.
    """
    if language_model is not None:
        _check_plain(checkpoint, language_model)
    corpus_name, texts = load_text(corpus, "test")
    ids, unknown = _encode(checkpoint.vocabulary, texts, corpus_name)
    plain = checkpoint if checkpoint.config.latent_mode == PLAIN else language_model
    estimate = None if plain is None else evaluate_plain(plain.build_model(), ids)
    paper = honest = None
    if plain is not checkpoint:
        model, settings = checkpoint.build_model(), _Settings(seed=seed, progress=progress)
        again = [split_again(text) for text in texts]
        paper = evaluate_paper(model, *_encode(checkpoint.vocabulary, again, corpus_name), **settings)
        honest = evaluate_honest(model, ids, unknown, importance_sentences=importance_sentences, **settings)
    found = paper, honest, estimate, published_row(texts)
    return Evaluation(name, corpus_name, len(ids), checkpoint.config.latent_mode, seed, *found)


def evaluate_plain(model: TextVae, sentences: Sequence[Sentence]) -> Estimate:
    """Measure a plain language model: its NLL is exact, there is nothing to integrate over."""
    found = evaluate_likelihood(model, sentences)
    return _checked(Estimate(found.elbo_nll, found.standard_error, found.tokens / found.sentences))


def evaluate_paper(
    model: TextVae,
    sentences: Sequence[Sentence],
    unknown: float = 0.0,
    *,
    seed: int = 0,
    progress: Progress = _say_nothing,
) -> PaperColumn:
    """Measure by the `paper` protocol.

    Args:
        model: The model.
        sentences: The words of each, split again.
        unknown: Share of unknown words, for the result.
        seed: Seed of the draws of z for the MI.
        progress: Called with the stage, what is done and what there is.
    """
    posteriors = encode_sentences(model, sentences)
    means = [posterior.centre() for posterior in posteriors]
    costs = _costs(model, posteriors, means, _stage(progress, "paper: reconstruction"))
    kl = [float(posterior.kl_steps().mean()) for posterior in posteriors]
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
    model: TextVae,
    sentences: Sequence[Sentence],
    unknown: float = 0.0,
    *,
    seed: int = 0,
    importance_sentences: int = 200,
    progress: Progress = _say_nothing,
) -> HonestColumn:
    """Measure by the `honest` protocol.

    The arguments are those of `evaluate_paper`, with the words as they are in the file; importance weighting is
    computed on `importance_sentences` of them, drawn by the seed.
    """
    posteriors = encode_sentences(model, sentences)
    tokens = float(np.mean([len(sentence) + 1 for sentence in sentences]))
    kl = np.array([posterior.kl() for posterior in posteriors])
    costs, prior = _likelihoods(model, posteriors, seed, progress)
    drawn = choose(range(len(posteriors)), importance_sentences, seed)
    weighted = importance_bounds(model, [posteriors[place] for place in drawn], seed, progress)
    curve, counts = mean_kl_steps(posteriors)
    return HonestColumn(
        tokens=tokens,
        unknown=unknown,
        reconstruction=float(costs.mean()),
        kl=float(kl.mean()),
        elbo=_estimate(costs + kl, tokens),
        importance={k: _from_subset(costs + kl, drawn, values, tokens) for k, values in weighted.items()},
        importance_sentences=len(drawn),
        prior=_estimate(prior, tokens),
        mutual_information=posterior_information(posteriors, seed, _INFORMATION),
        ceiling=math.log(len(posteriors)),
        active_units=active_units(torch.stack([posterior.centre()[-1] for posterior in posteriors])),
        latent=model.config.latent,
        kl_steps=curve,
        kl_counts=counts,
        kl_end=float(torch.stack([posterior.kl_steps()[-1] for posterior in posteriors]).mean()),
    )


def importance_bounds(
    model: TextVae,
    posteriors: Sequence[Posterior],
    seed: int,
    progress: Progress = _say_nothing,
    samples: Sequence[int] = SAMPLES,
) -> dict[int, NDArray[np.float64]]:
    """Return the importance-weighted bound on -log p(x) of each sentence, nats, for each number of samples.

    All come from the same draws of z, so that a larger number gives no more in any sentence.
    """
    found: dict[int, list[float]] = {k: [] for k in samples}
    report = _stage(progress, "honest: importance weighting")
    for done, posterior in enumerate(posteriors, start=1):
        eps = posterior.noise(seed, _IMPORTANCE, max(samples))
        costs = reconstruction(model, [posterior.ids] * len(eps), list(posterior.latents(eps)))
        log_weights = posterior.log_ratio(eps) - costs
        for k in samples:
            found[k].append(importance_nll(log_weights, k))
        report(done, len(posteriors))
    return {k: np.array(values) for k, values in found.items()}


def _likelihoods(
    model: TextVae, posteriors: Sequence[Posterior], seed: int, progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return -log p(x | z) of each sentence with z from its posterior, and with z from the prior."""
    from_posterior = [posterior.latents(posterior.noise(seed, _BOUND))[0] for posterior in posteriors]
    from_prior = [posterior.prior_latents(posterior.noise(seed, _PRIOR))[0] for posterior in posteriors]
    return (
        _costs(model, posteriors, from_posterior, _stage(progress, "honest: reconstruction")),
        _costs(model, posteriors, from_prior, _stage(progress, "honest: z from the prior")),
    )


def _costs(
    model: TextVae, posteriors: Sequence[Posterior], latents: Sequence[Tensor], report: Report
) -> NDArray[np.float64]:
    costs: NDArray[np.float64] = reconstruction(model, [each.ids for each in posteriors], latents, report).numpy()
    if not np.all(np.isfinite(costs)):
        raise _not_finite(float(costs[~np.isfinite(costs)][0]))
    return costs


def _estimate(values: NDArray[np.float64], tokens: float) -> Estimate:
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _checked(Estimate(float(values.mean()), error, tokens))


def _from_subset(
    bound: NDArray[np.float64], drawn: Sequence[int], values: NDArray[np.float64], tokens: float
) -> Estimate:
    """Estimate the mean of a tighter bound over all sentences from its values on some.

    The difference estimator (Cochran 1977, section 7.10 with b = 1): the mean of the looser bound over all
    sentences, less the mean gain on those that were drawn. Gains spread far less than likelihoods.
    """
    gain = bound[list(drawn)] - values
    few = 1 / len(drawn) - 1 / len(bound)
    variance = float(values.var(ddof=1)) / len(bound) + few * float(gain.var(ddof=1))
    return _checked(Estimate(float(bound.mean() - gain.mean()), math.sqrt(variance), tokens))


def _checked(estimate: Estimate) -> Estimate:
    if not math.isfinite(estimate.nll) or not math.isfinite(estimate.perplexity):
        raise _not_finite(estimate.nll)
    return estimate


def _not_finite(nll: float) -> CheckpointError:
    return CheckpointError(
        f"the model gives the test split an NLL of {nll:.4g} nats a sentence; expected a finite number and a finite "
        "perplexity. Train the model again with a lower learning rate."
    )


def _stage(progress: Progress, stage: str) -> Report:
    return lambda done, total: progress(stage, done, total)


def _encode(vocabulary: Vocabulary, texts: Sequence[Text], corpus: str) -> tuple[list[Sentence], float]:
    encoded = [vocabulary.encode(" ".join(text)) for text in texts]
    if len(encoded) < 2:
        raise CorpusError(
            f"corpus {corpus!r} has 1 sentence in its test split; expected at least 2, for a standard error. Add some."
        )
    share = unknown_share(encoded)
    if share == 1:
        raise CorpusError(
            f"none of the words in corpus {corpus!r}'s test split is among the {len(vocabulary)} that the model "
            "knows; expected text of the kind it was trained on. Choose another corpus or model."
        )
    return [ids for ids, _ in encoded], share


def _check_plain(checkpoint: Checkpoint, language_model: Checkpoint) -> None:
    if checkpoint.config.latent_mode == PLAIN:
        raise CheckpointError(
            "the model is a plain language model itself; expected one with a latent to compare. "
            "Leave --language-model out."
        )
    if language_model.config.latent_mode != PLAIN:
        raise CheckpointError(
            f"the language model has latent mode {language_model.config.latent_mode!r}; expected {PLAIN!r}. "
            f"Train one with `hvae-mnn train --latent-mode {PLAIN}`."
        )
    if language_model.vocabulary.words != checkpoint.vocabulary.words:
        raise CheckpointError(
            f"the language model knows {len(language_model.vocabulary)} words and the model "
            f"{len(checkpoint.vocabulary)}, not the same ones; expected equal vocabularies, without which likelihoods "
            "do not compare. Train it on the model's corpus."
        )
