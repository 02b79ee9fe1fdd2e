"""Sentences said from z of the prior, whether that is N(0, 1) or learned.

Shapes: `B` sentences, `S` steps, `L` latent.
"""

import torch
from torch import Tensor

from hvae_mnn.model.corpus import EOS, PAD, SOS, Sentence
from hvae_mnn.model.posterior_kinds import without_dropout
from hvae_mnn.model.vae import TextVae, best_token


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
        said = _follow_prior(model, eps, limit) if model.config.prior == "learned" else model.greedy(eps, limit)
    rows = [row[: row.index(EOS)] if EOS in row else row for row in said.tolist()]
    return [tuple(word for word in row if word != PAD) for row in rows]


def _follow_prior(model: TextVae, eps: Tensor, limit: int) -> Tensor:
    """Draw each latent from what was said and drawn before it, (B, limit); what follows `<eos>` has no meaning."""
    word = torch.full((len(eps),), SOS)
    before, state, said = eps.new_zeros((len(eps), model.config.hidden_sizes[-1])), None, []
    for step in range(limit):
        read = model.decoder_embedding(word)
        mu, logvar = model.prior.at_step(read, before)
        z = mu + torch.exp(logvar / 2) * eps[:, step]
        hidden, state = model.decoder(
            torch.cat([read, z], dim=1)[:, None], model.first_state(z) if state is None else state
        )
        before = hidden[:, 0]
        word = best_token(model.output(before))
        said.append(word)
    return torch.stack(said, dim=1)
