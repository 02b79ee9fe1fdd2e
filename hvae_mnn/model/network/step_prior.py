"""A prior for each step that is learned: p(z_t | z_<t, x_<=t) from the decoder's state.

After VRNN (Chung et al. 2015, arXiv:1506.02216) and VRNMT (Su et al. 2018, arXiv:1801.05119), whose priors read the
recurrent state before the step. Shapes: `B` sentences, `S` decoder steps, `E` embedding, `H` hidden, `L` latent.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hvae_mnn.model.network.batches import best_token
from hvae_mnn.model.text.corpus import SOS

if TYPE_CHECKING:
    from hvae_mnn.model.network.vae import TextVae


class StepPrior(nn.Module):
    """Mean and log variance of the latent that drives a step, from what the decoder knew before it.

    It reads the decoder's h of the step before (zero at the first, whose own h starts from z_1) and the word that
    the step reads: all of z_<t and x_<=t, and nothing of the word x_{t+1} that the step predicts.
    """

    def __init__(self, embedding: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.inner = nn.Linear(embedding + hidden, hidden)
        self.mu = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent)

    def forward(self, words: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar (B, S, L) from embedded words (B, S, E) and the decoder's outputs (B, S, H)."""
        return self.at_step(words, torch.cat([torch.zeros_like(hidden[:, :1]), hidden[:, :-1]], dim=1))

    def at_step(self, words: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar (..., L) from embedded words (..., E) and the decoder's h before them (..., H)."""
        inner = torch.tanh(self.inner(torch.cat([words, before], dim=-1)))
        return self.mu(inner), self.logvar(inner)


def follow_prior(model: "TextVae", eps: Tensor, inputs: Tensor | None = None) -> tuple[Tensor, Tensor]:
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
