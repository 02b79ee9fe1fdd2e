"""Draw what wires do to a tile: the map of one, and errors against tile size, range and wire.

python docs/figures/wires.py        writes docs/figures/wires.png and prints the errors
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvae_mnn.circuit.crossbar import effective_conductance
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.circuit.wires import RowLines, solve_ports
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.compiler.compensation import compensate_tile
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.reports.figures.style import COLOURS, WIDTH, figure_style, save_figure

SIZES = (8, 16, 32, 64, 128)
RANGES = {"10 to 168 uS": "default", "1 to 17 uS": "aist-low-g"}
SCHEMES = {"paired": "-", "reference-column": "--", "differential": ":"}


def make_tile(size: int, scheme: str, preset: str, r_wire: float, compensate: bool = False) -> tuple[Tile, np.ndarray]:
    """Return a tile of Gaussian weights, clipped at 3 sigma, and the weights."""
    weights = np.clip(np.random.default_rng(size).normal(0, 1, (size, size)), -3, 3)
    overrides = [f"array.scheme={scheme}", f"array.r_wire={r_wire}", f"array.compensate={str(compensate).lower()}"]
    config = load_hardware(preset, overrides)
    block = WeightBlock("encoder1", "f", 0, 0, np.arange(size), 0, weights)
    return compensate_tile(map_block(block, np.eye(size), config), config), weights


def error(tile: Tile, weights: np.ndarray, r_wire: float) -> float:
    """Return the rms error of column sums over their rms, for inputs drawn evenly within full scale."""
    rows = np.random.default_rng(0).uniform(-1, 1, (64, len(weights)))
    found = tile.plan.weight_per_siemens * rows @ effective_conductance(tile, r_wire, 0.0)
    return float(np.sqrt(np.mean((found - rows @ weights) ** 2) / np.mean((rows @ weights) ** 2)))


def draw_map(axis: Axes, figure: Figure) -> None:
    """Draw what is left of each crosspoint of a 64 x 64 tile whose memristors are all at g_max."""
    g = np.full((64, 64), 168e-6)
    left = solve_ports([RowLines(1, g)], r_wire=1.0, r_driver=0.0).transfer / g
    image = axis.imshow(100 * left, cmap="viridis")
    print(
        f"64 x 64 at 168 uS, 1 ohm: {left.min():.0%} left of the farthest, {left.max():.0%} of the nearest crosspoint"
    )
    axis.set_xlabel("column (drivers on the left)")
    axis.set_ylabel("row (amplifiers below)")
    axis.set_title("left of each conductance, %")
    figure.colorbar(image, ax=axis, shrink=0.8)


def draw_sizes(axis: Axes) -> None:
    """Draw error against tile size at 1 ohm a segment, and print it."""
    for (name, preset), colour in zip(RANGES.items(), COLOURS, strict=False):
        for scheme, style in SCHEMES.items():
            errors = [error(*make_tile(size, scheme, preset, 1.0), 1.0) for size in SIZES]
            axis.loglog(
                SIZES, 100 * np.array(errors), style, color=colour, marker="o", markersize=3, label=f"{name}, {scheme}"
            )
            print(f"{name:<13} {scheme:<17}", " ".join(f"{each:8.2%}" for each in errors))
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.minorticks_off()
    axis.set_xlabel("rows and columns of a tile")
    axis.set_ylabel("rms error of sums, %")
    axis.set_title("1 ohm a segment")
    axis.set_ylim(2e-3, 200)
    axis.legend(fontsize=5.5, loc="lower right")


def draw_wires(axis: Axes) -> None:
    """Draw error against wire resistance at 64 x 64, with and without compensation."""
    wires = np.array([0.1, 0.3, 1, 3, 10])
    for (name, preset), colour in zip(RANGES.items(), COLOURS, strict=False):
        for compensate, style in ((False, "-"), (True, ":")):
            errors = [error(*make_tile(64, "paired", preset, r, compensate), r) for r in wires]
            label = f"{name}{', compensated' if compensate else ''}"
            axis.loglog(wires, 100 * np.array(errors), style, color=colour, marker="o", markersize=3, label=label)
            print(
                f"{name:<13} {'compensated' if compensate else 'as mapped':<17}", " ".join(f"{e:8.3%}" for e in errors)
            )
    axis.set_xlabel("ohm a segment")
    axis.set_title("64 x 64, paired")
    axis.set_ylim(3e-5, 1e4)
    axis.legend(fontsize=5.5, loc="upper left")


def main() -> None:
    """Draw the three panels."""
    with figure_style():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        maps, sizes, wires = figure.subplots(1, 3)
        draw_map(maps, figure)
        print("rms error of column sums, 1 ohm a segment; tile sizes", *SIZES)
        draw_sizes(sizes)
        print("rms error of column sums, 64 x 64, paired; ohm a segment 0.1 0.3 1 3 10")
        draw_wires(wires)
        save_figure(figure, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
