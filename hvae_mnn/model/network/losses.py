"""What a batch costs, and the two operations that every latent needs: drawing it, and its KL divergence.

Shapes: `B` sentences, `T` tokens with `<sos>` and `<eos>`, `L` latent, `V` vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """What a batch costs, nats.

    Attributes:
        token_nll: -log p of each predicted token given the sampled z, (tokens,).
        logits: Scores of every word at each predicted token, (tokens, V).
        targets: The words that were there, (tokens,).
        sentence: Which sentence of the batch each predicted token belongs to, (tokens,).
        kl: KL of each step's posterior from the prior, zero on padding, (B, T). Of a flow one draw's, at the last
            token alone; under a learned prior that of the latent which drives step t stands at t.
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

    def negative_elbo(self, latent_mode: str, kl_weight: float = 1.0) -> Tensor:
        """Return the mean over the batch of reconstruction + kl_weight KL of all driving latents, a scalar."""
        return (self.reconstruction() + kl_weight * self.kl_driving(latent_mode)).mean()


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(0, 1)) summed over the last axis, nats.

    -1/2 sum(1 + logvar - mu^2 - exp(logvar)). The paper's eq. 5 prints +mu^2, which would reward a
    mean far from zero without limit: mended here.
    """
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(-1)


def kl_between(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))) summed over the last axis, nats."""
    distance = (mu - prior_mu).square() * torch.exp(-prior_logvar)
    return 0.5 * (prior_logvar - logvar + torch.exp(logvar - prior_logvar) + distance - 1).sum(-1)


def sample(mu: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw mu + exp(logvar / 2) * eps with eps standard normal (reparameterisation)."""
    eps = torch.randn(mu.shape, generator=generator, dtype=mu.dtype)
    return mu + torch.exp(logvar / 2) * eps
