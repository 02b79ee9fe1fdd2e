"""Encoder and decoder over many sentences, in batches whose memory is bounded.

Noise is drawn for each sentence by itself, so that no figure depends on which sentences share a
batch. Shapes: `T` tokens with `<sos>` and `<eos>`, `S` latents that drive the decoder, `L` latent.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hvae_mnn.model.corpus import PAD, Sentence
from hvae_mnn.model.vae import TextVae, kl_divergence, pad_batch

STEPS = 2**14
"""Most time steps of a batch, padding included; gates of the paper's sizes are then 64 MiB. Chosen."""
SCORES = 2**22
"""Most word scores held at once: 16 MiB of 32-bit floats. Chosen."""

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What the encoder makes of one sentence.

    Attributes:
        place: Place of the sentence in its split; it seeds the sentence's noise.
        ids: The words, without `<sos>` and `<eos>`.
        mu: Posterior mean of every step, (T, L).
        logvar: Posterior log variance of every step, (T, L).
        latent_mode: Which steps drive the decoder; see `ModelConfig`.
    """

    place: int
    ids: Sentence
    mu: Tensor
    logvar: Tensor
    latent_mode: str

    def driving(self) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents that the decoder is given, (S, L).

        S is 1 for `last` and T - 1 for `per-step`, where the latent of `<eos>` drives nothing.
        """
        part = slice(-1, None) if self.latent_mode == "last" else slice(None, -1)
        return self.mu[part], self.logvar[part]

    def kl_steps(self) -> Tensor:
        """Return the KL of each step's posterior from N(0, 1), nats, (T,)."""
        return kl_divergence(self.mu.double(), self.logvar.double())

    def kl(self) -> float:
        """Return the KL of all latents that the decoder is given, nats."""
        mu, logvar = self.driving()
        return float(kl_divergence(mu.double(), logvar.double()).sum())

    def noise(self, seed: int, stream: int, samples: int = 1) -> Tensor:
        """Draw standard normal numbers for the driving latents, (samples, S, L).

        They depend on the seed, the stream and the sentence's place alone.
        """
        rng = np.random.default_rng([seed, stream, self.place])
        shape = (samples, *self.driving()[0].shape)
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(self.mu.dtype)

    def latents(self, eps: Tensor) -> Tensor:
        """Return mu + exp(logvar / 2) eps of the driving latents, (samples, S, L)."""
        mu, logvar = self.driving()
        return mu + torch.exp(logvar / 2) * eps


@torch.no_grad()
def encode_sentences(model: TextVae, sentences: Sequence[Sentence]) -> list[Posterior]:
    """Encode every sentence, without dropout."""
    found: dict[int, Posterior] = {}
    with _without_dropout(model):
        for places in length_batches([len(sentence) + 2 for sentence in sentences]):
            mu, logvar = model.encode(pad_batch([sentences[place] for place in places]))
            for row, place in enumerate(places):
                ids = sentences[place]
                true = slice(len(ids) + 2)
                parts = mu[row, true].clone(), logvar[row, true].clone()
                found[place] = Posterior(place, ids, *parts, model.config.latent_mode)
    return [found[place] for place in range(len(sentences))]


@torch.no_grad()
def reconstruction(
    model: TextVae, sentences: Sequence[Sentence], latents: Sequence[Tensor], report: Report | None = None
) -> Tensor:
    """Return -log p(x | z) of each sentence, teacher-forced and without dropout, nats, (sentences,), float64.

    Args:
        model: The model; only its decoder is used.
        sentences: The words of each.
        latents: z of each, (1, L) for a latent of the whole sentence or (S, L).
        report: Called with sentences done and all sentences after each batch.
    """
    costs = torch.empty(len(sentences), dtype=torch.float64)
    done = 0
    with _without_dropout(model):
        for places in length_batches([len(sentence) + 1 for sentence in sentences]):
            tokens = pad_batch([sentences[place] for place in places])
            rows = [latents[place].expand(len(sentences[place]) + 1, -1) for place in places]
            costs[places] = _batch_costs(model, tokens, nn.utils.rnn.pad_sequence(rows, batch_first=True))
            done += len(places)
            if report is not None:
                report(done, len(sentences))
    return costs


def length_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield places in order of length, so many at once that the padded batch has at most `STEPS` steps."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda each: lengths[each]):
        if batch and lengths[place] * (len(batch) + 1) > STEPS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _batch_costs(model: TextVae, tokens: Tensor, z: Tensor) -> Tensor:
    hidden = model.decode(tokens[:, :-1], z)
    predicted = tokens[:, 1:] != PAD
    costs = torch.zeros(predicted.shape, dtype=torch.float64)
    costs[predicted] = _token_costs(model, hidden[predicted], tokens[:, 1:][predicted])
    return costs.sum(1)


def _token_costs(model: TextVae, hidden: Tensor, targets: Tensor) -> Tensor:
    """Return -log p of each target (P,) given the decoder's h (P, H): no full table of log p is made."""
    rows = max(1, SCORES // model.config.vocabulary_size)
    parts = []
    for start in range(0, len(targets), rows):
        scores = model.output(hidden[start : start + rows])
        right = scores.gather(1, targets[start : start + rows, None])[:, 0]
        parts.append((scores.logsumexp(1) - right).double())
    return torch.cat(parts)


@contextmanager
def _without_dropout(model: TextVae) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
