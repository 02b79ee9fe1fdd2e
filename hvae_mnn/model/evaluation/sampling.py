"""Sentences said from z of the prior, whether that is N(0, 1) or learned.

Shapes: `B` sentences, `S` steps, `L` latent.
"""

import torch
from torch import Tensor

from hvae_mnn.model.evaluation.posterior_kinds import follow_prior, without_dropout
from hvae_mnn.model.network.batches import said_words
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.text.corpus import Sentence


@torch.no_grad()
def say_from_prior(model: TextVae, eps: Tensor) -> list[Sentence]:
    """Decode freely, at each step the most likely word, with z from the prior.

    Args:
        model: A model with a latent.
        eps: Standard normal numbers: (B, 1, L) for a latent of the whole sentence, else (B, S, L), where no more than
            S words are said.

    Raises:
        CheckpointError: The model is a plain language model.
    """
    model.config.check_has_latent()
    limit = (
        model.config.max_length if model.config.latent_mode == "last" else min(model.config.max_length, eps.shape[1])
    )
    with without_dropout(model):
        if model.config.prior == "learned":
            return said_words(follow_prior(model, eps[:, :limit])[1][:, 1:])
        return said_words(model.greedy(eps, limit))
