"""compile_model: Checkpoint and HardwareConfig to Build, one pass after another."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.build import Build, Manifest
from hvae_mnn.compiler.blocks import cut_blocks, plan_groups
from hvae_mnn.compiler.compensation import compensate_tile
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.compiler.ranges import converted_inputs, group_ranges, shared_full_scale
from hvae_mnn.errors import CheckpointError
from hvae_mnn.hardware import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.layers import LayerWeights
from hvae_mnn.physics.encoding import cycle_inputs
from hvae_mnn.physics.variation import program_conductances
from hvae_mnn.plan import LayerPlan, Tile

Array = NDArray[np.float64]


def compile_model(checkpoint: Checkpoint, hardware: HardwareConfig, hardware_name: str) -> Build:
    """Compile a trained model onto crossbars, in memory.

    Raises:
        CheckpointError: The checkpoint has no calibration to set full scales with, or is a plain language model.
    """
    layers: list[LayerPlan] = []
    tiles: dict[str, Tile] = {}
    replay: dict[str, Array] = {}
    for weights in checkpoint.layer_weights():
        layer, layer_tiles, calibration = compile_layer(weights, checkpoint, hardware)
        layers.append(layer)
        tiles |= {tile.plan.name: tile for tile in layer_tiles}
        replay[weights.name] = calibration[len(calibration) // 2]
    manifest = Manifest(
        model_hash=checkpoint.content_hash(),
        hardware_name=hardware_name,
        hardware=hardware,
        layers=tuple(layers),
    )
    return Build(manifest, tiles, checkpoint, replay)


def compile_layer(
    weights: LayerWeights, checkpoint: Checkpoint, hardware: HardwareConfig
) -> tuple[LayerPlan, list[Tile], Array]:
    """Return a layer's plan, its tiles, and its calibration inputs as fractions of full scale."""
    largest = _ranges(checkpoint.ranges, weights.name)
    samples = checkpoint.calibration[weights.name].astype(np.float64)
    groups = plan_groups(weights, group_ranges(weights, samples, largest, hardware.dac))
    x_max = np.repeat([group.x_max for group in groups], [group.size for group in groups])
    calibration = converted_inputs(samples / x_max, hardware.dac)
    blocks = list(cut_blocks(weights, groups, hardware.array))
    cycles = cycle_inputs(calibration, hardware)
    full_scale = shared_full_scale(blocks, cycles, hardware.adc)
    mapped = (compensate_tile(map_block(block, cycles, hardware, full_scale), hardware) for block in blocks)
    tiles = [_program(tile, hardware) for tile in mapped]
    plan = LayerPlan(
        name=weights.name,
        cell=weights.cell,
        hidden=weights.hidden,
        groups=groups,
        gates=tuple(gate.gate for gate in weights.gates),
        tiles=tuple(tile.plan for tile in tiles),
    )
    return plan, tiles, calibration


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
