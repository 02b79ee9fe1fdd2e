"""The text model: one or two recurrent encoder layers, a latent for each step, one recurrent decoder.

The wiring is that of the hierarchical-state-regularisation VAE of Hu & Yang 2023 and of the
timestep-wise regularised VAE it builds on. Shapes: `B` sentences, `T` tokens with `<sos>` and
`<eos>`, `E` embedding, `H` hidden (of the layer at hand), `L` latent, `V` vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hvae_mnn.model.batches import best_token, last_places, pad_batch, said_words
from hvae_mnn.model.config import CELLS, LATENT_MODES, ModelConfig, check_sentence
from hvae_mnn.model.corpus import EOS, PAD, SOS, UNK
from hvae_mnn.model.losses import Losses, kl_between, kl_divergence, sample
from hvae_mnn.model.output import OutputLayer
from hvae_mnn.model.planar import count_parameters, moved_divergence, planar_flow
from hvae_mnn.model.recurrent import make_layer
from hvae_mnn.model.refinement import Cost, fit_gaussian, langevin, refine, start_from_prior
from hvae_mnn.model.step_prior import StepPrior

Array = NDArray[np.float64]

__all__ = [
    "CELLS",
    "LATENT_MODES",
    "Belief",
    "Losses",
    "ModelConfig",
    "Reconstruction",
    "TextVae",
    "best_token",
    "check_sentence",
    "kl_divergence",
    "pad_batch",
    "sample",
]


@dataclass(frozen=True, slots=True)
class Belief:
    """q(z | x) of a batch.

    Attributes:
        mu: Mean at every step, (B, T, L).
        logvar: Log variance at every step, (B, T, L).
        flow: What moves a draw on at every step, (B, T, parameters); see `hvae_mnn.model.planar`. None without a flow.
    """

    mu: Tensor
    logvar: Tensor
    flow: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """One sentence through the model and back.

    Attributes:
        tokens: The words decoded, `<eos>` not among them.
        ended: Whether the decoder said `<eos>` before the limit.
        mu: Posterior mean, (L,) for `last`, (T, L) for `per-step`.
        logvar: Posterior log variance, of the same shape.
        z: mu + exp(logvar / 2) * eps, of the same shape.
    """

    tokens: tuple[int, ...]
    ended: bool
    mu: NDArray[np.float64]
    logvar: NDArray[np.float64]
    z: NDArray[np.float64]


class TextVae(nn.Module):
    """The hierarchical-state-regularisation VAE for sentences.

    Encoder 1 reads the encoder embedding of `<sos> w1 .. wn <eos>`, encoder 2 reads encoder 1's
    output, and each step has a mean and a log variance. The decoder reads [embedding, z]; its
    first state is Linear(z) without bias (for `lstm` the cell state too). Latent mode `none` leaves
    the decoder alone, which reads the embedding from a zero state: there z, mu and logvar are of width 0.
    """

    encoder1: nn.Module
    encoder2: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, width, latent = config.vocabulary_size, config.embedding, config.latent
        *widths, hidden = config.hidden_sizes
        if config.has_encoder:
            self.encoder_embedding = nn.Embedding(size, width)
            for place, (cell, given, own) in enumerate(zip(config.encoder, [width, *widths], widths, strict=False), 1):
                self.add_module(f"encoder{place}", make_layer(cell, given, own, peepholes=config.peepholes))
            self.mu = nn.Linear(widths[-1], latent)
            self.logvar = nn.Linear(widths[-1], latent)
        if config.has_latent:
            self.initial = nn.Linear(latent, hidden, bias=False)
        self.decoder_embedding = nn.Embedding(size, width)
        given = width + latent if config.has_latent else width
        self.decoder = make_layer(config.decoder, given, hidden, peepholes=config.peepholes)
        self.output = OutputLayer(hidden, size)
        if config.posterior == "flow":
            self.flow = nn.Linear(widths[-1], count_parameters(latent, config.posterior_steps))
            self.skip = nn.Linear(latent, hidden, bias=False)
        if config.prior == "learned":
            self.prior = StepPrior(width, hidden, latent)
        self.mu_norm: nn.Module | None = None

    def read(self, tokens: Tensor) -> Tensor:
        """Return the last encoder layer's h (B, T, H) of tokens (B, T) padded at the end."""
        states = self.embed(self.encoder_embedding, tokens)
        for place in range(1, len(self.config.encoder) + 1):
            states, _ = getattr(self, f"encoder{place}")(states)
        return states

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's mu and logvar, each (B, T, L), of tokens (B, T); those of N(0, 1) without an encoder."""
        if not self.config.has_encoder:
            nothing = self.output.weight.new_zeros((*tokens.shape, self.config.latent * self.config.has_latent))
            return nothing, nothing
        return self._heads(tokens, self.read(tokens))

    def infer(self, tokens: Tensor, kl_weight: float = 1.0) -> Belief:
        """Return q(z | x) of tokens (B, T); `kl_weight` is that of the bound which `svi` refines."""
        if self.config.posterior == "flow":
            states = self.read(tokens)
            return Belief(*self._heads(tokens, states), self.flow(states))
        mu, logvar = self.encode(tokens)
        if self.config.posterior in ("svi", "langevin"):
            last = last_places(tokens, mu.shape[2])
            found = self._search(tokens, mu.gather(1, last)[:, 0], logvar.gather(1, last)[:, 0], kl_weight)
            mu, logvar = mu.scatter(1, last, found[0][:, None]), logvar.scatter(1, last, found[1][:, None])
        return Belief(mu, logvar)

    def explore(self, tokens: Tensor) -> Tensor:
        """Return where Langevin steps from the prior lead, (B, L); nothing is differentiable in it."""
        start = start_from_prior(self.output.weight.new_empty((len(tokens), self.config.latent)), self.training)
        steps, size = self.config.posterior_steps, self.config.posterior_rate
        return langevin(self._cost(tokens), start, steps=steps, size=size, training=self.training)

    def embed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        """Look words up, with dropout in training, (B, T, E)."""
        return functional.dropout(embedding(tokens), self.config.embedding_dropout, self.training)

    def first_state(self, z: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the decoder's state before its first step, (1, B, H), from z (B, L)."""
        state = self.initial(z) if self.config.has_latent else z.new_zeros((len(z), self.config.hidden_sizes[-1]))
        state = state[None].contiguous()
        return (state, state) if self.config.decoder == "lstm" else state

    def driving_latents(
        self, tokens: Tensor, generator: torch.Generator | None = None, refine: bool = True
    ) -> tuple[Tensor, ...]:
        """Sample the latents that drive the decoder, from q(z | x) or (`refine` false) from what the encoder says.

        Returns:
            z (B, T - 1, L), and mu and logvar of every step (B, T, L).
        """
        belief = self.infer(tokens) if refine else Belief(*self.encode(tokens))
        return self._drive(tokens, belief, generator)[0], belief.mu, belief.logvar

    def free_latents(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample the latents for free decoding, (B, 1, L) for `last`, (B, T or, under a learned prior, T - 1, L) else.

        Past a sentence's own end its last latent is repeated.
        """
        belief = self.infer(tokens)
        steps = ends = (tokens != PAD).sum(1)[:, None] - 1
        if self.config.latent_mode == "per-step":
            first = int(self.config.prior == "learned")
            steps = torch.minimum(torch.arange(first, tokens.shape[1])[None], ends)
        places = steps[:, :, None].expand(-1, -1, belief.mu.shape[2])
        z = sample(belief.mu, belief.logvar, generator).gather(1, places)
        if belief.flow is not None:
            z, _ = planar_flow(z, belief.flow.gather(1, steps[:, :, None].expand(-1, -1, belief.flow.shape[2])))
        return z

    def decode(self, inputs: Tensor, z: Tensor) -> Tensor:
        """Return what words are projected from (B, S, H), after reading words (B, S) and latents (B, S, L).

        It is the decoder's h; with a flow z is added to it once more, by a skip connection.
        """
        joined = torch.cat([self.embed(self.decoder_embedding, inputs), z], dim=2)
        hidden: Tensor = self.decoder(joined, self.first_state(z[:, 0]))[0]
        return self._skip(hidden, z)

    def prior_steps(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return a learned prior's mu and logvar (B, S, L) of the latent at each step, which sees the past alone.

        Args:
            inputs: Words that the decoder reads, (B, S).
            hidden: What `decode` made of them, (B, S, H).
        """
        found: tuple[Tensor, Tensor] = self.prior(self.decoder_embedding(inputs), hidden)
        return found

    def losses(self, tokens: Tensor, generator: torch.Generator | None = None, kl_weight: float = 1.0) -> Losses:
        """Run tokens (B, T) teacher-forced through the model at a sampled z; `kl_weight` as `infer` takes it."""
        belief = self.infer(tokens, kl_weight)
        z, flow_kl = self._drive(tokens, belief, generator)
        inputs = self._drop_words(tokens[:, :-1])
        hidden = self.decode(inputs, z)
        return self._losses(tokens, hidden, self._kl(tokens, belief, inputs, hidden, flow_kl))

    def losses_at(self, tokens: Tensor, z: Tensor) -> Losses:
        """Run tokens (B, T) teacher-forced through the decoder at a given z (B, L); there is no KL."""
        drive = z[:, None].expand(-1, tokens.shape[1] - 1, -1)
        hidden = self.decode(self._drop_words(tokens[:, :-1]), drive)
        return self._losses(tokens, hidden, hidden.new_zeros(tokens.shape))

    def _losses(self, tokens: Tensor, hidden: Tensor, kl: Tensor) -> Losses:
        predicted = tokens[:, 1:] != PAD
        targets = tokens[:, 1:][predicted]
        logits = self.output(hidden[predicted])
        return Losses(
            token_nll=functional.cross_entropy(logits, targets, reduction="none"),
            logits=logits,
            targets=targets,
            sentence=predicted.nonzero()[:, 0],
            kl=kl,
            lengths=(tokens != PAD).sum(1),
        )

    def _heads(self, tokens: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        mu = self.mu(states)
        if self.mu_norm is not None:
            mu = self.mu_norm(mu, last_places(tokens, mu.shape[2]))
        return mu, self.logvar(states)

    def _search(self, tokens: Tensor, mu: Tensor, logvar: Tensor, kl_weight: float) -> tuple[Tensor, Tensor]:
        """Refine a Gaussian of the last latent, (B, L) each, or fit one where Langevin steps lead."""
        cost = self._cost(tokens)
        if self.config.posterior == "langevin":
            return fit_gaussian(cost, self.explore(tokens))
        steps, rate = self.config.posterior_steps, self.config.posterior_rate
        return refine(cost, mu, logvar, steps=steps, rate=rate, kl_weight=kl_weight, training=self.training)

    def _cost(self, tokens: Tensor) -> Cost:
        return lambda z: self.losses_at(tokens, z).reconstruction()

    def _drive(self, tokens: Tensor, belief: Belief, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """Draw what drives the decoder, (B, T - 1, L), and of a flow what the draw costs, (B,)."""
        if self.config.latent_mode != "last":
            part = slice(1, None) if self.config.prior == "learned" else slice(None, -1)
            return sample(belief.mu[:, part], belief.logvar[:, part], generator), None
        last = last_places(tokens, belief.mu.shape[2])
        mu, logvar = belief.mu.gather(1, last), belief.logvar.gather(1, last)
        z, cost = sample(mu, logvar, generator), None
        if belief.flow is not None:
            start = z
            z, log_det = planar_flow(start, belief.flow.gather(1, last_places(tokens, belief.flow.shape[2])))
            cost = (kl_divergence(mu, logvar) + moved_divergence(start, z, log_det))[:, 0]
        return z.expand(-1, tokens.shape[1] - 1, -1), cost

    def _kl(self, tokens: Tensor, belief: Belief, inputs: Tensor, hidden: Tensor, flow_kl: Tensor | None) -> Tensor:
        """Return the KL of each step, (B, T), as `Losses` holds it."""
        if flow_kl is not None:
            last = (tokens != PAD).sum(1)[:, None] - 1
            return belief.mu.new_zeros(tokens.shape).scatter(1, last, flow_kl[:, None])
        if self.config.prior == "learned":
            prior = self.prior_steps(inputs, hidden)
            steps = kl_between(belief.mu[:, 1:], belief.logvar[:, 1:], *prior) * (tokens[:, 1:] != PAD)
            return functional.pad(steps, (0, 1))
        return kl_divergence(belief.mu, belief.logvar) * (tokens != PAD)

    def _skip(self, hidden: Tensor, z: Tensor) -> Tensor:
        return hidden + self.skip(z) if self.config.posterior == "flow" else hidden

    @torch.no_grad()
    def greedy(self, z: Tensor, limit: int) -> Tensor:
        """Decode freely: at each step the most likely token, never `<pad>` or `<sos>`.

        Args:
            z: Latents (B, S, L); step s reads the one at s, or the last past the end.
            limit: Most tokens to say.

        Returns:
            Token numbers (B, steps); `<eos>`, and `<pad>` after it.
        """
        state = self.first_state(z[:, 0])
        word = torch.full((z.shape[0], 1), SOS)
        ended = torch.zeros(z.shape[0], dtype=torch.bool)
        said = []
        for step in range(limit):
            driving = z[:, min(step, z.shape[1] - 1)][:, None]
            joined = torch.cat([self.decoder_embedding(word), driving], dim=2)
            hidden, state = self.decoder(joined, state)
            word = best_token(self.output(self._skip(hidden, driving)[:, 0]))[:, None]
            said.append(word[:, 0].masked_fill(ended, PAD))
            ended = ended | (word[:, 0] == EOS)
            if bool(ended.all()):
                break
        return torch.stack(said, dim=1)

    def reconstruct(
        self, ids: Sequence[int], eps: NDArray[np.float64], max_length: int | None = None
    ) -> Reconstruction:
        """Encode a sentence, move off the mean by eps, and decode freely; see `reconstruct_all`."""
        return self.reconstruct_all([ids], [eps], max_length)[0]

    @torch.no_grad()
    def reconstruct_all(
        self,
        sentences: Sequence[Sequence[int]],
        eps: Sequence[NDArray[np.float64]],
        max_length: int | None = None,
    ) -> list[Reconstruction]:
        """Encode sentences, move off their means by eps, and decode freely, all at once.

        Runs without dropout in the model's own precision: `model.double()` gives the reference that
        a simulated circuit is compared with. Means are the encoder's own, without refinement.

        Args:
            sentences: The words of each, without `<sos>` and `<eos>`.
            eps: Standard normal numbers, (L,) for `last`, (T, L) for `per-step` with T = words + 2.
            max_length: Most tokens to decode; the model's own limit if not given.

        Raises:
            SentenceError: The model cannot read a sentence.
            CheckpointError: The simulated hardware cannot make the model's latent.
        """
        self.config.check_circuit()
        for ids in sentences:
            check_sentence(ids, self.config)
        was_training = self.training
        self.eval()
        mu, logvar = self.encode(pad_batch([tuple(ids) for ids in sentences]))
        latents, drives = [], []
        for i, noise in enumerate(eps):
            end = len(sentences[i]) + 2
            steps = slice(end - 1, end) if self.config.latent_mode == "last" else slice(0, end)
            mean, spread = mu[i, steps], logvar[i, steps]
            z = mean + torch.exp(spread / 2) * torch.as_tensor(np.asarray(noise), dtype=mu.dtype).reshape(mean.shape)
            latents.append((mean, spread, z))
            drives.append(torch.cat([z, z[-1:].expand(mu.shape[1] - len(z), -1)]))
        said = self.greedy(torch.stack(drives), max_length or self.config.max_length)
        self.train(was_training)
        return [
            Reconstruction(words, EOS in row, *(_as_array(value, self.config.latent_mode) for value in latent))
            for words, row, latent in zip(said_words(said), said.tolist(), latents, strict=True)
        ]

    @torch.no_grad()
    def read_along(self, sentences: Sequence[Sequence[int]], latents: Sequence[Array]) -> list[Array]:
        """Decode teacher-forced, without dropout, in the model's own precision.

        Args:
            sentences: The words of each, without `<sos>` and `<eos>`.
            latents: z of each, (L,) or (T, L); step s reads the one at s, or the last past the end.

        Returns:
            For each sentence the h that predicts each of its words and `<eos>`, (words + 1, H).
        """
        was_training = self.training
        self.eval()
        tokens = pad_batch([tuple(ids) for ids in sentences])[:, :-1]
        kept = [torch.as_tensor(np.atleast_2d(z)[: tokens.shape[1]], dtype=self.output.weight.dtype) for z in latents]
        drives = [torch.cat([z, z[-1:].expand(tokens.shape[1] - len(z), -1)]) for z in kept]
        hidden = self.decode(tokens, torch.stack(drives))
        self.train(was_training)
        return [hidden[i, : len(ids) + 1].double().numpy() for i, ids in enumerate(sentences)]

    def _drop_words(self, inputs: Tensor) -> Tensor:
        if not self.training or self.config.word_dropout == 0:
            return inputs
        dropped = torch.rand(inputs.shape) < self.config.word_dropout
        return inputs.masked_fill(dropped & (inputs != SOS), UNK)


def _as_array(value: Tensor, latent_mode: str) -> NDArray[np.float64]:
    array: NDArray[np.float64] = value.double().numpy().copy()
    return array[0] if latent_mode == "last" else array
