"""Draw one read of a tile in each of the three encodings, as ngspice computes it, and print what it gives.

It prints too what a finite bandwidth does to a model's integrators.

python docs/figures/signal_chain.py        writes docs/figures/signal_chain.png
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hvae_mnn.circuit.amplifiers import feedback_capacitance
from hvae_mnn.circuit.crossbar import solve_array
from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.base import Waveform
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.timing import (
    ENABLE_STOP,
    PULSE_SHARE,
    PULSE_START,
    RESET_STOP,
    SAMPLE_START,
    SAMPLE_STOP,
    pulse_time,
)
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.reports.figures.style import COLOURS, WIDTH, figure_style, save_figure

TILE = "encoder1.f.r0c0"
ROWS, COLUMNS = (25, 8, 3, 0), (6, 0)
PRESETS = {"amplitude": "default", "pulse-width": "pulse-width", "bit-serial": "bit-serial"}
RESET, DRIVE, SAMPLE, HOLD = "#F2C48D", "#CFE3F2", "#CDE8DC", "#DDDDDD"

Phase = tuple[str, float, float, str]
"""Name, start and end as parts of the cycle, colour."""


@dataclass(frozen=True, slots=True)
class Read:
    """One read of the tile.

    Attributes:
        waveform: Its nodes over time.
        inputs: DAC codes of the rows drawn.
        codes: What the ADCs gave, of the columns drawn; a bit-serial read's shifted and added.
        planes: The same cycle by cycle, (cycles, columns).
        sums: Gate sums that the codes stand for.
        exact: Gate sums of the trained weights and the same inputs.
        full_scale: Gate sum of the largest code.
    """

    waveform: Waveform
    inputs: np.ndarray
    codes: np.ndarray
    planes: np.ndarray
    sums: np.ndarray
    exact: np.ndarray
    full_scale: float

    @property
    def cycles(self) -> int:
        """How many cycles it took."""
        return len(self.planes)


def read_tile(checkpoint: Checkpoint, preset: str, folder: Path) -> Read:
    """Compile a model for a preset and read one of its calibration inputs in time."""
    build = save_build(compile_model(checkpoint, load_hardware(preset, []), preset), folder)
    name = TILE.split(".")[0]
    plan, outputs = build.tiles[TILE].plan, _outputs(build)
    fractions = build.replay[name][None]
    with SpiceEngine(build, 1, transient=[TILE]) as engine, SoftwareEngine(build) as software:
        inputs = engine.dac.encode(fractions)
        codes = engine.step({name: inputs})[name].codes[0, outputs]
        exact = plan.scale * software.step({name: fractions})[name].analog[0, outputs]
        waveform, code_max = engine.waveforms()[TILE], engine.adc.code_max
    ends = np.arange(1, round(waveform.time[-1] / waveform.cycle) + 1) * waveform.cycle
    last = np.searchsorted(waveform.time, ends * (1 - 1e-9), side="right") - 1
    return Read(
        waveform=waveform,
        inputs=inputs[0, [plan.inputs[row] for row in ROWS]],
        codes=codes,
        planes=np.rint(np.stack([waveform.signals[f"adc{k}"][last] for k in COLUMNS], axis=1)),
        sums=plan.scale * codes / code_max,
        exact=exact,
        full_scale=abs(plan.scale),
    )


def _outputs(build: Build) -> list[int]:
    """Return where the columns drawn stand among the layer's outputs."""
    layer = build.layer(TILE.split(".")[0])
    start = next(outputs.start for plan, outputs in layer.tile_outputs() if plan.name == TILE)
    return [start + column for column in COLUMNS]


def phases(encoding: str) -> list[list[Phase]]:
    """Return the phases of a cycle in lanes from top to bottom."""
    if encoding == "pulse-width":
        return [
            [("reset", 0, RESET_STOP, RESET)],
            [("drive", PULSE_START, PULSE_START + PULSE_SHARE, DRIVE)],
            [("sample", RESET_STOP, SAMPLE_STOP, SAMPLE), ("hold", SAMPLE_STOP, 1, HOLD)],
        ]
    return [
        [],
        [("drive", 0, ENABLE_STOP, DRIVE)],
        [("sample", SAMPLE_START, SAMPLE_STOP, SAMPLE), ("hold", SAMPLE_STOP, 1, HOLD)],
    ]


def draw_clocks(axis: Axes, read: Read, encoding: str) -> None:
    """Draw the clocks, a lane each, with the phases behind and within them."""
    time, cycle = read.waveform.time * 1e6, read.waveform.cycle * 1e6
    names = ("reset", "", "clk") if encoding == "pulse-width" else ("", "en", "clk")
    for lane, (name, members) in enumerate(zip(names, phases(encoding), strict=True)):
        base = 2.7 - 1.35 * lane
        for phase, start, stop, colour in members:
            for number in range(read.cycles):
                span = (number + start) * cycle, (number + stop) * cycle
                axis.fill_between(span, base, base + 1, color=colour, lw=0)
            if read.cycles > 1:
                continue
            middle, align = ((start + stop) / 2, "center") if phase != "reset" else (stop + 0.03, "left")
            axis.text(middle * cycle, base + 0.48, phase, ha=align, va="center", fontsize=7)
        if name:
            axis.plot(time, base + read.waveform.signals[name], color="black", linewidth=0.9)
    shown = [(3.2 - 1.35 * lane, name) for lane, name in enumerate(names) if name]
    axis.set_yticks([place for place, _ in shown], [name for _, name in shown])
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(axis="x", length=0, labelbottom=False)
    axis.set_ylim(-0.15, 3.85)


def draw_rows(axis: Axes, read: Read) -> None:
    """Draw row drives, a lane each, headed by their codes."""
    time, lanes = read.waveform.time * 1e6, np.arange(len(ROWS))[::-1] * 135.0
    for row, code, lane in zip(ROWS, read.inputs, lanes, strict=True):
        axis.axhline(lane, color="0.75", linewidth=0.5, zorder=1)
        axis.plot(time, lane + 1e3 * read.waveform.signals[f"rp{row}"], color=COLOURS[0])
        axis.text(1.01, lane, f"{code:+.0f}", transform=axis.get_yaxis_transform(), va="center", fontsize=7)
    axis.text(1.01, lanes[0] + 65, "code", transform=axis.get_yaxis_transform(), va="center", fontsize=7)
    axis.set_yticks(lanes, [f"row {row}" for row in ROWS])
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(axis="x", length=0, labelbottom=False)
    axis.set_ylim(lanes[-1] - 65, lanes[0] + 80)


def draw_columns(axis: Axes, read: Read) -> None:
    """Draw what amplifiers put out and what is held, with the code of each cycle."""
    time, cycle = read.waveform.time * 1e6, read.waveform.cycle * 1e6
    axis.axhline(0, color="0.75", linewidth=0.5, zorder=1)
    for k, (column, colour) in enumerate(zip(COLUMNS, COLOURS[1:], strict=False)):
        signals = read.waveform.signals
        axis.plot(time, 1e3 * signals[f"out{column}"], color=colour, linewidth=0.9)
        axis.plot(time, 1e3 * signals[f"hold{column}"], color=colour, linewidth=1.8, linestyle=(0, (2, 1)), alpha=0.7)
        look: dict[str, Any] = {"transform": axis.get_xaxis_transform(), "va": "top", "fontsize": 7, "color": colour}
        for number, code in enumerate(read.planes[:, k]):
            axis.text((number + 0.98) * cycle, 0.99 - 0.1 * k, f"{code:+.0f}", ha="right", **look)
    axis.set_xlabel("time, us")


def shade(axes: list[Axes], read: Read, encoding: str) -> None:
    """Shade reset and hold behind drives and outputs, and part the cycles."""
    cycle = read.waveform.cycle * 1e6
    marked = [phase for lane in phases(encoding) for phase in lane if phase[0] in ("reset", "hold")]
    for axis in axes:
        for number in range(read.cycles):
            for _, start, stop, colour in marked:
                axis.axvspan((number + start) * cycle, (number + stop) * cycle, color=colour, alpha=0.6, lw=0, zorder=0)


def draw(reads: dict[str, Read]) -> Figure:
    """Draw an encoding a column."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    grid = figure.subplots(3, 3, width_ratios=(1, 1, 2.1), height_ratios=(0.75, 1.6, 1.6), squeeze=False)
    for (encoding, read), column in zip(reads.items(), grid.T, strict=True):
        clocks, rows, columns = column
        draw_clocks(clocks, read, encoding)
        draw_rows(rows, read)
        draw_columns(columns, read)
        shade([rows, columns], read, encoding)
        cycle = read.waveform.cycle * 1e6
        for axis in column:
            axis.set_xlim(0, read.cycles * cycle)
        columns.set_xticks(np.arange(read.cycles + 1) * cycle if read.cycles > 1 else np.arange(0, cycle + 0.5))
        clocks.set_title(encoding)
        for number in range(read.cycles) if read.cycles > 1 else ():
            clocks.text((number + 0.5) * cycle, 3.2, f"bit {number}", ha="center", va="center", fontsize=7)
    grid[1, 0].set_ylabel("row drives,\n50 mV at most")
    grid[2, 0].set_ylabel("amplifier and\nheld value, mV")
    grid[2, 0].text(0.02, 0.99, "ADC codes", transform=grid[2, 0].transAxes, va="top", fontsize=7)
    limits = np.array([axis.get_ylim() for axis in grid[2]])
    low, high = limits.min(), limits.max()
    for axis in grid[2]:
        axis.set_ylim(low, high + 0.3 * (high - low))  # room for the codes
    figure.align_ylabels(list(grid[:, 0]))
    figure.legend(handles=legend(), loc="outside lower center", ncols=8, handlelength=1.4, columnspacing=1.2)
    return figure


def legend() -> list[Artist]:
    """Return what colours and lines are."""
    kinds = {"reset": RESET, "drive": DRIVE, "sample": SAMPLE, "hold": HOLD}
    patches = [Patch(color=colour, label=name) for name, colour in kinds.items()]
    lines = [Line2D([], [], color=colour, label=f"column {k}") for k, colour in zip(COLUMNS, COLOURS[1:], strict=False)]
    held = Line2D([], [], color="0.3", linewidth=1.8, linestyle=(0, (2, 1)), label="held")
    return [*patches, *lines, held]


def report(encoding: str, read: Read) -> None:
    """Print what the read gave."""
    count = "1 cycle" if read.cycles == 1 else f"{read.cycles} cycles"
    print(f"{encoding}: {count}, ADC full scale is a gate sum of {read.full_scale:.4g}")
    print("  rows ", ", ".join(f"{row}: {code:+.0f}" for row, code in zip(ROWS, read.inputs, strict=True)))
    for k, column in enumerate(COLUMNS):
        planes = " ".join(f"{code:+.0f}" for code in read.planes[:, k])
        print(f"  column {column}: ADC {planes}, gate sum {read.sums[k]:+.3f}, of the weights {read.exact[k]:+.3f}")


def report_bandwidth(checkpoint: Checkpoint) -> None:
    """Print what an amplifier's finite bandwidth adds to the integrators of a model, and what trimming them leaves."""
    hardware = load_hardware("pulse-width", [])
    build = compile_model(checkpoint, hardware, "pulse-width")
    added, left = [], []
    for tile in build.tiles.values():
        whole, load = pulse_time(hardware) / tile.plan.r_f, solve_array(tile, hardware).load
        more = np.diag(load) / (2 * np.pi * hardware.amplifier.gain_bandwidth)
        added.append(more / whole)
        left.append((feedback_capacitance(tile.plan, hardware, load) + more) / whole - 1)
    c_f = [1e12 * pulse_time(hardware) / tile.plan.r_f for tile in build.tiles.values()]
    print(f"pulse-width, all columns of the model: pulse time / r_f is {min(c_f):.3g} to {max(c_f):.3g} pF")
    low, middle, high = np.quantile(np.concatenate(added), [0, 0.5, 1])
    print(f"  G/(2 pi f) adds {low:.2%} to {high:.2%}, median {middle:.2%}")
    print(f"  trimmed, a column is off by {np.abs(np.concatenate(left)).max():.2%} at most")


def main() -> None:
    """Read and draw."""
    checkpoint = open_model("grammar")
    reads = {}
    with tempfile.TemporaryDirectory() as folder:
        for encoding, preset in PRESETS.items():
            reads[encoding] = read_tile(checkpoint, preset, Path(folder, preset))
            report(encoding, reads[encoding])
    report_bandwidth(checkpoint)
    with figure_style():
        save_figure(draw(reads), Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
