"""A posterior that the encoder begins and gradient steps finish."""

from collections.abc import Mapping
from typing import Any, ClassVar

from hvae_mnn.model.training.objectives.base import Objective, Option


class SemiAmortised(Objective):
    """The ELBO at a Gaussian that `steps` gradient steps of size `rate` have refined for each sentence.

    Kim, Wiseman, Miller, Sontag & Rush 2018, Semi-Amortized Variational Autoencoders, ICML, arXiv:1802.02550,
    algorithm 1. Variant: back-propagation goes through all steps in full, second derivatives included, so that the
    encoder learns where steps start well; only the factor by which a sentence's gradient is clipped (norm 5) counts as
    constant, and the steps have no momentum. The steps are part of the model: evaluation takes as many, with fixed
    noise. Hardware runs the encoder alone.
    """

    name = "sa"
    options: ClassVar[Mapping[str, Option]] = {
        "steps": Option(10, "gradient steps for each sentence", least=1, most=1000, whole=True),
        "rate": Option(1.0, "their size", least=1e-6),
    }
    latent_modes: ClassVar[tuple[str, ...]] = ("last",)
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 10.0}

    @classmethod
    def wiring(cls, values: Mapping[str, float]) -> dict[str, Any]:
        """Return a posterior by SVI."""
        return {"posterior": "svi", "posterior_steps": int(values["steps"]), "posterior_rate": values["rate"]}
