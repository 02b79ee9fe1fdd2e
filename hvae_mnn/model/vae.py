"""The text model: two recurrent encoder layers, a latent for each step, one recurrent decoder.

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

from hvae_mnn.errors import SentenceError
from hvae_mnn.model.config import CELLS, LATENT_MODES, ModelConfig
from hvae_mnn.model.corpus import EOS, PAD, SOS, UNK
from hvae_mnn.model.recurrent import make_layer

Array = NDArray[np.float64]

__all__ = [
    "CELLS",
    "LATENT_MODES",
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
class Losses:
    """What a batch costs, nats.

    Attributes:
        token_nll: -log p of each predicted token given the sampled z, (tokens,).
        logits: Scores of every word at each predicted token, (tokens, V).
        targets: The words that were there, (tokens,).
        sentence: Which sentence of the batch each predicted token belongs to, (tokens,).
        kl: KL of each step's posterior from N(0, 1), zero on padding, (B, T).
        lengths: Tokens of each sentence with `<sos>` and `<eos>`, (B,).
    """

    token_nll: Tensor
    logits: Tensor
    targets: Tensor
    sentence: Tensor
    kl: Tensor
    lengths: Tensor

    def reconstruction(self) -> Tensor:
        """Sum over the words and `<eos>` of each sentence, (B,)."""
        return torch.zeros_like(self.kl[:, 0]).index_add(0, self.sentence, self.token_nll)

    def correct(self) -> Tensor:
        """Whether the most likely token was the right one, (tokens,)."""
        return self.logits.argmax(1) == self.targets

    def kl_mean(self) -> Tensor:
        """Mean over the steps of each sentence, (1/T) sum_t KL_t, (B,)."""
        return self.kl.sum(1) / self.lengths

    def kl_last(self) -> Tensor:
        """KL of the last token's posterior, (B,)."""
        return self.kl.gather(1, self.lengths[:, None] - 1)[:, 0]

    def kl_driving(self, latent_mode: str) -> Tensor:
        """KL of all latents that the decoder was given, so that the sum is a bound, (B,)."""
        return self.kl_last() if latent_mode == "last" else self.kl.sum(1) - self.kl_last()

    def objective(self, kl_weight: float = 1.0) -> Tensor:
        """Return the mean over the batch of reconstruction + kl_weight (1/T) sum_t KL_t, a scalar."""
        return (self.reconstruction() + kl_weight * self.kl_mean()).mean()


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


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, 1)) summed over the last axis, nats.

    -1/2 sum(1 + logvar - mu^2 - exp(logvar)). The paper's eq. 5 prints +mu^2, which would reward a
    mean far from zero without limit: mended here.
    """
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(-1)


class TextVae(nn.Module):
    """The hierarchical-state-regularisation VAE for sentences.

    Encoder 1 reads the encoder embedding of `<sos> w1 .. wn <eos>`, encoder 2 reads encoder 1's
    output, and each step has a mean and a log variance. The decoder reads [embedding, z]; its
    first state is Linear(z) without bias (for `lstm` the cell state too). Latent mode `none` leaves
    the decoder alone, which reads the embedding from a zero state: there z, mu and logvar are of width 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, width, latent = config.vocabulary_size, config.embedding, config.latent
        lower, upper, hidden = config.hidden_sizes
        first, second = config.encoder
        if config.has_latent:
            self.encoder_embedding = nn.Embedding(size, width)
            self.encoder1 = make_layer(first, width, lower, peepholes=config.peepholes)
            self.encoder2 = make_layer(second, lower, upper, peepholes=config.peepholes)
            self.mu = nn.Linear(upper, latent)
            self.logvar = nn.Linear(upper, latent)
            self.initial = nn.Linear(latent, hidden, bias=False)
        self.decoder_embedding = nn.Embedding(size, width)
        given = width + latent if config.has_latent else width
        self.decoder = make_layer(config.decoder, given, hidden, peepholes=config.peepholes)
        self.output = nn.Linear(hidden, size)

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar, each (B, T, L), of tokens (B, T) padded at the end."""
        if not self.config.has_latent:
            empty = self.output.weight.new_zeros((*tokens.shape, 0))
            return empty, empty
        lower, _ = self.encoder1(self.embed(self.encoder_embedding, tokens))
        upper, _ = self.encoder2(lower)
        return self.mu(upper), self.logvar(upper)

    def embed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        """Look words up, with dropout in training, (B, T, E)."""
        return functional.dropout(embedding(tokens), self.config.embedding_dropout, self.training)

    def first_state(self, z: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the decoder's state before its first step, (1, B, H), from z (B, L)."""
        state = self.initial(z) if self.config.has_latent else z.new_zeros((len(z), self.config.hidden_sizes[2]))
        state = state[None].contiguous()
        return (state, state) if self.config.decoder == "lstm" else state

    def driving_latents(self, tokens: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """Encode and sample the latents that drive the decoder.

        Returns:
            z (B, T - 1, L), and mu and logvar of every step (B, T, L).
        """
        mu, logvar = self.encode(tokens)
        if self.config.latent_mode == "last":
            last = ((tokens != PAD).sum(1) - 1)[:, None, None].expand(-1, 1, mu.shape[2])
            z = sample(mu.gather(1, last), logvar.gather(1, last), generator)
            z = z.expand(-1, tokens.shape[1] - 1, -1)
        else:
            z = sample(mu[:, :-1], logvar[:, :-1], generator)
        return z, mu, logvar

    def free_latents(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample the latents for free decoding, (B, 1, L) for `last`, (B, T, L) for `per-step`.

        Past a sentence's own end its last latent is repeated.
        """
        mu, logvar = self.encode(tokens)
        ends = (tokens != PAD).sum(1) - 1
        steps = ends[:, None]
        if self.config.latent_mode == "per-step":
            steps = torch.minimum(torch.arange(tokens.shape[1])[None], steps)
        places = steps[:, :, None].expand(-1, -1, mu.shape[2])
        return sample(mu, logvar, generator).gather(1, places)

    def decode(self, inputs: Tensor, z: Tensor) -> Tensor:
        """Return the decoder's h (B, S, H) after reading words (B, S) and latents (B, S, L)."""
        joined = torch.cat([self.embed(self.decoder_embedding, inputs), z], dim=2)
        hidden: Tensor = self.decoder(joined, self.first_state(z[:, 0]))[0]
        return hidden

    def losses(self, tokens: Tensor, generator: torch.Generator | None = None) -> Losses:
        """Run tokens (B, T) teacher-forced through the model at a sampled z."""
        z, mu, logvar = self.driving_latents(tokens, generator)
        hidden = self.decode(self._drop_words(tokens[:, :-1]), z)
        predicted = tokens[:, 1:] != PAD
        targets = tokens[:, 1:][predicted]
        logits = self.output(hidden[predicted])
        true = tokens != PAD
        return Losses(
            token_nll=functional.cross_entropy(logits, targets, reduction="none"),
            logits=logits,
            targets=targets,
            sentence=predicted.nonzero()[:, 0],
            kl=kl_divergence(mu, logvar) * true,
            lengths=true.sum(1),
        )

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
            word = best_token(self.output(hidden[:, 0]))[:, None]
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
        a simulated circuit is compared with.

        Args:
            sentences: The words of each, without `<sos>` and `<eos>`.
            eps: Standard normal numbers, (L,) for `last`, (T, L) for `per-step` with T = words + 2.
            max_length: Most tokens to decode; the model's own limit if not given.

        Raises:
            SentenceError: The model cannot read a sentence.
            CheckpointError: The model has no latent.
        """
        self.config.check_has_latent()
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
        said = self.greedy(torch.stack(drives), max_length or self.config.max_length).tolist()
        self.train(was_training)
        return [
            Reconstruction(
                tuple(t for t in row if t not in (PAD, EOS)),
                EOS in row,
                *(_as_array(value, self.config.latent_mode) for value in latent),
            )
            for row, latent in zip(said, latents, strict=True)
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


def sample(mu: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw mu + exp(logvar / 2) * eps with eps standard normal (reparameterisation)."""
    eps = torch.randn(mu.shape, generator=generator, dtype=mu.dtype)
    return mu + torch.exp(logvar / 2) * eps


def best_token(logits: Tensor) -> Tensor:
    """Return the most likely token of logits (B, V) that can be said: no `<pad>`, no `<sos>`."""
    allowed = logits.clone()
    allowed[:, [PAD, SOS]] = -torch.inf
    return allowed.argmax(1)


def check_sentence(ids: Sequence[int], config: ModelConfig) -> None:
    """Refuse a sentence that the model cannot read."""
    if len(ids) == 0:
        raise SentenceError("the sentence has no words; expected at least one. Give some text.")
    if len(ids) > config.max_length:
        raise SentenceError(
            f"the sentence has {len(ids)} words; the model reads at most {config.max_length}. Shorten it."
        )
    for place in ids:
        if not 0 <= place < config.vocabulary_size or place in (PAD, SOS, EOS):
            raise SentenceError(
                f"the sentence holds token number {place}; expected a word's number below "
                f"{config.vocabulary_size}. Encode the text with the model's own vocabulary."
            )


def pad_batch(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return `<sos> words <eos>` of each sentence, padded at the end, (B, T)."""
    longest = max(len(sentence) for sentence in sentences)
    rows = [[SOS, *sentence, EOS] + [PAD] * (longest - len(sentence)) for sentence in sentences]
    return torch.tensor(rows)


def _as_array(value: Tensor, latent_mode: str) -> NDArray[np.float64]:
    array: NDArray[np.float64] = value.double().numpy().copy()
    return array[0] if latent_mode == "last" else array
