"""Draw docs/figures/flow.png: the flow of HVAE-MNN and the types that travel along it.

python docs/figures/flow.py
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from hvae_mnn.reports.plot import save_figure

DATA, STAGE, CIRCUIT = "#DCEBF7", "#FFFFFF", "#FBE9D9"


def draw_box(axis: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """Draw a box round its text; the first line is bold."""
    box = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08", fc=colour, ec="0.3", lw=0.8)
    axis.add_patch(box)
    head, _, rest = text.partition("\n")
    lines = text.count("\n")
    axis.text(x + width / 2, y + height / 2 + 0.11 * lines, head, ha="center", va="center", weight="bold", fontsize=8)
    axis.text(x + width / 2, y + height / 2 - 0.11, rest, ha="center", va="center", fontsize=7, linespacing=1.25)


def draw_arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    """Draw an arrow with a label above its middle."""
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "lw": 0.9, "color": "0.2"})
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    axis.text(middle[0], middle[1] + 0.07, text, ha="center", va="bottom", fontsize=7, style="italic")


def draw_artifacts(axis: Axes) -> None:
    """Draw the upper row: what each command makes of what."""
    names = [
        (0.0, "Corpus\nfolder of text"),
        (2.55, "Checkpoint\nmodel.pt"),
        (5.1, "Build\nmanifest, decks,\nconductances"),
        (7.65, "Run\ntokens, codes,\nerrors, waveforms"),
    ]
    for x, text in names:
        draw_box(axis, x, 3.6, 1.55, 0.95, text, DATA)
    for x, verb in ((1.55, "train"), (4.1, "compile"), (6.65, "simulate")):
        draw_arrow(axis, (x, 4.08), (x + 1.0, 4.08), verb)
    draw_box(axis, 3.45, 5.05, 1.9, 0.55, "HardwareConfig\npreset or TOML", DATA)
    draw_arrow(axis, (4.6, 5.05), (4.6, 4.32))
    draw_box(axis, 6.35, 5.05, 1.6, 0.55, "sentence, seed", DATA)
    draw_arrow(axis, (7.15, 5.05), (7.15, 4.32))
    draw_arrow(axis, (9.2, 4.08), (9.75, 4.08), "plot")
    draw_box(axis, 9.75, 3.6, 0.85, 0.95, "figure\npng, pdf,\nsvg", DATA)


def draw_compiler(axis: Axes) -> None:
    """Draw the passes of the compiler."""
    axis.text(0, 2.75, "compile, for each layer", fontsize=8, weight="bold")
    stages = [
        ("LayerWeights\ngate tables", STAGE),
        ("WeightBlock\nx_max folded in,\nbias rows, cut", STAGE),
        ("Tile\nG = 1/r_s - w/k,\nr_f, full scale", STAGE),
        ("deck\nSPICE text", CIRCUIT),
    ]
    for i, (text, colour) in enumerate(stages):
        draw_box(axis, 2.55 * i, 1.75, 1.55, 0.85, text, colour)
    for x, name in ((1.55, "blocks"), (4.1, "mapping"), (6.65, "decks")):
        draw_arrow(axis, (x, 2.17), (x + 1.0, 2.17), name)


def draw_cycle(axis: Axes) -> None:
    """Draw one time step of a layer, through the circuit and back to its inputs."""
    axis.text(0, 1.15, "simulate, for each time step", fontsize=8, weight="bold")
    stages = [
        ("inputs\nx, h, (z) / x_max", STAGE),
        ("DAC codes\nintegers", STAGE),
        ("Reading\nADC codes, analog", CIRCUIT),
        ("gate sums\nrow tiles added", STAGE),
        ("state\nh, c", STAGE),
    ]
    for i, (text, colour) in enumerate(stages):
        draw_box(axis, 2.2 * i, 0.2, 1.45, 0.7, text, colour)
    for i, name in enumerate(("encode", "engine", "decode", "cells")):
        draw_arrow(axis, (2.2 * i + 1.45, 0.55), (2.2 * i + 2.2, 0.55), name)
    axis.plot([9.52, 9.52, 0.72], [0.2, -0.12, -0.12], color="0.2", lw=0.9)
    draw_arrow(axis, (0.72, -0.12), (0.72, 0.2))
    axis.text(5.1, -0.17, "h of this step is an input of the next", ha="center", va="top", fontsize=7, style="italic")


def main() -> None:
    """Write the figure beside this script."""
    figure = Figure(figsize=(9.0, 5.4))
    axis = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axis.set(xlim=(-0.1, 10.7), ylim=(-0.5, 5.75))
    axis.set_axis_off()
    draw_artifacts(axis)
    draw_compiler(axis)
    draw_cycle(axis)
    save_figure(figure, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
