"""What a device does: pinched hysteresis at three frequencies, potentiation and depression."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from quantiphy import Quantity

from hvae_mnn.experiments.device import DeviceCurves
from hvae_mnn.reports.figures.style import COLOURS, WIDTH, format_title


def draw_device(curves: DeviceCurves) -> Figure:
    """Draw the loops and the staircase side by side."""
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    loops, stairs = figure.subplots(1, 2)
    _draw_loops(loops, curves)
    _draw_staircase(stairs, curves)
    figure.suptitle(format_title(f"memristor of hardware {curves.name}, in ngspice"))
    return figure


def _draw_loops(axis: Axes, curves: DeviceCurves) -> None:
    for loop, colour in zip(curves.loops, COLOURS, strict=False):
        second = loop.time >= 1 / loop.frequency  # the first period begins at a state of our choice
        label = Quantity(loop.frequency, "Hz").render(prec=2)
        axis.plot(loop.volts[second], 1e6 * loop.amps[second], color=colour, label=label)
    for volts in curves.config.dynamic_memristor("a figure").thresholds:
        axis.axvline(volts, color="0.7", linewidth=0.6, linestyle=":")
    axis.set_xlabel("voltage, V (dotted: thresholds)")
    axis.set_ylabel("current, uA")
    axis.legend(title="second period of a sine")
    axis.set_title("pinched hysteresis")


def _draw_staircase(axis: Axes, curves: DeviceCurves) -> None:
    stairs = curves.staircase
    count, pulses = np.arange(len(stairs.spice)), curves.config.write_pulses()
    axis.plot(count, 1e6 * stairs.numpy, "-", color=COLOURS[5], label="numpy")
    axis.plot(count, 1e6 * stairs.spice, ".", color=COLOURS[0], markersize=5, label="ngspice")
    axis.axvline(len(count) // 2, color="0.7", linewidth=0.6, linestyle=":")
    for place, volts, width in ((0.02, pulses.v_set, stairs.width_set), (0.52, pulses.v_reset, stairs.width_reset)):
        text = f"{Quantity(volts, 'V').render(prec=3)}\n{Quantity(width, 's').render(prec=2)} each"
        axis.annotate(text, (place, 0.99), xycoords="axes fraction", va="top", fontsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("pulses")
    axis.set_ylabel("G at a read, uS")
    axis.legend(loc="center right")
    axis.set_title("potentiation and depression by equal pulses")
