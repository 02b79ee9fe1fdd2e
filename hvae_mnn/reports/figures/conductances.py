"""Conductance maps of a Build: one tile, a gate put together, or every gate.

Colour is centred on 1/r_s, the conductance of weight 0 (eq. 12): above it a weight is
negative, below it positive.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import BIAS, LayerPlan, Tile
from hvae_mnn.errors import ArtifactError
from hvae_mnn.reports.figures.style import COLOURS, WIDTH, format_some, format_title
from hvae_mnn.runtime.toml import did_you_mean

if TYPE_CHECKING:
    from hvae_mnn.compiler.build import Build

Array = NDArray[np.float64]

_MAP_COLOURS = "RdBu_r"


def draw_all_gates(build: "Build") -> Figure:
    """Return a map of every gate, a row of maps a layer, with the layer's distribution beside it."""
    layers = build.manifest.layers
    most = max(len(layer.gates) for layer in layers)
    figure = Figure(figsize=(WIDTH, 1.9 * len(layers) + 1.0), layout="constrained")
    axes = figure.subplots(len(layers), most + 1, squeeze=False, width_ratios=[1.0] * most + [1.3])
    for line, layer in zip(axes, layers, strict=True):
        for axis, gate in zip(line, layer.gates, strict=False):
            image = _draw_map(axis, build, layer, tiles_of_gate(build, layer, gate))
            axis.set_title(f"{layer.name}.{gate}")
        for axis in line[1 : len(layer.gates)]:
            axis.set_yticklabels([])
        for axis in line[len(layer.gates) : most]:
            axis.set_visible(False)
        _draw_distribution(line[most], build, [build.tiles[plan.name] for plan in layer.tiles])
        line[most].set_title(f"{layer.name}, all gates")
    _add_colour_bar(figure, image, list(axes[:, :most].flat), build)
    _add_legend(figure, axes[0, most])
    figure.suptitle(_format_heading(build, f"{build.memristors()} memristors"))
    return figure


def draw_one_map(build: "Build", name: str, layer: LayerPlan, tiles: Sequence[Tile]) -> Figure:
    """Return the map of a tile or of a gate's tiles put together, beside its distribution."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1.0])
    image = _draw_map(left, build, layer, tiles)
    _add_colour_bar(figure, image, [left], build)
    _draw_distribution(right, build, tiles)
    _add_legend(figure, right)
    clipped = sum(tile.plan.clipped_weights for tile in tiles)
    rows, columns = assemble_tiles(tiles)[0].shape
    what = f"{name}: {rows} x {columns} memristors, {clipped} weights clipped"
    figure.suptitle(_format_heading(build, what))
    return figure


def find_tiles(build: "Build", name: str) -> tuple[LayerPlan, list[Tile]]:
    """Return the tile of a name, or the tiles of a gate `layer.gate`, with its layer.

    Raises:
        ArtifactError: The Build has no such tile or gate.
    """
    for layer in build.manifest.layers:
        for plan in layer.tiles:
            if name == plan.name:
                return layer, [build.tiles[name]]
        for gate in layer.gates:
            if name == f"{layer.name}.{gate}":
                return layer, tiles_of_gate(build, layer, gate)
    gates = [f"{layer.name}.{gate}" for layer in build.manifest.layers for gate in layer.gates]
    raise ArtifactError(
        f"{name}: no such tile or gate in the build{did_you_mean(name, [*gates, *build.tiles])}; "
        f"expected a gate ({format_some(gates)}) or a tile ({format_some(build.tiles)})"
    )


def tiles_of_gate(build: "Build", layer: LayerPlan, gate: str) -> list[Tile]:
    """Return the tiles of one gate in order."""
    return [build.tiles[plan.name] for plan in layer.tiles if plan.gate == gate]


def assemble_tiles(tiles: Sequence[Tile]) -> tuple[Array, tuple[int, ...]]:
    """Put the tiles of a gate together.

    Returns:
        Programmed conductances, siemens, (rows, columns), and for each row its input (-1: bias). For
        `differential`, (G- - G+)/2.
    """
    lines: dict[str, list[Tile]] = {}
    for tile in tiles:
        place = tile.plan.name.rpartition(".")[2].partition("c")[0]
        lines.setdefault(place, []).append(tile)
    g = np.concatenate([np.concatenate([_one_a_weight(tile) for tile in line], axis=1) for line in lines.values()])
    return g, tuple(place for line in lines.values() for place in line[0].plan.inputs)


def _one_a_weight(tile: Tile) -> Array:
    rows = tile.plan.rows
    return tile.g if tile.plan.r_s is not None else np.subtract(tile.g[rows:], tile.g[:rows]) / 2


def row_groups(layer: LayerPlan, inputs: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return runs of rows of one group: its name, its first row and one past its last."""
    names = [group.name for group in layer.groups for _ in range(group.size)]
    of_row = ["bias" if place == BIAS else names[place] for place in inputs]
    edges = [0, *(j for j in range(1, len(of_row)) if of_row[j] != of_row[j - 1]), len(of_row)]
    return [(of_row[start], start, stop) for start, stop in pairwise(edges)]


def _draw_map(axis: Axes, build: "Build", layer: LayerPlan, tiles: Sequence[Tile]) -> AxesImage:
    array = build.manifest.hardware.array
    g, inputs = assemble_tiles(tiles)
    middle, half = (array.g_max + array.g_min) / 2, (array.g_max - array.g_min) / 2
    image = axis.imshow(
        (g + middle * (array.scheme == "differential")) * 1e6,
        cmap=_MAP_COLOURS,
        norm=CenteredNorm(middle * 1e6, half * 1e6),
        aspect="auto",
        interpolation="nearest",
    )
    groups = row_groups(layer, inputs)
    axis.set_yticks([(start + stop - 1) / 2 for _, start, stop in groups], [name for name, *_ in groups])
    axis.tick_params(axis="y", length=0)
    for _, start, _ in groups[1:]:
        axis.axhline(start - 0.5, color="0.2", linewidth=0.6)
    first, last = tiles[0].plan.column_start, tiles[-1].plan.column_stop - 1
    axis.set_xticks([0, g.shape[1] - 1], [str(first), str(last)])
    axis.set_xlabel("hidden unit", labelpad=-6)
    axis.spines[["top", "right"]].set_visible(True)
    return image


def _draw_distribution(axis: Axes, build: "Build", tiles: Sequence[Tile]) -> None:
    array = build.manifest.hardware.array
    bins = (np.linspace(array.g_min, array.g_max, 41) * 1e6).tolist()
    target = np.concatenate([tile.g_target.ravel() for tile in tiles]) * 1e6
    programmed = np.concatenate([tile.g.ravel() for tile in tiles]) * 1e6
    axis.hist(target, bins, color=COLOURS[5], alpha=0.6, label="target")
    axis.hist(programmed, bins, color=COLOURS[0], histtype="step", label="programmed")
    axis.axvline((bins[0] + bins[-1]) / 2, color="0.4", linewidth=0.8, linestyle=":", label="1/r_s: weight 0")
    axis.set_yscale("log")
    axis.set_xlabel("conductance, µS")
    axis.set_ylabel("memristors")


def _add_legend(figure: Figure, axis: Axes) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower right", ncols=3)


def _add_colour_bar(figure: Figure, image: AxesImage, axes: list[Axes], build: "Build") -> None:
    array = build.manifest.hardware.array
    middle = (array.g_max + array.g_min) / 2
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=40, pad=0.02)
    bar.set_ticks(
        [array.g_min * 1e6, middle * 1e6, array.g_max * 1e6],
        labels=[f"{array.g_min * 1e6:.3g}", f"{middle * 1e6:.3g} (weight 0)", f"{array.g_max * 1e6:.3g}"],
    )
    bar.set_label("programmed conductance, µS")


def _format_heading(build: "Build", what: str) -> str:
    array = build.manifest.hardware.array
    return format_title(f"{what}; hardware {build.manifest.hardware_name}, {array.scheme}")
