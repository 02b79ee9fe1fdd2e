"""What a model says of itself: from z drawn from the prior, and on the way from one sentence to another."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.evaluation.posteriors import Posterior
from hvae_mnn.model.evaluation.sampling import say_from_prior
from hvae_mnn.model.evaluation.sides import Side, SoftwareSide
from hvae_mnn.model.text.corpus import Vocabulary


@dataclass(frozen=True, slots=True)
class Interpolation:
    """Sentences on the straight line between two posterior means.

    Attributes:
        first: The test sentence at its beginning, as the model reads it.
        last: The one at its end.
        said: What is said in even steps, both ends included.
    """

    first: str
    last: str
    said: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the sentences as plain values."""
        return asdict(self)


def prior_latents(config: ModelConfig, count: int, seed: int) -> list[Tensor]:
    """Draw latents from N(0, 1): (1, L) each for `last`, as many as the longest sentence has steps for `per-step`."""
    steps = 1 if config.latent_mode == "last" else config.max_length
    rng = np.random.default_rng([seed, count])
    return list(torch.from_numpy(rng.standard_normal((count, steps, config.latent), dtype=np.float32)))


def speak_prior(side: Side, vocabulary: Vocabulary, count: int, seed: int) -> tuple[str, ...]:
    """Return sentences that the model says greedily from z drawn from the prior."""
    drawn = prior_latents(side.config, count, seed)
    if isinstance(side, SoftwareSide):  # its prior may be a learned one
        eps = torch.stack(drawn).to(side.model.output.weight.dtype)
        return tuple(vocabulary.decode(ids) for ids in say_from_prior(side.model, eps))
    return _texts(side, vocabulary, drawn)


def interpolate(side: Side, vocabulary: Vocabulary, posteriors: Sequence[Posterior], count: int) -> Interpolation:
    """Return sentences said greedily at `count` points from the mean of the first of two posteriors to the second's.

    On the straight line, ends included (the homotopies of Bowman et al.: Generating Sentences from a Continuous
    Space. CoNLL 2016); in `per-step`, past the end of the shorter sentence, from its last latent.
    """
    first, last = (posterior.centre() for posterior in posteriors)
    longest = max(len(first), len(last))
    first, last = (torch.cat([z, z[-1:].expand(longest - len(z), -1)]) for z in (first, last))
    points = [first + (last - first) * share for share in np.linspace(0, 1, count)]
    one, other = (vocabulary.decode(posterior.ids) for posterior in posteriors)
    return Interpolation(one, other, _texts(side, vocabulary, points))


def _texts(side: Side, vocabulary: Vocabulary, latents: Sequence[Tensor]) -> tuple[str, ...]:
    return tuple(vocabulary.decode(ids) for ids in side.speak(latents))
