"""What compiling a model takes, before it is begun: tiles, memristors, memory and disk."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from quantiphy import Quantity

from hvae_mnn.circuit.spice.tile_deck import format_deck
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.compiler.pipeline import LayerDraft, draft_layers
from hvae_mnn.errors import ArtifactError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint

SURE = 0.7
"""Part of an estimate that is needed for sure: tests hold estimates to 30 % of what is measured."""

_NUMBER = 8  # bytes of a float64
_FILE = 4096  # bytes by which a file's room grows: usual on Linux
_ENTRY = 512  # bytes of the headers of an array in conductance.npz


@dataclass(frozen=True, slots=True)
class BuildSize:
    """What a Build has and takes.

    Attributes:
        tiles: Number of tiles, a deck each.
        memristors: Number of memristors.
        columns: Columns of all gate units, one a gate and hidden unit.
        adcs: Number of ADCs: one a bit line of each tile, so that a column has one in each row tile.
        memory: What compiling and saving add at most to a process that has opened the checkpoint, byte.
        disk: Size of the Build's folder, byte.
    """

    tiles: int
    memristors: int
    columns: int
    adcs: int
    memory: int
    disk: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """The tiles of a layer that have equally many rows and columns.

    Attributes:
        tiles: Number of tiles.
        memristors: Memristors of each.
        deck: Bytes of each deck.
        plan: Bytes of each tile's part of the manifest.
    """

    tiles: int
    memristors: int
    deck: int
    plan: int


def estimate_build(checkpoint: Checkpoint, hardware: HardwareConfig) -> BuildSize:
    """Count a model's tiles, and estimate what compiling it takes.

    Disk: decks, of which one of each shape in a layer is made (without compensation and programming error, which
    change digits only); target and programmed conductances; the manifest; the checkpoint.
    Memory: target and programmed conductances, and what is larger of the layers being cut and the checkpoint
    being saved.

    Raises:
        CheckpointError: The model cannot be compiled.
    """
    layers = draft_layers(checkpoint, hardware)
    shapes = [shape for layer in layers for shape in _weigh_shapes(layer, hardware)]
    tiles, memristors = sum(s.tiles for s in shapes), sum(s.tiles * s.memristors for s in shapes)
    conductances, model = 2 * _NUMBER * memristors, _model_size(checkpoint)
    texts = sum(s.tiles * (-(-s.deck // _FILE) * _FILE + s.plan) for s in shapes)
    return BuildSize(
        tiles=tiles,
        memristors=memristors,
        columns=sum(layer.weights.hidden * len(layer.weights.gates) for layer in layers),
        adcs=sum(block.weights.shape[1] for layer in layers for block in layer.blocks),
        memory=conductances + max(_cutting_memory(layers), 2 * model),  # saved as arrays and as a file, both in memory
        disk=conductances + 2 * _ENTRY * tiles + model + texts,
    )


def check_disk(estimate: BuildSize, folder: Path) -> None:
    """Refuse a Build for which the disk has clearly less room than it takes.

    Raises:
        ArtifactError: With both sizes.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if free < SURE * estimate.disk:
        raise ArtifactError(
            f"{folder}: the build takes about {_about(estimate.disk)} and the disk has {_about(free)} free; "
            "free some space or choose another --out"
        )


def format_estimate(estimate: BuildSize) -> str:
    """Return an estimate as text, with the memory of this process, and a warning where there is clearly too little."""
    whole, free = psutil.Process().memory_info().rss + estimate.memory, psutil.virtual_memory().available
    text = (
        f"{estimate.tiles} tiles, {estimate.memristors} memristors; "
        f"about {_about(whole)} of memory, {_about(estimate.disk)} of disk"
    )
    if free < SURE * estimate.memory:
        text += f"; Warning: only {_about(free)} of memory is free, which may end this: close other programs"
    return text


def _weigh_shapes(layer: LayerDraft, hardware: HardwareConfig) -> Iterator[_Shape]:
    """Map one tile of each shape of a layer and weigh it as text."""
    cycles = layer.cycles
    groups: dict[tuple[int, ...], list[WeightBlock]] = {}
    for block in layer.blocks:
        groups.setdefault(block.weights.shape, []).append(block)
    for blocks in groups.values():
        tile = map_block(blocks[0], cycles, hardware)
        deck = format_deck(tile, layer.plan([tile.plan]), hardware, layer.replay)
        plan = tile.plan.model_dump_json(indent=1)
        yield _Shape(len(blocks), tile.g.size, len(deck), len(plan) + 5 * plan.count("\n"))  # it stands five levels in


def _model_size(checkpoint: Checkpoint) -> int:
    """Return the size of the model's file, byte: weights as they are, calibration in 16 bits."""
    arrays = sum(value.nbytes for value in checkpoint.weights.values())
    words = sum(len(word.encode()) + 1 for word in checkpoint.vocabulary.words)
    return arrays + 2 * sum(value.size for value in checkpoint.calibration.values()) + words


def _cutting_memory(layers: Sequence[LayerDraft]) -> int:
    """Return what cut layers take, byte: weights with their blocks and calibration, and one layer's cycles, twice."""
    held = sum(2 * _weights(layer) + layer.calibration.size for layer in layers)
    return _NUMBER * (held + max(2 * layer.calibration.size for layer in layers))


def _weights(layer: LayerDraft) -> int:
    return sum(gate.weight.size for gate in layer.weights.gates)


def _about(size: int) -> str:
    """Return a size in bytes to two digits."""
    return Quantity(size, "B").render(prec=1)
