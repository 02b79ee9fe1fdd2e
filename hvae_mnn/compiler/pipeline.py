"""compile_model: Checkpoint and HardwareConfig to Build, one pass after another."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

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
class CutLayer:
    """A layer cut to tile size, ready to be mapped.

    Attributes:
        weights: The layer.
        groups: Its groups of inputs with their full scales.
        blocks: The weights of its tiles.
        calibration: Its inputs in calibration, fractions of full scale, (samples, inputs).
    """

    weights: LayerWeights
    groups: tuple[GroupPlan, ...]
    blocks: tuple[WeightBlock, ...]
    calibration: Array

    @property
    def replay(self) -> Array:
        """The input that a bare run of its decks replays, fractions of full scale, (inputs,)."""
        return np.asarray(self.calibration[len(self.calibration) // 2])

    def plan(self, tiles: Iterable[TilePlan]) -> LayerPlan:
        """Return the layer's plan with some tiles."""
        weights = self.weights
        gates = tuple(gate.gate for gate in weights.gates)
        return LayerPlan(
            name=weights.name,
            cell=weights.cell,
            hidden=weights.hidden,
            groups=self.groups,
            gates=gates,
            tiles=tuple(tiles),
        )


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
    cut = cut_model(checkpoint, hardware)
    total = sum(len(layer.blocks) for layer in cut)
    layers: list[LayerPlan] = []
    tiles: dict[str, Tile] = {}
    for layer in cut:
        mapped: list[Tile] = []
        for tile in map_layer(layer, hardware):
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


def draw_die(build: Build, seed: int) -> Build:
    """Return another die of a Build, in memory: what compiling with `device.seed` = seed gives, cells drawn alone."""
    hardware = build.manifest.hardware
    device = hardware.device.model_copy(update={"seed": seed})
    hardware = hardware.model_copy(update={"device": device})
    tiles = {name: _program(tile, hardware) for name, tile in build.tiles.items()}
    manifest = build.manifest.model_copy(update={"hardware": hardware})
    return Build(manifest, tiles, build.checkpoint)


def compile_layer(
    weights: LayerWeights, checkpoint: Checkpoint, hardware: HardwareConfig
) -> tuple[LayerPlan, list[Tile], Array]:
    """Return a layer's plan, its tiles, and its calibration inputs as fractions of full scale."""
    layer = _cut_layer(weights, checkpoint, hardware)
    tiles = list(map_layer(layer, hardware))
    return layer.plan(tile.plan for tile in tiles), tiles, layer.calibration


def cut_model(checkpoint: Checkpoint, hardware: HardwareConfig) -> tuple[CutLayer, ...]:
    """Choose the full scales of a model's inputs and cut its layers to tile size.

    Raises:
        CheckpointError: As `compile_model`.
    """
    return tuple(_cut_layer(weights, checkpoint, hardware) for weights in checkpoint.layer_weights())


def map_layer(layer: CutLayer, hardware: HardwareConfig) -> Iterator[Tile]:
    """Yield a layer's tiles, compensated and programmed as the hardware has it."""
    cycles = cycle_inputs(layer.calibration, hardware)
    full_scale = shared_full_scale(layer.blocks, cycles, hardware.adc)
    for block in layer.blocks:
        yield _program(compensate_tile(map_block(block, cycles, hardware, full_scale), hardware), hardware)


def _cut_layer(weights: LayerWeights, checkpoint: Checkpoint, hardware: HardwareConfig) -> CutLayer:
    largest = _ranges(checkpoint.ranges, weights.name)
    samples = checkpoint.calibration[weights.name].astype(np.float64)
    groups = plan_groups(weights, group_ranges(weights, samples, largest, hardware.dac))
    x_max = np.repeat([group.x_max for group in groups], [group.size for group in groups])
    calibration = converted_inputs(samples / x_max, hardware.dac)
    return CutLayer(weights, groups, tuple(cut_blocks(weights, groups, hardware.array)), calibration)


def _program(tile: Tile, hardware: HardwareConfig) -> Tile:
    """Give a tile's cells the conductances that programming leaves them with."""
    return replace(tile, g=program_conductances(tile.g_target, tile.plan.name, hardware))


def _ranges(ranges: Mapping[str, Mapping[str, float]], layer: str) -> Mapping[str, float]:
    if layer not in ranges:
        raise CheckpointError(
            f"the checkpoint has no calibration for {layer}, which sets the converters' full scales; "
            "expected one made by: hvae-mnn train"
        )
    return ranges[layer]
