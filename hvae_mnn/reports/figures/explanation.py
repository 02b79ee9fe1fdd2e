"""Where a Run's error comes from: factors of the hardware, alone and added up, by layer."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hvae_mnn.experiments.explain import Effect, Explanation, Measurement
from hvae_mnn.reports.figures.style import COLOURS, WIDTH, format_title

_APART = 0.17
"""A factor alone is drawn this much above its row, with those before it as much below."""
_FLOOR = 1e-8
"""Smaller errors are those of float64 arithmetic, and not drawn."""


def draw_explanation(found: Explanation) -> Figure:
    """Draw a panel a layer with rms errors, and one with the words that free run keeps."""
    rows = np.arange(len(found.effects))
    figure = Figure(figsize=(WIDTH, 1.9 + 0.32 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(found.layers) + 1, sharey=True, squeeze=False)[0]
    limits = _limits(found)
    for panel, name in zip(panels, found.layers, strict=False):
        _draw_layer(panel, name, found.effects, limits)
    _draw_words(panels[-1], found.effects)
    panels[0].set_yticks(rows, [_label(effect) for effect in found.effects])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
        for row in rows[1:]:
            panel.axhline(row - 0.5, color="0.9", linewidth=0.6)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    titles = (f"sentence: {found.sentence}", f"hardware {found.hardware_preset}")
    figure.suptitle("\n".join(format_title(title) for title in titles))
    return figure


def _label(effect: Effect) -> str:
    return effect.factor if effect.present else f"{effect.factor}\n(not in this hardware)"


def _limits(found: Explanation) -> tuple[float, float]:
    """Return the ends of the error axis, %: around all errors, with room for their numbers."""
    sides = [side for effect in found.effects for side in (effect.alone, effect.cumulative)]
    errors = [100 * error for side in sides for error in side.errors.values() if error > _FLOOR]
    low, high = min(errors, default=1e-6), max(errors, default=1.0)
    margin = (high / low) ** 0.08
    return low / (1.5 * margin), high * max(4.0, margin**6)


def _draw_layer(axis: Axes, name: str, effects: Sequence[Effect], limits: tuple[float, float]) -> None:
    def error(measured: Measurement) -> float:
        return 100 * measured.errors[name] if measured.errors[name] > _FLOOR else np.nan

    axis.set_xscale("log")
    axis.set_xlim(limits)
    _draw_sides(axis, effects, error)
    axis.xaxis.set_major_locator(LogLocator(10, numticks=4))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_title(name)
    axis.set_xlabel("rms error of sums,\n% of ADC full scale")


def _draw_words(axis: Axes, effects: Sequence[Effect]) -> None:
    axis.set_xlim(-5, 135)
    _draw_sides(axis, effects, lambda measured: 100 * measured.agreement)
    axis.set_xticks([0, 50, 100])
    axis.set_title("free run")
    axis.set_xlabel("words as in\nsoftware, %")


def _draw_sides(axis: Axes, effects: Sequence[Effect], value: Callable[[Measurement], float]) -> None:
    """Draw both sides of each factor with their numbers; a line joins those that add up."""
    rows = np.arange(len(effects))
    alone = [value(effect.alone) if effect.present else np.nan for effect in effects]
    together = [value(effect.cumulative) for effect in effects]
    axis.plot(alone, rows - _APART, "o", color=COLOURS[1], markersize=4, label="this factor alone")
    axis.plot(together, rows + _APART, "s-", color=COLOURS[0], markersize=3.5, label="with all factors above it")
    for values, shift in ((alone, -_APART), (together, _APART)):
        for row, number in zip(rows, values, strict=True):
            if np.isfinite(number):
                place = (number, row + shift)
                text = f"{number:.2g}" if number < 100 else "100"
                note = axis.annotate(text, place, (4, 0), textcoords="offset points", va="center", fontsize=6)
                note.set_path_effects([withStroke(linewidth=2, foreground="white")])  # over the line
