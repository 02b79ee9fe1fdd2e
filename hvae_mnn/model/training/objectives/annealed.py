"""Schedules of the KL's weight."""

from collections.abc import Mapping
from typing import Any, ClassVar

from hvae_mnn.model.training.objectives.base import Objective, Option


class Annealed(Objective):
    """The ELBO, with a weight of the KL that rises linearly over the first epochs (`kl_warmup`).

    Bowman, Vilnis, Vinyals, Dai, Jozefowicz & Bengio 2016, Generating Sentences from a Continuous Space, CoNLL,
    arXiv:1511.06349 (there the rise is a sigmoid).
    """

    name = "vae"
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 10.0}


class Cyclical(Objective):
    """The ELBO, with a weight of the KL that rises from 0 to 1 again and again.

    Fu, Li, Liu, Gao, Celikyilmaz & Carin 2019, Cyclical Annealing Schedule: A Simple Approach to Mitigating KL
    Vanishing, NAACL, arXiv:1903.10145, eqs. 6-7: training is cut into `cycles` equal parts; within each the weight
    rises linearly over the first share `ratio`, and is 1 for the rest.
    """

    name = "cyclical"
    options: ClassVar[Mapping[str, Option]] = {
        "cycles": Option(4, "cycles of the whole training", least=1, most=1000, whole=True),
        "ratio": Option(0.5, "share of a cycle in which the weight rises", most=1),
    }
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 0.0}

    def kl_weight(self, epochs_done: float, epochs: int) -> float:
        """Return the weight of the KL: beta(tau) = min(1, tau / ratio), tau the place in the cycle."""
        place = (epochs_done / epochs * self.values["cycles"]) % 1
        return min(1.0, place / self.values["ratio"]) if self.values["ratio"] else 1.0
