"""Take the units that carry nothing out of a model, and say what that saves on hardware and costs in likelihood."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.calibrate import calibrated, check_words, choose_sentences
from hvae_mnn.compiler.estimate import estimate_build
from hvae_mnn.errors import ArtifactError, CorpusError, UserError
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hvae_mnn.model.corpus import Corpus, Sentence, choose, load_corpus
from hvae_mnn.model.information import ACTIVE_VARIANCE
from hvae_mnn.model.layers import LAYERS
from hvae_mnn.model.measures import measure_all
from hvae_mnn.model.posteriors import encode_sentences, reconstruction
from hvae_mnn.model.pruning import Kept, check_prunable, choose_units, hidden_activity, latent_moments, prune_units
from hvae_mnn.progress import Progress

Array = NDArray[np.float64]

THRESHOLD = ACTIVE_VARIANCE
"""Variance of the posterior mean above which a unit of z is active (Burda et al. 2016)."""
HIDDEN_THRESHOLD = 1e-4
"""Largest variance of a hidden unit that is taken for its mean; chosen: 1 % of its range, rms."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model has, and its crossbars on some hardware.

    Attributes:
        latent: Units of z.
        hidden: Units of encoder 1, encoder 2 and decoder.
        columns: Columns of all gate units.
        tiles: Tiles, a deck each.
        adcs: ADCs, one a bit line of each tile.
        memristors: Memristors.
    """

    latent: int
    hidden: tuple[int, ...]
    columns: int
    tiles: int
    adcs: int
    memristors: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The honest bound on a test split, nats a sentence.

    Attributes:
        nll: Reconstruction at a sampled z, and the KL of the driving latents in full.
        reconstruction: The first of the two.
        kl: The second.
        standard_error: Standard error of `nll`.
    """

    nll: float
    reconstruction: float
    kl: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What pruning changed.

    Attributes:
        corpus: Name of the corpus.
        threshold: Variance of the posterior mean above which a unit of z is active.
        hidden_threshold: Largest variance of a hidden unit that goes.
        seed: Seed of every draw.
        hardware_name: Hardware that crossbars are counted on.
        before: The model as it was.
        after: The model as it is.
        bound_before: Its bound as it was.
        bound_after: Its bound as it is, with the same noise in the units that stay.
        change: Bound after less before, nats a sentence.
        change_error: Standard error of the change.
        test_sentences: Sentences that bounds are means of.
    """

    corpus: str
    threshold: float
    hidden_threshold: float
    seed: int
    hardware_name: str
    before: ModelSize
    after: ModelSize
    bound_before: Bound
    bound_after: Bound
    change: float
    change_error: float
    test_sentences: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def prune_model(
    checkpoint: Checkpoint,
    corpus: str | Path,
    out: Path,
    hardware: HardwareConfig,
    hardware_name: str,
    *,
    threshold: float = THRESHOLD,
    hidden_threshold: float = HIDDEN_THRESHOLD,
    sentences: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> PruneReport:
    """Write a model without its inactive units, calibrated anew.

    Units of z are judged on the validation split, hidden units on the training sentences that calibration draws, and
    the bound on the test split, all with the model as it was.

    Args:
        checkpoint: The model.
        corpus: `grammar`, or a folder with three splits.
        out: The file to write.
        hardware: Hardware to count crossbars on.
        hardware_name: What the report calls it.
        threshold: Variance of the posterior mean above which a unit of z is active.
        hidden_threshold: Largest variance of a hidden unit that goes.
        sentences: Training sentences to draw, at most all.
        seed: Seed of every draw.
        progress: Called with a stage, what is done and what there is.

    Raises:
        ArtifactError: `out` is something else than a model.
        CorpusError: The corpus is missing, too small, or in other words than the model's.
        CheckpointError: The model is a plain language model, has weights besides those that are known, or cannot be
            written.
    """
    check_prunable(checkpoint)
    check_model_file(out)
    size = _size(checkpoint, hardware)
    text, longest = load_corpus(corpus, vocabulary=checkpoint.vocabulary), checkpoint.config.max_length
    _check_corpus(text)
    count = max(1, min(sentences, sum(len(ids) <= longest for ids in text.train)))
    train, _ = choose_sentences(text, longest, count, seed)
    new, kept = _prune(checkpoint, text, choose(train, count, seed), threshold, hidden_threshold, seed, progress)
    new = calibrated(new, text.name, train, count, seed, progress)
    before = _bounds(checkpoint, text.test, seed)
    after = _bounds(new, text.test, seed, kept.latent, checkpoint.config.latent)
    change = (after - before).sum(0)
    report = PruneReport(
        corpus=text.name,
        threshold=threshold,
        hidden_threshold=hidden_threshold,
        seed=seed,
        hardware_name=hardware_name,
        before=size,
        after=_size(new, hardware),
        bound_before=_bound(before),
        bound_after=_bound(after),
        change=float(change.mean()),
        change_error=float(change.std(ddof=1)) / math.sqrt(len(change)),
        test_sentences=len(text.test),
    )
    save_checkpoint(replace(new, metrics=measure_all(new.build_model(), text.test, seed=seed)), out)
    return report


def check_model_file(out: Path) -> None:
    """Refuse to overwrite what is not a model.

    Raises:
        ArtifactError: It is a folder, or a file that holds something else.
    """
    if out.is_dir():
        raise ArtifactError(f"{out}: is a folder; expected the name of a file. Choose another --out")
    if not out.exists():
        return
    try:
        load_checkpoint(out)
    except UserError:
        raise ArtifactError(
            f"{out}: the file holds something else than a model, which would be lost; choose another --out"
        ) from None


def _check_corpus(text: Corpus) -> None:
    """Refuse a corpus in other words than the model's, or with too few sentences for a variance."""
    check_words(text)
    for split, found in (("validation", text.valid), ("test", text.test)):
        if len(found) < 2:
            raise CorpusError(
                f"corpus {text.name!r} has {len(found)} {split} sentence; expected at least 2 for a variance. Add some."
            )


def _prune(
    checkpoint: Checkpoint,
    text: Corpus,
    train: Sequence[Sentence],
    threshold: float,
    hidden_threshold: float,
    seed: int,
    progress: Progress | None,
) -> tuple[Checkpoint, Kept]:
    """Return the model without its inactive units, and which units stay."""
    model = checkpoint.build_model()
    activity = hidden_activity(model, train, seed=seed, progress=progress)
    mean, variance = latent_moments(model, text.valid)
    kept = choose_units(checkpoint, variance, activity, threshold, hidden_threshold)
    new = prune_units(checkpoint, kept, activity, mean)
    widths = ", ".join(f"{layer} {len(kept.hidden[layer])}" for layer in LAYERS)
    note = (
        f"latent {len(kept.latent)} of {checkpoint.config.latent}, {widths}; variances above {threshold:g} (z) and "
        f"{hidden_threshold:g} (hidden), {text.name}, seed {seed}; of {checkpoint.content_hash()[:12]}"
    )
    return replace(new, provenance={**new.provenance, "pruned": note}), kept


def _bounds(
    checkpoint: Checkpoint,
    sentences: Sequence[Sentence],
    seed: int,
    units: NDArray[np.intp] | None = None,
    latent: int | None = None,
) -> Array:
    """Return reconstruction and KL of each sentence, nats, (2, sentences).

    Noise is drawn for all units of the model as it was (`latent`), of which `units` stay.
    """
    model = checkpoint.build_model()
    posteriors = encode_sentences(model, sentences)
    latents = []
    for posterior in posteriors:
        rng = np.random.default_rng([seed, posterior.place])
        steps, width = posterior.driving()[0].shape
        eps = rng.standard_normal((1, steps, latent or width), dtype=np.float32)
        noise = posterior.mu.new_tensor(eps if units is None else eps[:, :, units])
        latents.append(posterior.latents(noise)[0])
    costs = reconstruction(model, sentences, latents).numpy()
    return np.stack([costs, [posterior.kl() for posterior in posteriors]])


def _bound(parts: Array) -> Bound:
    values, (costs, kl) = parts.sum(0), parts.mean(1)
    return Bound(float(values.mean()), float(costs), float(kl), float(values.std(ddof=1)) / math.sqrt(len(values)))


def _size(checkpoint: Checkpoint, hardware: HardwareConfig) -> ModelSize:
    found, config = estimate_build(checkpoint, hardware), checkpoint.config
    return ModelSize(config.latent, config.hidden_sizes, found.columns, found.tiles, found.adcs, found.memristors)
