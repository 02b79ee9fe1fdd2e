"""What every engine is: codes in, a Reading out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.converters import Converter

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the columns of a layer gave in one cycle, tile after tile as in `LayerPlan.tiles`.

    Attributes:
        codes: ADC codes, (batch, outputs); fractions of full scale where unquantised.
        analog: Column values before the ADC, fractions of full scale, (batch, outputs).
        clipped: Column values beyond the ADC's range, over all cycles of the read, (batch,).

    A bit-serial read is its cycles shifted and added, in units of one cycle's codes.
    """

    codes: Array
    analog: Array
    clipped: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Which engine gave a result.

    Attributes:
        name: `spice`, `nodal` or `software`.
        version: Version of ngspice; empty for the others.
        klu: Whether ngspice solves with KLU.
    """

    name: str
    version: str = ""
    klu: bool = False


@dataclass(frozen=True, slots=True)
class Waveform:
    """Signals of one tile over the cycles read so far.

    Attributes:
        time: Seconds from the start of the first cycle, (points,).
        signals: Volt, (points,), by node name.
        cycle: Length of a cycle, second.
    """

    time: Array
    signals: Mapping[str, Array] = field(repr=False)
    cycle: float


@dataclass(frozen=True, slots=True)
class DeckSource:
    """Where a deck is and what it holds.

    Attributes:
        name: Path in the Build.
        bias: Whether each row is a bias row, whose code never changes.
        columns: Number of columns.
        state_source: Name of the source that holds where a dynamic memristor's state starts, with `{row}` and
            `{column}`; empty where memristors are static.
        noise_sources: Names of the voltage sources that are set anew before each read.
    """

    name: str
    bias: tuple[bool, ...]
    columns: int
    state_source: str = ""
    noise_sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadCycle:
    """How a cycle is run in time.

    Attributes:
        command: ngspice's command for a whole one.
        read: ngspice's command for one whose waveforms nobody wants; None where the sampling state alone decides
            what is read.
        limit: Output at which an integrator saturates, volt; even steps do not find that corner. None where
            steps are not even, or nothing saturates.
        signals: Patterns of the nodes whose waveforms are wanted; every saved one if empty.
        every: Each how many time points of a waveform one is wanted.
    """

    command: str
    read: str | None
    limit: float | None
    signals: tuple[str, ...] = ()
    every: int = 1

    def wants(self, node: str) -> bool:
        """Say whether the waveform of a node is wanted."""
        return not self.signals or any(fnmatchcase(node, pattern) for pattern in self.signals)


class Engine(Protocol):
    """Reads layers. Every engine passes `tests/equalities/`."""

    info: EngineInfo
    dac: Converter
    adc: Converter

    def step(self, codes: Mapping[str, Array]) -> dict[str, Reading]:
        """Read some layers once.

        Args:
            codes: For each layer to read, DAC codes (batch, inputs).
        """

    def begin(self, number: int) -> None:
        """Begin a batch of sentences: noise depends on its number, and not on what was read before."""

    def skip(self, codes: Mapping[str, Array]) -> None:
        """Let a step pass that was read before an interruption: noise goes on as if it were read now."""

    def states(self) -> Mapping[str, Mapping[str, float]]:
        """Return what reads have left in the engine: states of dynamic memristors that moved, by tile and cell."""

    def restore(self, states: Mapping[str, Mapping[str, float]]) -> None:
        """Take over what `states` returned."""

    def close(self) -> None:
        """Free what the engine holds; it cannot be used afterwards."""

    def __enter__(self) -> Self:
        """Return the engine, to be closed at the end of a `with` block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""


class ClosingEngine:
    """The `with` block of engines, and an engine without noise or memory."""

    def begin(self, number: int) -> None:
        """Begin a batch of sentences."""

    def skip(self, codes: Mapping[str, Array]) -> None:
        """Let a step pass."""

    def states(self) -> Mapping[str, Mapping[str, float]]:
        """Return nothing."""
        return {}

    def restore(self, states: Mapping[str, Mapping[str, float]]) -> None:
        """Take over nothing."""

    def close(self) -> None:
        """Free what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
