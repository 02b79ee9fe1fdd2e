"""A study over two axes or more: maps of a metric, a map for each value of a third."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from hvae_mnn.experiments.sweep.facts import StudyFacts, SweepFacts
from hvae_mnn.experiments.sweep.summary import JUDGED, LOSS, summarise_study
from hvae_mnn.reports.figures.style import WIDTH
from hvae_mnn.reports.figures.sweep_axes import RMS, YIELD, Array, Places, describe_metric, place_axis
from hvae_mnn.reports.figures.sweep_lines import COLUMN_WIDTH, columns_of

if TYPE_CHECKING:
    import pandas as pd

PANELS = (JUDGED, YIELD)
MOST_MAPS = 6
"""Values of a third axis that are drawn."""
MOST_NUMBERS = 8
"""Maps with more rows or columns have no numbers in their cells."""
_COLOURS = "viridis"
_LETTER = 0.062
_SAME_LEVEL = 2.0
"""Two contours closer than this, %, would lie on each other: the first is left out."""


@dataclass(frozen=True, slots=True)
class Map:
    """A metric over the first two axes, in the unit of a figure.

    Attributes:
        values: Mean of the dies, or yield: (first axis, second axis); NaN where there is none.
        name: Of the metric.
        title: Above the map.
    """

    values: Array
    name: str
    title: str


def draw_maps(rows: "pd.DataFrame", study: StudyFacts, facts: SweepFacts, names: Sequence[str]) -> tuple[Figure, str]:
    """Draw a map a metric, or of three axes and more one metric for each value of the third.

    Args:
        rows: Of all studies.
        study: With two axes or more.
        facts: What the sweep was measured on.
        names: Metrics, or `yield`; agreement and yield if empty.

    Returns:
        The figure, and what was left out of it.
    """
    names = [each for name in (names or PANELS) for each in (columns_of([name]) if name == RMS else (name,))]
    left_out = ""
    if len(study.axes) > 2:
        left_out = _tell_left_out(study, names)
        names = names[:1]
    found = summarise_study(rows, study, facts, columns_of(names), resampled=False)
    sizes = [len(axis.values) for axis in study.axes]
    maps = []
    for name in names:
        values = np.full(len(list(np.ndindex(*sizes))), np.nan)
        for point in found.points:
            value = point.yield_.value if name == YIELD else point.metrics[name].mean.value
            values[point.point] = np.nan if value is None else describe_metric(name).factor * value
        maps += _cut(values.reshape(sizes), study, name)
    places = [place_axis(axis) for axis in study.axes[:2]]
    return _draw(maps, places, facts, shared=len(sizes) > 2), left_out


def _cut(values: Array, study: StudyFacts, name: str) -> list[Map]:
    """Return a map, or one for each value of the third axis; further axes stand at their first value."""
    if values.ndim == 2:
        return [Map(values, name, "")]
    third = place_axis(study.axes[2])
    cut = values.reshape(*values.shape[:3], -1)[..., 0]
    names = [text.replace("-\n", "-") for text in third.names]
    return [Map(cut[:, :, i], name, f"{third.label}: {names[i]}") for i in range(min(MOST_MAPS, len(names)))]


def _tell_left_out(study: StudyFacts, names: Sequence[str]) -> str:
    parts = []
    left = [place_axis(axis) for axis in study.axes[2:]]
    if len(left[0].names) > MOST_MAPS:
        parts.append(f"{left[0].label} beyond its first {MOST_MAPS} of {len(left[0].names)} values")
    parts += [f"{places.label} other than {places.names[0]}" for places in left[1:] if len(places.names) > 1]
    parts += [f"the metric{'s' * (len(names) > 2)} {', '.join(names[1:])}"] if len(names) > 1 else []
    return f"not drawn: {'; '.join(parts)}" if parts else ""


def _draw(maps: Sequence[Map], places: Sequence[Places], facts: SweepFacts, shared: bool) -> Figure:
    """Draw maps side by side, three in a row; `shared`: with one scale of colours."""
    down, across = places
    columns = min(len(maps), 3 if shared or len(maps) > 2 else 2)
    lines = -(-len(maps) // columns)
    width = COLUMN_WIDTH if len(maps) == 1 else WIDTH
    height = float(np.clip(0.3 * len(down.names) + 0.9, 1.7, 3.2))
    figure = Figure(figsize=(width, lines * height + 1.1), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(maps) :]:
        axis.set_visible(False)
    everything = np.concatenate([each.values.ravel() for each in maps])
    notes = []
    for i, (axis, each) in enumerate(zip(axes.flat, maps, strict=False)):
        norm = _norm(everything if shared else each.values, describe_metric(each.name).share)
        mesh = _draw_map(axis, each.values, norm, width / columns - (0.75 if not shared else 0.5))
        axis.set_title(each.title)
        outer = i % columns == 0, i + columns >= len(maps)
        _set_places(axis, across, down, width / columns - 0.9, *(outer if shared else (i % columns == 0, True)))
        notes += _draw_contours(axis, each, everything, facts, across.scale != "choice" and down.scale != "choice")
        if not shared:
            _add_bar(figure, mesh, [axis], each.name)
    if shared:
        _add_bar(figure, mesh, list(axes.flat[: len(maps)]), maps[0].name)
    handles = dict((handle.get_label(), handle) for handle in notes)
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=1 if len(maps) == 1 else 2)
    return figure


def _norm(values: Array, share: bool) -> Normalize:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low == high:
        low, high = (max(0.0, low - 10), min(100.0, low + 10)) if share else (low - 0.5, high + 0.5)
    return Normalize(low, high)


def _draw_map(axis: Axes, values: Array, norm: Normalize, width: float) -> QuadMesh:
    lines, columns = values.shape
    mesh = axis.pcolormesh(
        np.arange(columns + 1) - 0.5,
        np.arange(lines + 1) - 0.5,
        np.ma.masked_invalid(values),
        norm=norm,
        cmap=_COLOURS,
        edgecolors="face",
        linewidth=0.2,
    )
    axis.set_facecolor("0.88")
    axis.spines[["top", "right"]].set_visible(True)
    texts = [[_format_cell(value) for value in line] for line in values]
    longest = max(len(text) for line in texts for text in line)
    if lines <= MOST_NUMBERS and columns <= MOST_NUMBERS and longest * _LETTER < width / columns:
        for (row, column), value in np.ndenumerate(values):
            bright = np.isfinite(value) and norm(value) > 0.6
            colour = "black" if bright or not np.isfinite(value) else "white"
            axis.text(column, row, texts[row][column], ha="center", va="center", fontsize=7, color=colour)
    return mesh


def _format_cell(value: float) -> str:
    if not np.isfinite(value):
        return "none"
    return f"{value:.1f}" if 0.1 <= abs(value) < 100 else f"{value:.3g}"


def _set_places(axis: Axes, across: Places, down: Places, width: float, left: bool, bottom: bool) -> None:
    """Name the cells, as many as have room, on the outer sides."""
    longest = max(len(line) for name in across.names for line in name.split("\n"))
    fit = max(1, int(width / (longest * _LETTER + 0.06)))
    step = -(-len(across.names) // fit) if across.scale != "choice" else 1
    slanted = across.scale == "choice" and fit < len(across.names)
    names = [name.replace("-\n", "-") for name in across.names] if slanted else list(across.names)
    axis.set_xticks(
        range(0, len(names), step),
        names[::step] if bottom else [""] * len(names[::step]),
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
    )
    skip = -(-len(down.names) // 14)
    axis.set_yticks(range(0, len(down.names), skip), down.names[::skip] if left else [""] * len(down.names[::skip]))
    axis.tick_params(length=2)
    if bottom:
        axis.set_xlabel(across.label)
    if left:
        axis.set_ylabel(down.label)


def _draw_contours(axis: Axes, each: Map, everything: Array, facts: SweepFacts, numeric: bool) -> list[Line2D]:
    """Draw where agreement is what the yield asks of a die, and where it has lost 10 %; return their handles."""
    values = each.values
    if each.name != JUDGED or not numeric or min(values.shape) < 2 or not np.isfinite(values).any():
        return []
    asked, lost = 100 * facts.yield_at, float(np.nanmax(everything)) - 100 * LOSS
    levels = {f"mean of {asked:g} %, what yield asks of a die": (asked, "-"), "10 % of words lost": (lost, ":")}
    if abs(asked - lost) < _SAME_LEVEL:
        levels.pop(next(iter(levels)))
    handles: list[Line2D] = []
    for label, (level, dashes) in levels.items():
        if np.nanmin(values) < level < np.nanmax(values):
            drawn = axis.contour(np.ma.masked_invalid(values), [level], colors="black", linestyles=dashes)
            drawn.set(linewidths=1.4, path_effects=[withStroke(linewidth=2.6, foreground="white")])
            handles += axis.plot([], [], dashes, color="black", linewidth=1.4, label=label)
    return handles


def _add_bar(figure: Figure, mesh: QuadMesh, axes: list[Axes], name: str) -> None:
    bar = figure.colorbar(mesh, ax=axes, location="top", shrink=0.9, aspect=30, pad=0.02)
    quantity = describe_metric(name)
    bar.set_label(quantity.label if name == YIELD else f"mean {quantity.label}", fontsize=7)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
