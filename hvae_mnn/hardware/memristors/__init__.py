"""Memristor models, a file each. `MODELS` registers them: a configuration names one as `memristor.model`."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from hvae_mnn.hardware.memristors.aist import AistMemristor
from hvae_mnn.hardware.memristors.base import DynamicMemristor, Memristor
from hvae_mnn.hardware.memristors.static import StaticMemristor

__all__ = ["MODELS", "AistMemristor", "AnyMemristor", "DynamicMemristor", "Memristor", "StaticMemristor"]

MODELS: dict[str, type[Memristor]] = {"aist": AistMemristor, "static": StaticMemristor}


def _model_of(memristor: Any) -> str:
    """Return which model a section is for; it may leave `aist` out."""
    return str(memristor.get("model", "aist") if isinstance(memristor, dict) else getattr(memristor, "model", "aist"))


AnyMemristor = Annotated[
    Annotated[AistMemristor, Tag("aist")] | Annotated[StaticMemristor, Tag("static")], Discriminator(_model_of)
]
