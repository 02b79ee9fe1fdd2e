"""Which waveforms of a run are kept: tiles and nodes by pattern, every how many points, how many bytes at most."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hvae_mnn.circuit.plan import LayerPlan
from hvae_mnn.circuit.spice.tile_deck import saved_nodes
from hvae_mnn.compiler.build import Build
from hvae_mnn.errors import ArtifactError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import cycles_per_read, pulse_step

DEFAULT_LIMIT = 2e9

# Points of a cycle that ngspice 39 leaves: even steps with what edges add; steps that errors control are 240 to 250
# with ideal amplifiers and, where amplifiers have a pole, 370 to 470 (more in small tiles).
_POINTS_OF_EDGES, _POINTS_IDEAL, _POINTS_REAL = 33, 250, 420


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What of the tiles read in time goes to disk.

    Attributes:
        signals: Patterns of node names (`out*`, `hold3`); every saved node if empty.
        every: Each how many time points one is kept; those at the ends of a cycle always are.
        limit: Bytes that the waveforms may take; cycles beyond are not written.
        folder: Where they are written; a temporary folder if not given.
    """

    signals: tuple[str, ...] = ()
    every: int = 1
    limit: float = DEFAULT_LIMIT
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ArtifactError(f"every is {self.every} time points; expected 1 or more")
        if not self.limit > 0:
            raise ArtifactError(f"the limit of waveforms is {self.limit} bytes; expected more than 0")


@dataclass(frozen=True, slots=True)
class WaveformSize:
    """What waveforms will take.

    Attributes:
        tiles: Number of tiles.
        size: Bytes on disk, about.
    """

    tiles: int
    size: float


def choose_tiles(
    layers: Iterable[LayerPlan], hardware: HardwareConfig, patterns: Collection[str], signals: Collection[str] = ()
) -> tuple[frozenset[str], dict[str, int]]:
    """Say which tiles are read in time, and of which waveforms are kept.

    Tiles of dynamic memristors are all read in time; without patterns all of them are kept.

    Args:
        layers: The layers of a Build.
        hardware: Its hardware.
        patterns: Tiles by name or pattern (`encoder1.f.*`); `all` is every tile.
        signals: Nodes by name or pattern; every saved one if empty.

    Returns:
        The tiles read in time, and for each kept tile the number of its nodes.

    Raises:
        ArtifactError: A pattern fits no tile, or no node of those tiles.
    """
    tiles = {tile.name: tile for layer in layers for tile in layer.tiles}
    chosen = _fitting("--waveforms", "tile in the build", list(tiles), ["*" if p == "all" else p for p in patterns])
    dynamic = hardware.array.memristor == "dynamic"
    kept = list(tiles) if dynamic and not patterns else chosen
    nodes = {name: saved_nodes(tiles[name].rows, tiles[name].columns, hardware) for name in kept}
    if signals and kept:
        known = list(dict.fromkeys(node for names in nodes.values() for node in names))
        wanted = set(_fitting("--signals", "node of these tiles", known, signals))
        nodes = {name: [node for node in names if node in wanted] for name, names in nodes.items()}
    counts = {name: len(names) for name, names in nodes.items() if names}
    return frozenset(tiles if dynamic else chosen), counts


def estimate_waveforms(build: Build, patterns: Collection[str], recording: Recording, words: int) -> WaveformSize:
    """Say what the waveforms of a sentence will take.

    Args:
        build: A compiled model.
        patterns: Tiles by name or pattern, as `choose_tiles` takes them.
        recording: What is kept of them.
        words: Length of the sentence; the circuit's own is taken to be the same.

    Raises:
        ArtifactError: A pattern fits nothing, or the waveforms would go beyond the limit.
    """
    hardware = build.manifest.hardware
    _, nodes = choose_tiles(build.manifest.layers, hardware, patterns, recording.signals)
    points = math.ceil(points_per_cycle(hardware) / recording.every) + (recording.every > 1)
    cycles = (words + 2) * cycles_per_read(hardware)
    size = 8.0 * cycles * points * sum(count + 1 for count in nodes.values())
    if size > recording.limit:
        raise ArtifactError(
            f"waveforms of {len(nodes)} tiles would take about {size / 1e9:.3g} GB, the limit is "
            f"{recording.limit / 1e9:g} GB; choose fewer tiles (--waveforms), nodes (--signals 'out*') or "
            "points (--every 10), or raise --waveform-limit"
        )
    return WaveformSize(len(nodes), size)


def points_per_cycle(hardware: HardwareConfig) -> int:
    """Return about how many time points ngspice leaves of a cycle."""
    if hardware.drive.pulsed:
        return math.ceil(hardware.timing.cycle / pulse_step(hardware)) + _POINTS_OF_EDGES
    return _POINTS_IDEAL if hardware.amplifier.gain is None else _POINTS_REAL


def _fitting(option: str, what: str, names: Sequence[str], patterns: Collection[str]) -> list[str]:
    """Return the names that fit a pattern, in their order."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:3])
            every = "all, " if option == "--waveforms" else ""
            raise ArtifactError(f"{option} {pattern}: no such {what}; expected {every}a pattern or one of {some}, ...")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
