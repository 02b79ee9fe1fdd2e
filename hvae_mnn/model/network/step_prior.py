"""A prior for each step that is learned: p(z_t | z_<t, x_<=t) from the decoder's state.

After VRNN (Chung et al. 2015, arXiv:1506.02216) and VRNMT (Su et al. 2018, arXiv:1801.05119), whose priors read the
recurrent state before the step. Shapes: `B` sentences, `S` decoder steps, `E` embedding, `H` hidden, `L` latent.
"""

import torch
from torch import Tensor, nn


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
