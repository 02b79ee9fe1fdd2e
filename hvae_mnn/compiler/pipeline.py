"""Checkpoint and HardwareConfig to Build, one pass after another: LAYER_PASSES, then `map_block` and TILE_PASSES."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.encoding import cycle_inputs
from hvae_mnn.circuit.plan import GroupPlan, LayerPlan, Tile, TilePlan
from hvae_mnn.circuit.variation import program_conductances
from hvae_mnn.compiler.blocks import WeightBlock, cut_blocks, plan_groups
from hvae_mnn.compiler.build import Build, Manifest
from hvae_mnn.compiler.compensation import compensate_tile
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.compiler.ranges import converted_inputs, group_ranges, shared_full_scale
from hvae_mnn.errors import CheckpointError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.layers import LayerWeights
from hvae_mnn.runtime.progress import Progress

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LayerDraft:
    """A layer on its way onto crossbars; each pass fills in its part.

    Attributes:
        weights: The layer.
        hardware: What it is compiled for.
        samples: Its inputs in calibration, (samples, inputs).
        largest: For each group of inputs, the largest magnitude in training sentences.
        groups: Its groups of inputs with their full scales. From `choose_ranges`.
        calibration: The samples as fractions of full scale, (samples, inputs). From `choose_ranges`.
        blocks: The weights of its tiles. From `cut_tiles`.
        full_scale: The gate sum at ADC full scale that its tiles share; None where each has its own. From `cut_tiles`.
    """

    weights: LayerWeights
    hardware: HardwareConfig
    samples: Array
    largest: Mapping[str, float]
    groups: tuple[GroupPlan, ...] = ()
    calibration: Array = field(default_factory=lambda: np.zeros((0, 0)))
    blocks: tuple[WeightBlock, ...] = ()
    full_scale: float | None = None

    @classmethod
    def of_layer(cls, weights: LayerWeights, checkpoint: Checkpoint, hardware: HardwareConfig) -> Self:
        """Begin with a layer's weights and its calibration.

        Raises:
            CheckpointError: The checkpoint has none for it, or a damaged one.
        """
        if weights.name not in checkpoint.ranges:
            raise CheckpointError(
                f"the checkpoint has no calibration for {weights.name}, which sets the converters' full scales; "
                "expected one made by: hvae-mnn train"
            )
        samples, largest = checkpoint.calibration.get(weights.name), checkpoint.ranges[weights.name]
        rows = sum(group.size for group in weights.groups)
        sound = samples is not None and samples.ndim == 2 and samples.shape[1] == rows and len(samples) > 0
        values = [largest.get(group.name, np.nan) for group in weights.groups]
        if samples is None or not sound or not np.isfinite(samples).all() or not all(0 < v < np.inf for v in values):
            raise CheckpointError(
                f"the checkpoint's calibration of {weights.name} is damaged; expected finite samples of {rows} inputs "
                "and a finite range above 0 for each group of them. Calibrate or train the model again."
            )
        return cls(weights, hardware, samples.astype(np.float64), largest)

    @property
    def cycles(self) -> Array:
        """What its rows carry in calibration cycle by cycle, fractions of full scale, (cycles, inputs)."""
        return cycle_inputs(self.calibration, self.hardware)

    @property
    def replay(self) -> Array:
        """The input that a bare run of its decks replays, fractions of full scale, (inputs,)."""
        return np.asarray(self.calibration[len(self.calibration) // 2])

    def plan(self, tiles: Iterable[TilePlan]) -> LayerPlan:
        """Return the layer's plan with some tiles."""
        weights = self.weights
        return LayerPlan(
            name=weights.name,
            cell=weights.cell,
            hidden=weights.hidden,
            groups=self.groups,
            gates=tuple(gate.gate for gate in weights.gates),
            tiles=tuple(tiles),
        )


def choose_ranges(layer: LayerDraft) -> LayerDraft:
    """Choose the full scale of each group of inputs."""
    dac = layer.hardware.dac
    groups = plan_groups(layer.weights, group_ranges(layer.weights, layer.samples, layer.largest, dac))
    x_max = np.repeat([group.x_max for group in groups], [group.size for group in groups])
    return replace(layer, groups=groups, calibration=converted_inputs(layer.samples / x_max, dac))


def cut_tiles(layer: LayerDraft) -> LayerDraft:
    """Fold full scales into the weights, add bias rows, cut to tile size; find the sum that tiles may share."""
    blocks = tuple(cut_blocks(layer.weights, layer.groups, layer.hardware.array))
    return replace(layer, blocks=blocks, full_scale=shared_full_scale(blocks, layer.cycles, layer.hardware.adc))


def compensate_wires(tile: Tile, layer: LayerDraft) -> Tile:
    """Take conductances that amount to the weights behind the wires, where the hardware asks for it."""
    return compensate_tile(tile, layer.hardware)


def program_cells(tile: Tile, layer: LayerDraft) -> Tile:
    """Give a tile's cells the conductances that programming leaves them with."""
    return _program(tile, layer.hardware)


LAYER_PASSES: tuple[Callable[[LayerDraft], LayerDraft], ...] = (choose_ranges, cut_tiles)
"""What becomes of a layer, in order."""
TILE_PASSES: tuple[Callable[[Tile, LayerDraft], Tile], ...] = (compensate_wires, program_cells)
"""What becomes of each of its blocks once `map_block` has made conductances of its weights, in order."""


def compile_model(
    checkpoint: Checkpoint, hardware: HardwareConfig, hardware_name: str, progress: Progress | None = None
) -> Build:
    """Compile a trained model onto crossbars, in memory.

    Args:
        checkpoint: The trained model.
        hardware: The hardware.
        hardware_name: What the Build calls it.
        progress: Called with a stage, the tiles done and all.

    Raises:
        CheckpointError: The checkpoint has no calibration to set full scales with, or is a plain language model.
    """
    drafts = draft_layers(checkpoint, hardware)
    total = sum(len(layer.blocks) for layer in drafts)
    layers: list[LayerPlan] = []
    tiles: dict[str, Tile] = {}
    for layer in drafts:
        mapped: list[Tile] = []
        for tile in map_tiles(layer):
            mapped.append(tile)
            if progress is not None:
                progress("tiles compiled", len(tiles) + len(mapped), total)
        tiles |= {tile.plan.name: tile for tile in mapped}
        layers.append(layer.plan(tile.plan for tile in mapped))
    manifest = Manifest(
        model_hash=checkpoint.content_hash(),
        hardware_name=hardware_name,
        hardware=hardware,
        layers=tuple(layers),
    )
    return Build(manifest, tiles, checkpoint)


def draft_layers(checkpoint: Checkpoint, hardware: HardwareConfig) -> tuple[LayerDraft, ...]:
    """Return a model's layers after LAYER_PASSES.

    Raises:
        CheckpointError: As `compile_model`.
    """
    return tuple(draft_layer(weights, checkpoint, hardware) for weights in checkpoint.layer_weights())


def draft_layer(weights: LayerWeights, checkpoint: Checkpoint, hardware: HardwareConfig) -> LayerDraft:
    """Return one layer after LAYER_PASSES."""
    layer = LayerDraft.of_layer(weights, checkpoint, hardware)
    for step in LAYER_PASSES:
        layer = step(layer)
    return layer


def map_tiles(layer: LayerDraft) -> Iterator[Tile]:
    """Yield a layer's tiles after TILE_PASSES."""
    cycles = layer.cycles
    for block in layer.blocks:
        tile = map_block(block, cycles, layer.hardware, layer.full_scale)
        for step in TILE_PASSES:
            tile = step(tile, layer)
        yield tile


def draw_die(build: Build, seed: int) -> Build:
    """Return another die of a Build, in memory: what compiling with `device.seed` = seed gives, cells drawn alone."""
    hardware = build.manifest.hardware
    device = hardware.device.model_copy(update={"seed": seed})
    hardware = hardware.model_copy(update={"device": device})
    tiles = {name: _program(tile, hardware) for name, tile in build.tiles.items()}
    manifest = build.manifest.model_copy(update={"hardware": hardware})
    return Build(manifest, tiles, build.checkpoint)


def _program(tile: Tile, hardware: HardwareConfig) -> Tile:
    return replace(tile, g=program_conductances(tile.g_target, tile.plan.name, hardware))
