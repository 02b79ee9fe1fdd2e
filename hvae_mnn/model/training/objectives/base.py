"""What an objective may decide: wiring, weight of the KL, loss, update rule, what is judged and what is kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from hvae_mnn.model.evaluation.measures import Likelihood
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.text.corpus import Sentence

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Option:
    """A number that an objective takes.

    Attributes:
        default: Its value where none is given.
        meaning: What it is, for the command line's errors and the documentation.
        least: Smallest value.
        most: Largest value; of counts one that is far beyond use and still fits into memory.
        whole: Whether it is a whole number.
    """

    default: float
    meaning: str
    least: float = 0.0
    most: float = math.inf
    whole: bool = False


class Trainer(Protocol):
    """What an update rule may ask of the training run."""

    def update(self, sentences: Sequence[Sentence], parts: str = "all") -> float:
        """Take one optimiser step on a batch; return the loss.

        Args:
            sentences: The batch.
            parts: Which parameters move: `all`, `encoder` or `decoder`.
        """

    def draw_batch(self) -> Sequence[Sentence]:
        """Return a batch of the epoch at random, from torch's own generator."""


class Objective:
    """Reconstruction plus the weighted KL of all latents that drive the decoder: the negative ELBO.

    Others say only what they do differently. One object serves one training run; what it remembers between batches
    goes through `state` and `restore`, so that an interrupted run continues to the same bits.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Option]] = {}
    latent_modes: ClassVar[tuple[str, ...]] = ("last", "per-step")
    """Latent modes that make sense; the first is what the command line takes where none is given."""
    encoder_layers: ClassVar[tuple[int, ...]] = (1, 2)
    """How many encoder layers there may be."""
    judged: ClassVar[int | None] = None
    """Validation sentences, the first so many, that an epoch is judged on; None for all."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Training options that the command line sets where they are not given."""

    def __init__(self, values: Mapping[str, float], kl_warmup: float) -> None:
        self.values, self.kl_warmup = dict(values), kl_warmup

    @classmethod
    def wiring(cls, values: Mapping[str, float]) -> dict[str, Any]:
        """Return what the model's config has other than usual."""
        return {}

    def prepare(self, model: TextVae) -> None:
        """Change the untrained model, before its optimiser is made."""

    def kl_weight(self, epochs_done: float, epochs: int) -> float:
        """Return the weight of the KL; it rises linearly to 1 over `kl_warmup` epochs (Bowman et al. 2016)."""
        return min(1.0, epochs_done / self.kl_warmup) if self.kl_warmup else 1.0

    def loss(self, model: TextVae, tokens: Tensor, kl_weight: float) -> Tensor:
        """Return what a batch (B, T) costs, nats a sentence, a scalar."""
        return model.losses(tokens, kl_weight=kl_weight).negative_elbo(model.config.latent_mode, kl_weight)

    def step(self, trainer: Trainer, sentences: Sequence[Sentence]) -> float:
        """Do all that a batch is worth; return its loss."""
        return trainer.update(sentences)

    def judge(self, found: Likelihood) -> float:
        """Return what the best epoch is chosen by, on the validation split, nats a sentence."""
        return found.elbo_nll

    def end_epoch(self, model: TextVae, valid: Sequence[Sentence], seed: int) -> None:
        """Look at the model after an epoch."""

    def state(self) -> dict[str, Any]:
        """Return what is to be remembered, as plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""

    def exported(self, weights: Weights) -> Weights:
        """Return the weights of an ordinary model from those in training."""
        return weights


def parameters_of(model: TextVae, parts: str) -> list[torch.nn.Parameter]:
    """Return the parameters of `encoder` (what makes q(z | x)), of `decoder` (all others), or `all`."""
    encoder = ("encoder_embedding.", "encoder1.", "encoder2.", "mu.", "logvar.", "mu_norm.", "flow.")
    return [
        value
        for name, value in model.named_parameters()
        if parts == "all" or name.startswith(encoder) == (parts == "encoder")
    ]
