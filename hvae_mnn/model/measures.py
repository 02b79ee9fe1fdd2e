"""What a trained model is worth, measured on sentences.

All figures are in nats and per sentence unless said otherwise, and count the words and `<eos>` of
the file as it is. Reconstruction is at a sampled z; the KL in the bound is that of the latents
that the decoder was given, in full.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hvae_mnn.model.batches import said_words
from hvae_mnn.model.corpus import Sentence, choose
from hvae_mnn.model.vae import TextVae, pad_batch

_BATCH = 64


def perplexity(nll: float, tokens: float) -> float:
    """Return exp(nll / tokens) for nats and tokens, both of a sentence or of all; infinite where beyond floats."""
    try:
        return math.exp(nll / tokens)
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Teacher-forced figures of a set of sentences.

    Attributes:
        reconstruction: -log p(x | z) at one sampled z, mean over sentences.
        kl: KL of the latents that drive the decoder, in full, mean over sentences.
        kl_mean: (1/T) sum_t KL_t, mean over sentences.
        standard_error: Standard error of `elbo_nll`.
        accuracy: Share of tokens whose most likely prediction was right.
        sentences: Number of sentences.
        tokens: Number of predicted tokens: words and `<eos>`.
    """

    reconstruction: float
    kl: float
    kl_mean: float
    standard_error: float
    accuracy: float
    sentences: int
    tokens: int

    @property
    def elbo_nll(self) -> float:
        """Upper bound on -log p(x), mean over sentences."""
        return self.reconstruction + self.kl

    @property
    def perplexity(self) -> float:
        """Exp of the bound per token."""
        return perplexity(self.elbo_nll * self.sentences, self.tokens)

    @property
    def objective(self) -> float:
        """The training loss: reconstruction + (1/T) sum_t KL_t, mean over sentences."""
        return self.reconstruction + self.kl_mean


@dataclass(frozen=True, slots=True)
class ReconstructionScore:
    """How much of a text comes back when the model decodes freely from a sampled z.

    Attributes:
        token_accuracy: Equal tokens at equal places over the longer of the two, averaged over tokens.
        exact: Share of sentences that came back whole.
        sentences: Number of sentences.
    """

    token_accuracy: float
    exact: float
    sentences: int


@torch.no_grad()
def evaluate_likelihood(model: TextVae, sentences: Sequence[Sentence], *, seed: int = 0) -> Likelihood:
    """Measure reconstruction, KL and the bound, teacher-forced, one sample of z a sentence."""
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    parts: list[torch.Tensor] = []
    correct = tokens = 0
    for batch in _batches(sentences):
        losses = model.losses(pad_batch(batch), generator)
        driving = losses.kl_driving(model.config.latent_mode)
        parts.append(torch.stack([losses.reconstruction(), driving, losses.kl_mean()], dim=1).double())
        correct += int(losses.correct().sum())
        tokens += len(losses.targets)
    model.train(was_training)
    table = torch.cat(parts).numpy()
    reconstruction, kl, kl_mean = (float(value) for value in table.mean(0))
    spread = float(table[:, :2].sum(1).std(ddof=1)) if len(table) > 1 else math.inf
    error = spread / math.sqrt(len(table))
    return Likelihood(reconstruction, kl, kl_mean, error, correct / tokens, len(table), tokens)


@torch.no_grad()
def evaluate_reconstruction(
    model: TextVae, sentences: Sequence[Sentence], *, seed: int = 0, limit: int = 1000
) -> ReconstructionScore:
    """Encode, sample z, decode freely and compare, on up to `limit` sentences drawn by `seed`."""
    chosen = choose(sentences, limit, seed)
    return compare_sentences(chosen, decode_freely(model, chosen, seed=seed))


def compare_sentences(sources: Sequence[Sentence], said: Sequence[Sentence]) -> ReconstructionScore:
    """Return how much of some sentences stands in what was said in their place."""
    pairs = list(zip(sources, said, strict=True))
    equal = sum(count_equal(*pair) for pair in pairs)
    longest = sum(max(len(source), len(other)) for source, other in pairs)
    exact = sum(source == other for source, other in pairs)
    return ReconstructionScore(equal / longest, exact / len(pairs), len(pairs))


def count_equal(first: Sentence, second: Sentence) -> int:
    """Return how many tokens are the same at the same places."""
    return sum(a == b for a, b in zip(first, second, strict=False))


@torch.no_grad()
def decode_freely(model: TextVae, sentences: Sequence[Sentence], *, seed: int = 0) -> list[Sentence]:
    """Return what the model makes of each sentence, by greedy decoding from a sampled z."""
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    decoded: list[Sentence] = []
    for start in range(0, len(sentences), _BATCH):
        tokens = pad_batch(sentences[start : start + _BATCH])
        said = model.greedy(model.free_latents(tokens, generator), model.config.max_length)
        decoded += said_words(said)
    model.train(was_training)
    return decoded


def measure_all(model: TextVae, sentences: Sequence[Sentence], *, seed: int = 0) -> dict[str, float]:
    """Return every figure that a checkpoint stores, by name; of a plain language model, none of reconstruction."""
    likelihood = evaluate_likelihood(model, sentences, seed=seed)
    figures = {
        "test_sentences": float(likelihood.sentences),
        "test_tokens": float(likelihood.tokens),
        "reconstruction_nll": likelihood.reconstruction,
        "kl": likelihood.kl,
        "kl_mean_over_steps": likelihood.kl_mean,
        "elbo_nll": likelihood.elbo_nll,
        "elbo_nll_standard_error": likelihood.standard_error,
        "elbo_perplexity": likelihood.perplexity,
        "teacher_forced_accuracy": likelihood.accuracy,
    }
    if not model.config.has_latent:
        return figures
    score = evaluate_reconstruction(model, sentences, seed=seed)
    return figures | {
        "free_running_accuracy": score.token_accuracy,
        "free_running_exact": score.exact,
        "free_running_sentences": float(score.sentences),
    }


def _batches(sentences: Sequence[Sentence]) -> list[list[Sentence]]:
    ordered = sorted(sentences, key=len)
    return [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
