"""A latent for each step with a prior of its own."""

from collections.abc import Mapping
from typing import Any, ClassVar

from hvae_mnn.model.training.objectives.base import Objective


class LearnedPrior(Objective):
    """The ELBO of a latent for each step: reconstruction + sum_t KL(q(z_t | x_<=t+1), p(z_t | z_<t, x_<=t)).

    After Su, Wu, Xiong, Lu, Han & Zhang 2018, Variational Recurrent Neural Machine Translation, AAAI,
    arXiv:1801.05119, and Chung, Kastner, Dinh, Goel, Courville & Bengio 2015, A Recurrent Latent Variable Model for
    Sequential Data, NeurIPS, arXiv:1506.02216. z_t drives the step that reads x_t and predicts x_{t+1}: its posterior
    reads the encoder at x_{t+1}, its prior (`hvae_mnn.model.network.step_prior`) nothing later than x_t. Posteriors of
    different steps are independent given the sentence.
    """

    name = "prior"
    latent_modes: ClassVar[tuple[str, ...]] = ("per-step",)
    defaults: ClassVar[Mapping[str, Any]] = {"latent_mode": "per-step", "kl_warmup": 10.0}

    @classmethod
    def wiring(cls, values: Mapping[str, float]) -> dict[str, Any]:
        """Return a learned prior."""
        return {"prior": "learned"}
