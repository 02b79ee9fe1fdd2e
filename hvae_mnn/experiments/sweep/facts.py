"""What statistics and figures of a sweep need to know of its plan."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class AxisFacts(Protocol):
    """What varies: a key of the hardware, or several that move together, and its values in order."""

    @property
    def key(self) -> str:
        """Key, as `--axis` names it."""

    @property
    def values(self) -> Sequence[Any]:
        """Numbers, or names of choices."""


class StudyFacts(Protocol):
    """A grid over some axes; its points are numbered from 0, the first axis varying slowest."""

    @property
    def name(self) -> str:
        """Name, as the rows have it."""

    @property
    def axes(self) -> Sequence[AxisFacts]:
        """At least one."""


class SweepFacts(Protocol):
    """What a summary and a figure need to know of a sweep's plan."""

    @property
    def studies(self) -> Sequence[StudyFacts]:
        """Studies, in order."""

    @property
    def software(self) -> Mapping[str, float]:
        """Figures of the software model: reconstruction, kl and elbo, nats a sentence."""

    @property
    def yield_at(self) -> float:
        """Least share of words at which a die counts as good."""

    @property
    def corpus(self) -> str:
        """Where the sentences are from."""

    @property
    def sentences(self) -> Sequence[int]:
        """Places in the corpus of the sentences that every trial takes."""

    @property
    def hardware_name(self) -> str:
        """Preset or file, with what was set."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def seed(self) -> int:
        """Seed of the first die."""
