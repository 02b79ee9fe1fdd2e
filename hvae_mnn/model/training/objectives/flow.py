"""A posterior moved by planar flows."""

from collections.abc import Mapping
from typing import Any, ClassVar

from hvae_mnn.model.training.objectives.base import Objective, Option


class Flow(Objective):
    """The ELBO at the encoder's Gaussian moved by `layers` planar flows, with a skip connection of z to the words.

    Flows: Rezende & Mohamed 2015, Variational Inference with Normalizing Flows, ICML, arXiv:1505.05770; their
    parameters are the encoder's outputs. For text with a skip connection: after Chien & Luo 2022, Flow-Based
    Variational Sequence Autoencoder, APSIPA ASC. log q(z | x) is exact; its KL is a mean over draws.
    """

    name = "flow"
    options: ClassVar[Mapping[str, Option]] = {
        "layers": Option(4, "planar flows one after another", least=1, most=100, whole=True)
    }
    latent_modes: ClassVar[tuple[str, ...]] = ("last",)
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 10.0}

    @classmethod
    def wiring(cls, values: Mapping[str, float]) -> dict[str, Any]:
        """Return a posterior by flows."""
        return {"posterior": "flow", "posterior_steps": int(values["layers"])}
