"""Errors of the reads of a Run, by layer and by time step."""

import numpy as np

from hvae_mnn.reports.figures.style import COLOURS, Canvas, format_title
from hvae_mnn.reports.figures.waveforms import words_read
from hvae_mnn.simulation.run import Run


def draw_read_errors(canvas: Canvas, run: Run) -> None:
    """Draw a panel a layer: rms and largest error of each step."""
    factor, unit = _error_unit(max(layer.max_error for layer in run.layers))
    axes = canvas.subplots(1, len(run.layers), sharey=True, squeeze=False)[0]
    for axis, layer in zip(axes, run.layers, strict=True):
        steps = np.arange(len(layer.error))
        largest = np.array([np.abs(step).max() for step in layer.error])
        axis.plot(steps, factor * largest, "v", color=COLOURS[5], markersize=4, label="largest of all columns")
        axis.plot(steps, factor * layer.rms_by_step(), "o-", color=COLOURS[0], markersize=4, label="rms of all columns")
        crowded = len(steps) > 14
        words = words_read(run, layer.name, len(steps))
        axis.set_xticks(steps, words, rotation=90, fontsize=5 if crowded else 7)
        axis.set_xlabel("word read")
        axis.set_title(f"{layer.name}: rms {factor * layer.rms_error:.3g}, max {factor * layer.max_error:.3g} {unit}")
        axis.grid(axis="y", color="0.9", linewidth=0.6)
    axes[0].set_ylabel(f"read error,\n{unit} of ADC full scale")
    axes[0].set_ylim(0, factor * max(layer.max_error for layer in run.layers) * 1.1 or 1.0)
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    canvas.suptitle(_format_heading(run))


def error_height(run: Run) -> float:
    """Return the height of the error panels, inch: more where sentences fill several lines."""
    return 2.8 + 0.2 * max(0, _format_heading(run).count("\n") - 2)


def _format_heading(run: Run) -> str:
    engine = f"ngspice {run.engine.version}" if run.engine.name == "spice" else f"{run.engine.name} engine"
    how = f"{engine}, hardware preset {run.hardware_preset}, seed {run.seed}"
    lines = (f"sentence: {' '.join(run.tokens)}", f"hardware: {run.hardware.text}", how)
    return "\n".join(format_title(line) for line in lines)


def _error_unit(largest: float) -> tuple[float, str]:
    """Return a factor and the name of the unit that suits the size of an error."""
    if largest >= 1e-4 or largest == 0:
        return 1e2, "%"
    return (1e6, "ppm") if largest >= 1e-7 else (1e12, "1e-12")
