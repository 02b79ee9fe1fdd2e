"""Who encodes and decodes what is evaluated: the software model, or hardware in its place.

Shapes: `S` latents that drive the decoder (1 for `last`), `L` latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.evaluation.posteriors import (
    SCORES,
    Posterior,
    Report,
    encode_sentences,
    length_batches,
    reconstruction,
)
from hvae_mnn.model.network.batches import said_words
from hvae_mnn.model.network.vae import TextVae, best_token
from hvae_mnn.model.text.corpus import Sentence

Array = NDArray[np.float64]
Latents = Sequence[Tensor]
"""z of each sentence, (S, L)."""

DRAWS = (1, 5, 50, 500)
"""Draws of z that importance-weighted bounds are averaged over; the largest is a multiple of the others."""
_SPEAKING = 64  # sentences decoded freely at once; chosen


class Side(Protocol):
    """Encodes and decodes sentences, teacher-forced or freely; greedy words are never `<pad>` or `<sos>`."""

    @property
    def config(self) -> ModelConfig:
        """Sizes and wiring of the model."""

    @property
    def draws(self) -> tuple[int, ...]:
        """Draws of z that importance weighting is affordable with, rising; the largest is a multiple of the others."""

    def encode(self, sentences: Sequence[Sentence]) -> list[Posterior]:
        """Return the posterior of each sentence."""

    def costs(self, sentences: Sequence[Sentence], latents: Latents, report: Report | None = None) -> Array:
        """Return -log p(x | z) of each sentence, nats, from z of each, (1, L) or (S, L)."""

    def forced(self, sentences: Sequence[Sentence], latents: Latents) -> list[Sentence]:
        """Return the most likely word at the place of each word and of `<eos>`, given the true words before it."""

    def speak(self, latents: Latents, report: Report | None = None) -> list[Sentence]:
        """Return what is said from each z, (S, L), greedily until `<eos>`, past its end with its last step."""


@dataclass(frozen=True, slots=True)
class SoftwareSide:
    """The software model, in its own precision and without dropout.

    Attributes:
        model: The model.
        draws: Draws of z that importance-weighted bounds are averaged over.
    """

    model: TextVae
    draws: tuple[int, ...] = DRAWS

    @property
    def config(self) -> ModelConfig:
        """Sizes and wiring of the model."""
        return self.model.config

    def encode(self, sentences: Sequence[Sentence]) -> list[Posterior]:
        """Return the posterior of each sentence."""
        return encode_sentences(self.model, sentences)

    def costs(self, sentences: Sequence[Sentence], latents: Latents, report: Report | None = None) -> Array:
        """Return -log p(x | z) of each sentence, nats."""
        found: Array = reconstruction(self.model, sentences, latents, report).numpy()
        return found

    @torch.no_grad()
    def forced(self, sentences: Sequence[Sentence], latents: Latents) -> list[Sentence]:
        """Return the most likely word at each place."""
        rows = max(1, SCORES // self.config.vocabulary_size)
        found: dict[int, Sentence] = {}
        for places in length_batches([len(sentence) + 1 for sentence in sentences]):
            some = [sentences[place] for place in places]
            hidden = self.model.read_along(some, [latents[place].double().numpy() for place in places])
            together = torch.from_numpy(np.concatenate(hidden)).to(self.model.output.weight.dtype)
            best = torch.cat([best_token(self.model.output(part)) for part in torch.split(together, rows)])
            for place, words in zip(places, torch.split(best, [len(h) for h in hidden]), strict=True):
                found[place] = tuple(words.tolist())
        return [found[place] for place in range(len(sentences))]

    @torch.no_grad()
    def speak(self, latents: Latents, report: Report | None = None) -> list[Sentence]:
        """Return what is said from each z."""
        said: list[Sentence] = []
        kind = self.model.output.weight.dtype
        for start in range(0, len(latents), _SPEAKING):
            batch = [z.to(kind) for z in latents[start : start + _SPEAKING]]
            longest = max(len(z) for z in batch)
            drives = torch.stack([torch.cat([z, z[-1:].expand(longest - len(z), -1)]) for z in batch])
            said += said_words(self.model.greedy(drives, self.config.max_length))
            if report is not None:
                report(len(said), len(latents))
        return said


def as_side(model: TextVae | Side) -> Side:
    """Return a model as the side that it is."""
    return SoftwareSide(model) if isinstance(model, TextVae) else model


def posterior_of_arrays(place: int, ids: Sentence, mu: Array, logvar: Array, latent_mode: str) -> Posterior:
    """Return the posterior of a sentence from its mean and log variance at every step, (T, L) each, float64."""
    return Posterior(place, ids, torch.from_numpy(mu), torch.from_numpy(logvar), latent_mode)
