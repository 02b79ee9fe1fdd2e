"""Hierarchical and timestep-wise regularisation: the KL of every step, averaged."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from hvae_mnn.model.evaluation.measures import Likelihood
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.training.objectives.base import Objective


class Hsr(Objective):
    """Reconstruction + (1/T) sum_t KL_t with two encoder layers.

    Hu & Yang 2023, J. Electronics & Information Technology 45(2):689-697, doi 10.11999/JEIT211431. The sum is no bound:
    the decoder is given z_T, which pays a T-th of its KL.
    """

    name = "hsr"
    latent_modes: ClassVar[tuple[str, ...]] = ("last", "per-step", "none")
    encoder_layers: ClassVar[tuple[int, ...]] = (2,)

    def loss(self, model: TextVae, tokens: Tensor, kl_weight: float) -> Tensor:
        """Return reconstruction + kl_weight (1/T) sum_t KL_t."""
        return model.losses(tokens).objective(kl_weight)

    def judge(self, found: Likelihood) -> float:
        """Return the training loss."""
        return found.objective


class Twr(Hsr):
    """The same with one encoder layer.

    Li, Li, Chen & Lin 2020, Improving Variational Autoencoder for Text Modelling with Timestep-Wise Regularisation,
    COLING, arXiv:2011.01136.
    """

    name = "twr"
    latent_modes: ClassVar[tuple[str, ...]] = ("last", "per-step")
    encoder_layers: ClassVar[tuple[int, ...]] = (1,)
    defaults: ClassVar[Mapping[str, Any]] = {"encoder": ("lstm",)}


class LanguageModel(Hsr):
    """A plain language model: the decoder alone, without a latent. Its likelihood is exact."""

    name = "lm"
    latent_modes: ClassVar[tuple[str, ...]] = ("none",)
    encoder_layers: ClassVar[tuple[int, ...]] = (1, 2)  # there is none, whatever the command it stands beside had
    defaults: ClassVar[Mapping[str, Any]] = {"latent_mode": "none"}
