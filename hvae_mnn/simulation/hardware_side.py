"""A Build on an engine as what `evaluate` measures in place of the software model."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build
from hvae_mnn.digital.projection import weigh_sentences
from hvae_mnn.engines.base import Engine
from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.evaluation.posteriors import Posterior
from hvae_mnn.model.evaluation.sides import Latents, posterior_of_arrays
from hvae_mnn.model.text.corpus import EOS, Sentence
from hvae_mnn.simulation.orchestrator import DigitalHalf, Latent, Simulation

Array = NDArray[np.float64]

ROWS = 128
"""Sentences read at once, as in sweeps: fewer are slowed down by Python, more by the caches."""


class HardwareSide:
    """Encodes and decodes through crossbars; its encoder is the q and its decoder the p(x | z) of its ELBO.

    Read noise is new in every read, and different from batch to batch.
    """

    def __init__(self, build: Build, engine: Engine, draws: tuple[int, ...] = (1, 5, 50)) -> None:
        """Take an engine that holds a Build, and the draws of z that importance weighting is affordable with."""
        self.draws = draws
        self._engine, self._digital = engine, DigitalHalf.of_build(build)
        self._simulation = Simulation(build, engine, whole=False, digital=self._digital, compared=False)
        self._batches = 0

    @property
    def config(self) -> ModelConfig:
        """Sizes and wiring of the model."""
        return self._simulation.build.checkpoint.config

    def encode(self, sentences: Sequence[Sentence]) -> list[Posterior]:
        """Return the posterior of each sentence."""
        found: dict[int, Posterior] = {}
        for places in self._together(sentences):
            steps = self._simulation.encode_steps([sentences[place] for place in places])
            for place, (mu, logvar) in zip(places, steps, strict=True):
                found[place] = posterior_of_arrays(place, sentences[place], mu, logvar, self.config.latent_mode)
        return [found[place] for place in range(len(sentences))]

    def costs(
        self,
        sentences: Sequence[Sentence],
        latents: Latents,
        report: Callable[[int, int], None] | None = None,
    ) -> Array:
        """Return -log p(x | z) of each sentence, nats."""
        costs = np.zeros(len(sentences))
        done = 0
        for places, _, found in self._read_along(sentences, latents):
            costs[places] = found
            done += len(places)
            if report is not None:
                report(done, len(sentences))
        return costs

    def forced(self, sentences: Sequence[Sentence], latents: Latents) -> list[Sentence]:
        """Return the most likely word at each place."""
        found = {
            place: words
            for places, best, _ in self._read_along(sentences, latents)
            for place, words in zip(places, best, strict=True)
        }
        return [found[place] for place in range(len(sentences))]

    def speak(self, latents: Latents, report: Callable[[int, int], None] | None = None) -> list[Sentence]:
        """Return what is said from each z."""
        said: list[Sentence] = []
        for start in range(0, len(latents), ROWS):
            self._begin()
            said += self._simulation.speak(_given(latents[start : start + ROWS]), expected=0)
            if report is not None:
                report(len(said), len(latents))
        return said

    def _read_along(
        self, sentences: Sequence[Sentence], latents: Latents
    ) -> Iterator[tuple[list[int], list[Sentence], Array]]:
        """Yield the places of a batch, the most likely words of each sentence, and each one's -log p."""
        for places in self._together(sentences):
            some = [sentences[place] for place in places]
            hidden = self._simulation.read_along(some, _given([latents[place] for place in places]))
            best, costs = weigh_sentences(self._digital.projection, hidden, [(*ids, EOS) for ids in some])
            yield places, best, costs

    def _together(self, sentences: Sequence[Sentence]) -> Iterator[list[int]]:
        """Yield places of sentences of like length, and begin a batch."""
        ordered = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
        for start in range(0, len(ordered), ROWS):
            self._begin()
            yield ordered[start : start + ROWS]

    def _begin(self) -> None:
        self._engine.begin(self._batches)
        self._batches += 1


def _given(latents: Latents) -> list[Latent]:
    """Return latents that are known, (S, L) each."""
    values = [z.double().numpy() for z in latents]
    return [Latent(z, np.full_like(z, -np.inf), z) for z in values]
