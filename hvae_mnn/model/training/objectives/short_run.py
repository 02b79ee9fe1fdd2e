"""No encoder: latents by short-run inference dynamics."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.training.objectives.base import Objective, Option


class ShortRun(Objective):
    """-log p(x | z) where `steps` Langevin steps of size `rate` on p(z | x) lead from a draw of the prior.

    Nijkamp, Pang, Han, Zhou, Zhu & Wu 2020, Learning Multi-layer Latent Variable Model via Variational Optimization of
    Short Run MCMC for Approximate Inference, ECCV, arXiv:1912.01909; for text Pang, Nijkamp, Han & Wu 2021, Generative
    Text Modeling through Short Run Inference, EACL, arXiv:2106.02513. Variant: the size of the steps is
    an option, where the former fit it while they train. The training loss is no bound: the density of the end point is
    not known. Whatever is reported, and what the best epoch is chosen by, is a bound of another posterior: a Gaussian
    fitted to each sentence from the end point on (`hvae_mnn.model.network.refinement.fit_gaussian`).
    """

    name = "short-run"
    options: ClassVar[Mapping[str, Option]] = {
        "steps": Option(20, "Langevin steps", least=1, most=1000, whole=True),
        "rate": Option(0.3, "their size", least=1e-6),
    }
    latent_modes: ClassVar[tuple[str, ...]] = ("last",)
    judged: ClassVar[int | None] = 500  # fitting one takes 60 gradient steps through the decoder
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 0.0}

    @classmethod
    def wiring(cls, values: Mapping[str, float]) -> dict[str, Any]:
        """Return a posterior by Langevin dynamics."""
        return {"posterior": "langevin", "posterior_steps": int(values["steps"]), "posterior_rate": values["rate"]}

    def loss(self, model: TextVae, tokens: Tensor, kl_weight: float) -> Tensor:
        """Return the reconstruction at the end point, through which no gradient goes."""
        return model.losses_at(tokens, model.explore(tokens)).reconstruction().mean()
