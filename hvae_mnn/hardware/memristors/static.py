"""A device known by what it conducts and how far off that is: it can be read, not programmed."""

from typing import Literal

from hvae_mnn.hardware.memristors.base import Memristor


class StaticMemristor(Memristor):
    """A device known by its conductances and errors only."""

    model: Literal["static"]
