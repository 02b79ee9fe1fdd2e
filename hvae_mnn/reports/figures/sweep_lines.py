"""A study along one axis: the median of the dies with its interval, the dies themselves, and the software."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hvae_mnn.experiments.sweep.facts import StudyFacts, SweepFacts
from hvae_mnn.experiments.sweep.metrics import LAYERS
from hvae_mnn.experiments.sweep.summary import JUDGED, PointSummary, StudySummary, summarise_study, trials_of
from hvae_mnn.reports.figures.style import COLOURS, WIDTH
from hvae_mnn.reports.figures.sweep_axes import (
    RMS,
    YIELD,
    Array,
    Places,
    apply_places,
    apply_quantity,
    describe_metric,
    place_axis,
)

if TYPE_CHECKING:
    import pandas as pd

COLUMN_WIDTH = 3.5
"""Width of a figure of one panel, inch: one column of a paper."""
PANELS = (JUDGED, "agreement_forced", YIELD, "elbo", "kl_shift", RMS)
MOST_DIES = 200
"""More dies than this are shown by their 5 to 95 % range."""
_HEIGHT = 1.75
_MAIN, _LOSS, _DIES = COLOURS[0], COLOURS[1], "0.55"
_CHANCE = 0.18
"""Dies of a choice stand this far to either side of it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric over the points of a study, in the unit of a figure; every array is (points,).

    Attributes:
        middle: Median, or the share of a yield.
        low: Lower end of its interval; NaN where it has none.
        high: Upper end.
        p05: 5th percentile of the dies; NaN for a yield.
        p95: 95th percentile.
        dies: (points, dies); no dies for a yield.
        broken: Values that are not finite.
    """

    middle: Array
    low: Array
    high: Array
    p05: Array
    p95: Array
    dies: Array
    broken: int


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics that panels need of a summary."""
    named = [name for each in names for name in _members(each) if name != YIELD]
    return tuple(dict.fromkeys([*named]))


def _members(name: str) -> tuple[str, ...]:
    return tuple(f"rms_{layer}" for layer in LAYERS) if name == RMS else (name,)


def draw_line(rows: "pd.DataFrame", study: StudyFacts, facts: SweepFacts, names: Sequence[str]) -> Figure:
    """Draw a panel a metric over the one axis of a study.

    Args:
        rows: Of all studies.
        study: With one axis.
        facts: What the sweep was measured on.
        names: Metrics, `yield` or `rms`; the usual panels if empty.
    """
    names = tuple(names) or PANELS
    found = summarise_study(rows, study, facts, columns_of(names), resampled=False)
    places = place_axis(study.axes[0])
    columns = min(len(names), 2 if len(names) == 4 else 3)
    lines = -(-len(names) // columns)
    width, height = (WIDTH, _HEIGHT) if len(names) > 1 else (COLUMN_WIDTH, 1.25 * _HEIGHT)
    figure = Figure(figsize=(width, height * lines + 1.1), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in panels[len(names) :]:
        axis.set_visible(False)
    for i, (axis, name) in enumerate(zip(panels, names, strict=False)):
        apply_places(axis, places, width / columns - 0.65)
        if i + columns < len(names):  # the panel below has the same axis
            axis.set_xlabel("")
            axis.tick_params(axis="x", labelbottom=False)
        _draw_panel(axis, name, rows, study, facts, found, places)
    _add_legend(figure, panels[: len(names)], width)
    return figure


def curve_of(rows: "pd.DataFrame", study: StudyFacts, found: StudySummary, name: str) -> Curve:
    """Return a metric, or the yield, over all points of a study."""
    factor, size = describe_metric(name).factor, int(np.prod([len(axis.values) for axis in study.axes]))
    table = np.full((5, size), np.nan)
    for point in found.points:
        table[:, point.point] = _five(point, name)
    dies = np.empty((size, 0)) if name == YIELD else factor * trials_of(rows, study, name)[0]
    broken = 0 if name == YIELD else sum(point.metrics[name].non_finite for point in found.points)
    middle, low, high, p05, p95 = factor * table
    return Curve(middle, low, high, p05, p95, dies, broken)


def _five(point: PointSummary, name: str) -> list[float]:
    """Return middle, its interval and the range of the dies; NaN for what is not there."""
    if name == YIELD:
        values = [point.yield_.value, point.yield_.low, point.yield_.high, None, None]
    else:
        metric = point.metrics[name]
        values = [metric.median.value, metric.median.low, metric.median.high, metric.p05, metric.p95]
    return [np.nan if value is None else value for value in values]


def _draw_panel(
    axis: Axes,
    name: str,
    rows: "pd.DataFrame",
    study: StudyFacts,
    facts: SweepFacts,
    found: StudySummary,
    places: Places,
) -> None:
    curves = {each: curve_of(rows, study, found, each) for each in _members(name)}
    for i, (member, curve) in enumerate(curves.items()):
        label = member.removeprefix("rms_") if name == RMS else "median"
        draw = _draw_strip if places.scale == "choice" else _draw_curve
        draw(axis, places, curve, COLOURS[i], label, len(curves), i)
    shown = [part.ravel() for curve in curves.values() for part in (curve.dies, curve.middle, curve.low, curve.high)]
    if (len(curves) > 1 and places.scale != "choice") or curve.dies.shape[1] > MOST_DIES:
        shown = [part for each in curves.values() for part in (each.p05, each.p95, each.middle, each.low, each.high)]
    software = facts.software.get(name)
    if software is not None:
        axis.axhline(software, color="black", linewidth=0.9, linestyle="--", label="software")
    if name == JUDGED and places.scale != "choice":
        _mark_losses(axis, found, places, study)
    middle = np.concatenate([curve.middle for curve in curves.values()])
    outside = apply_quantity(axis, describe_metric(name), np.concatenate(shown), middle, _HEIGHT, software)
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    if name == RMS:
        _name_layers(axis)
    _note(axis, sum(curve.broken for curve in curves.values()), outside)


def _draw_curve(axis: Axes, places: Places, curve: Curve, colour: str, label: str, of: int, _: int) -> None:
    order = np.argsort(places.x)
    x = places.x[order]
    if of == 1 and 0 < curve.dies.shape[1] <= MOST_DIES:
        lines = [np.column_stack([x, die]) for die in curve.dies[order].T]
        width = 0.35 if len(lines) > 30 else 0.6
        faint = LineCollection(lines, colors=_DIES, linewidths=width, alpha=0.35, label="dies", zorder=1.5)
        axis.add_collection(faint, autolim=False)
    elif np.isfinite(curve.p05).any():
        low, high = curve.p05[order], curve.p95[order]
        axis.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0, label="_5 to 95 % of dies")
    axis.fill_between(
        x, curve.low[order], curve.high[order], color=colour, alpha=0.35, linewidth=0, label="_95 % interval", zorder=2
    )
    marker = "o" if len(x) <= 12 else "."
    axis.plot(x, curve.middle[order], f"{marker}-", color=colour, markersize=3, label=label, zorder=3)


def _draw_strip(axis: Axes, places: Places, curve: Curve, colour: str, label: str, of: int, i: int) -> None:
    """Draw the dies of each choice side by side, each die at the same distance from all of them."""
    x = places.x + (i - (of - 1) / 2) * 0.6 / of
    if 0 < curve.dies.shape[1] <= MOST_DIES:
        count = curve.dies.shape[1]
        aside = (np.random.default_rng(0).permutation(count) + 0.5) / count * 2 - 1 if count > 1 else np.zeros(1)
        at = (x[:, None] + _CHANCE / of * aside).ravel()
        shade = _DIES if of == 1 else colour
        axis.plot(at, curve.dies.ravel(), ".", color=shade, markersize=2, alpha=0.45, markeredgewidth=0, label="dies")
    elif np.isfinite(curve.p05).any():
        axis.vlines(x, curve.p05, curve.p95, color=colour, alpha=0.25, linewidth=5, label="_5 to 95 % of dies")
    ends = np.nan_to_num([curve.middle - curve.low, curve.high - curve.middle])
    form: dict[str, Any] = {"capsize": 2.5, "markersize": 4, "elinewidth": 1.2, "zorder": 3}
    axis.errorbar(x, curve.middle, np.maximum(ends, 0), fmt="o", color=colour, label=label, **form)


def _mark_losses(axis: Axes, found: StudySummary, places: Places, study: StudyFacts) -> None:
    """Mark where the mean has lost 0.10, with its interval."""
    values = np.array(study.axes[0].values, dtype=float)
    largest = int(np.argmax(np.abs(values)))
    factor = places.x[largest] / values[largest] if values[largest] else 1.0
    for loss in found.losses:
        if loss.at.value is not None:
            axis.axvline(factor * loss.at.value, color=_LOSS, linewidth=0.9, linestyle=":", label="loss", zorder=1.8)
            ends = [loss.last if end is None else end for end in (loss.at.low, loss.at.high)]
            if loss.at.low is not None or loss.at.high is not None:
                axis.axvspan(factor * ends[0], factor * ends[1], color=_LOSS, alpha=0.2, linewidth=0, zorder=1.2)


def _name_layers(axis: Axes) -> None:
    """Name the layers above their panel, where no curve runs."""
    handles = [Line2D([], [], color=COLOURS[i], marker="o", markersize=3) for i in range(len(LAYERS))]
    form: dict[str, Any] = {"handlelength": 1, "handletextpad": 0.4, "columnspacing": 0.8, "borderaxespad": 0.1}
    axis.legend(handles, LAYERS, loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=len(LAYERS), **form)


def _note(axis: Axes, broken: int, outside: int) -> None:
    """Say what cannot be seen."""
    parts = [f"{broken} not finite"] if broken else []
    parts += [f"{outside} outside"] if outside else []
    if parts:
        inside = axis.get_legend() is not None
        where: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "va": "top" if inside else "bottom"}
        axis.annotate(", ".join(parts), (0.99, 0.99 if inside else 1.01), fontsize=7, color="0.35", **where)


def _add_legend(figure: Figure, panels: Sequence[Axes], width: float) -> None:
    """Say what lines and bands are, once for all panels."""
    labels = {artist.get_label() for axis in panels for artist in (*axis.lines, *axis.collections)}
    labels |= {each.get_label() for axis in panels for each in axis.containers}
    band = (Patch(color=_MAIN, alpha=0.35, linewidth=0), Line2D([], [], color=_MAIN, marker="o", markersize=3))
    entries: list[tuple[object, str]] = [(band, "median (yield: share), 95 % interval")]
    if "dies" in labels:
        strips = any(line.get_label() == "dies" for axis in panels for line in axis.lines)
        form: dict[str, Any] = {"marker": ".", "linestyle": "none"} if strips else {"linewidth": 0.6}
        entries.append((Line2D([], [], color=_DIES, **form), "one die"))
    if "_5 to 95 % of dies" in labels:
        entries.append((Patch(color=_MAIN, alpha=0.14, linewidth=0), "5 to 95 % of dies"))
    if "software" in labels:
        entries.append((Line2D([], [], color="black", linewidth=0.9, linestyle="--"), "software"))
    if "loss" in labels:
        marks = (Patch(color=_LOSS, alpha=0.2, linewidth=0), Line2D([], [], color=_LOSS, linewidth=0.9, linestyle=":"))
        entries.append((marks, "10 % of words lost, 95 % interval"))
    handles, names = zip(*entries, strict=True)
    columns = 1 if width < WIDTH else min(3, len(entries))
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=columns,
        handler_map={tuple: HandlerTuple(1, pad=0)},
        columnspacing=1.4,
    )
