"""The posterior of one sentence: what evaluation asks of it, whatever objective trained the model.

Noise is drawn for each sentence by itself, so that no figure depends on which sentences share a batch. Shapes: `T`
tokens with `<sos>` and `<eos>`, `S` latents that drive the decoder, `L` latent, `k` samples.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hvae_mnn.model.network.batches import best_token
from hvae_mnn.model.network.losses import kl_between, kl_divergence
from hvae_mnn.model.network.planar import moved_divergence, planar_flow
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import SOS, Sentence

STEPS = 2**14
"""Most time steps of a batch, padding included; gates of the paper's sizes are then 64 MiB. Chosen."""
_KL_STREAM = 1000  # of noise, apart from those of evaluation
_FLOW_DRAWS, _PATH_DRAWS = 1024, 8  # a KL that has no closed form is averaged over; chosen


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What the encoder makes of one sentence: a Gaussian at each step, with the prior N(0, 1).

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
        """Return the KL of each step's posterior from the prior, nats, (T,); of a learned prior (T - 1,)."""
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
        """Return the driving latents that noise (k, S, L) leads to, mu + exp(logvar / 2) eps, of the same shape."""
        mu, logvar = self.driving()
        return mu + torch.exp(logvar / 2) * eps

    def centre(self) -> Tensor:
        """Return the driving latents without noise, (S, L)."""
        return self.latents(torch.zeros_like(self.driving()[0])[None])[0]

    def prior_latents(self, eps: Tensor) -> Tensor:
        """Return the driving latents that noise (k, S, L) leads to under the prior, of the same shape."""
        return eps

    def log_ratio(self, eps: Tensor) -> Tensor:
        """Return log p(z) - log q(z | x) of `latents(eps)`, summed over driving latents, nats, (k,), float64."""
        logvar = self.driving()[1].double()
        z, eps = self.latents(eps).double(), eps.double()
        return 0.5 * (eps.square() + logvar - z.square()).sum((1, 2))


@dataclass(frozen=True, eq=False)
class FlowPosterior(Posterior):
    """The Gaussian of the last token, moved by planar flows.

    `driving` is the Gaussian before the flows. Only the last token has a KL.

    Attributes:
        flow: Parameters of the flows, (1, parameters); see `hvae_mnn.model.network.planar`.
    """

    flow: Tensor

    def latents(self, eps: Tensor) -> Tensor:
        """Return where the flows lead from mu + exp(logvar / 2) eps."""
        return self._moved(eps, self.mu.dtype)[1]

    def kl_steps(self) -> Tensor:
        """Return zeros and, at the last token, the KL, (T,)."""
        return functional.pad(torch.tensor([self._kl], dtype=torch.float64), (len(self.mu) - 1, 0))

    def kl(self) -> float:
        """Return the KL of the latent, a mean over draws, nats."""
        return self._kl

    def log_ratio(self, eps: Tensor) -> Tensor:
        """Return log p(z) - log q(z | x), the flows' log |det| in it."""
        _, z, log_det = self._moved(eps, torch.float64)
        logvar = self.driving()[1].double()
        return 0.5 * (eps.double().square() + logvar - z.square()).sum((1, 2)) + log_det.sum(1)

    @cached_property
    def _kl(self) -> float:
        start, end, log_det = self._moved(self.noise(0, _KL_STREAM, _FLOW_DRAWS), torch.float64)
        mu, logvar = (part.double() for part in self.driving())
        return float(kl_divergence(mu, logvar).sum() + moved_divergence(start, end, log_det).mean())

    def _moved(self, eps: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Return draws before and behind the flows (k, 1, L), and their log |det| (k, 1)."""
        mu, logvar = (part.to(dtype) for part in self.driving())
        start = mu + torch.exp(logvar / 2) * eps.to(dtype)
        return start, *planar_flow(start, self.flow.to(dtype).expand(len(eps), -1, -1))


@dataclass(frozen=True, eq=False)
class PriorPosterior(Posterior):
    """A Gaussian at each step, with a prior that the decoder's state gives.

    The latent that drives the step which reads token t has the posterior of token t + 1. KLs are closed for a step
    given the latents before it, and a mean over draws of these.

    Attributes:
        model: The network, whose decoder and prior are run.
    """

    model: TextVae

    def driving(self) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents that the decoder is given, (T - 1, L)."""
        return self.mu[1:], self.logvar[1:]

    def kl_steps(self) -> Tensor:
        """Return the KL of the latent at each step of the decoder, (T - 1,); the first has read two tokens."""
        return self._kl_steps

    def kl(self) -> float:
        """Return the KL of all latents, nats."""
        return float(self._kl_steps.sum())

    def prior_latents(self, eps: Tensor) -> Tensor:
        """Return latents drawn one after another, the sentence's own words between them."""
        with torch.no_grad(), without_dropout(self.model):
            return follow_prior(self.model, eps, self._inputs(len(eps)))[0]

    def log_ratio(self, eps: Tensor) -> Tensor:
        """Return log p(z) - log q(z | x), each latent under the prior that those before it make."""
        z, logvar = self.latents(eps), self.driving()[1].double()
        mean, spread = self._prior(z)
        distance = (z.double() - mean).square() * torch.exp(-spread)
        return 0.5 * (eps.double().square() + logvar - distance - spread).sum((1, 2))

    @cached_property
    def _kl_steps(self) -> Tensor:
        prior = self._prior(self.latents(self.noise(0, _KL_STREAM, _PATH_DRAWS)))
        mu, logvar = (part.double() for part in self.driving())
        return kl_between(mu, logvar, *prior).mean(0)

    def _prior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the prior along latents z (k, S, L), of the same shape, float64."""
        parts = []
        with torch.no_grad(), without_dropout(self.model):
            for some in z.split(max(1, STEPS // z.shape[1])):  # type: ignore[no-untyped-call]
                inputs = self._inputs(len(some))
                parts.append(self.model.prior_steps(inputs, self.model.decode(inputs, some)))
        return torch.cat([part[0] for part in parts]).double(), torch.cat([part[1] for part in parts]).double()

    def _inputs(self, count: int) -> Tensor:
        return pad_batch([self.ids])[:, :-1].expand(count, -1)


@contextmanager
def without_dropout(model: TextVae) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def follow_prior(model: TextVae, eps: Tensor, inputs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draw latents from a model's learned prior, each from those before it and the words read.

    Args:
        model: The model.
        eps: Standard normal numbers, (B, S, L).
        inputs: Words that the decoder reads, (B, S); if not given, `<sos>` and then the most likely words.

    Returns:
        The latents, (B, S, L), and the words read, (B, S + 1) if they are the model's own: `<sos>` comes first, and
        what follows an `<eos>` has no meaning.
    """
    words = torch.full((len(eps), 1), SOS) if inputs is None else inputs
    before, state, found = eps.new_zeros((len(eps), model.config.hidden_sizes[-1])), None, []
    for step in range(eps.shape[1]):
        read = model.decoder_embedding(words[:, step])
        mu, logvar = model.prior.at_step(read, before)
        z = mu + torch.exp(logvar / 2) * eps[:, step]
        found.append(z)
        joined = torch.cat([read, z], dim=1)[:, None]
        hidden, state = model.decoder(joined, model.first_state(z) if state is None else state)
        before = hidden[:, 0]
        if inputs is None:
            words = torch.cat([words, best_token(model.output(before))[:, None]], dim=1)
    return torch.stack(found, dim=1), words
