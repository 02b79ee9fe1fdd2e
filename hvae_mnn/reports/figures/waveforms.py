"""Waveforms: which signals of a Run, in which panel, under which words."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hvae_mnn.circuit.spice import names
from hvae_mnn.errors import ArtifactError
from hvae_mnn.reports.figures.style import COLOURS, Canvas, format_some, format_title, format_word
from hvae_mnn.runtime.toml import did_you_mean
from hvae_mnn.simulation.run import Run

Array = NDArray[np.float64]

PANEL_HEIGHT = 1.45
LEGEND_LIMIT = 14


@dataclass(frozen=True, slots=True)
class Panel:
    """Signals of a kind, drawn together.

    Attributes:
        nodes: Which node names belong to it.
        label: What its axis shows, with the unit.
        scale: Axis units in a volt.
    """

    nodes: re.Pattern[str]
    label: str
    scale: float


PANELS = (
    Panel(re.compile(f"{names.ENABLE}|{names.CLOCK}"), "control, V", 1),
    Panel(re.compile(names.ROW + r"\d+"), "row drive, mV", 1e3),
    Panel(re.compile(rf"({names.OUT}|{names.HOLD})\d+"), "amplifier and\nheld value, mV", 1e3),
    Panel(re.compile(names.ADC + r"\d+"), "ADC code", 1),
    Panel(re.compile(r"x\d+_\d+"), "memristor state", 1),
    Panel(re.compile(r".+"), "other nodes, V", 1),
)


@dataclass(frozen=True, slots=True)
class Signal:
    """One node of one tile over time.

    Attributes:
        tile: Tile it belongs to.
        node: Its node name.
        time: Second, (points,).
        values: Volt, (points,).
    """

    tile: str
    node: str
    time: Array
    values: Array

    @property
    def panel(self) -> int:
        """Number of the panel that shows it."""
        return next(i for i, panel in enumerate(PANELS) if panel.nodes.fullmatch(self.node))


def choose_signals(run: Run, wanted: Sequence[str]) -> list[Signal]:
    """Look signals up by name.

    Raises:
        ArtifactError: A name is not in the Run.
    """
    if not run.waveforms:
        raise ArtifactError(
            f"{wanted[0] if wanted else 'signals'}: the run has no waveforms; expected a run made by: "
            "hvae-mnn simulate --waveforms TILE"
        )
    chosen: dict[tuple[str, str], None] = {}
    for name in wanted or [_first_tile(run)]:
        tile, _, node = name.rpartition(".")
        if name in run.waveforms:
            chosen |= dict.fromkeys((name, node) for node in _default_nodes(run.waveforms[name].signals))
        elif tile in run.waveforms and node in run.waveforms[tile].signals:
            chosen[tile, node] = None
        else:
            raise ArtifactError(_unknown_signal(run, name, tile))
    waveforms = run.waveforms
    return [Signal(tile, node, waveforms[tile].time, waveforms[tile].signals[node]) for tile, node in chosen]


def _first_tile(run: Run) -> str:
    """Return the first tile with waveforms in the order of the layers."""
    order = [layer.name for layer in run.layers]
    return min(run.waveforms, key=lambda tile: order.index(tile.split(".")[0]))


def _unknown_signal(run: Run, name: str, tile: str) -> str:
    if tile not in run.waveforms:
        hint = did_you_mean(tile, run.waveforms) or did_you_mean(name, run.waveforms)
        has = format_some(run.waveforms)
        return f"signal {name}: no waveforms of that tile in the run{hint}; expected TILE.NODE, tiles are {has}"
    nodes = run.waveforms[tile].signals
    hint = did_you_mean(name, [f"{tile}.{node}" for node in nodes])
    examples = {re.sub(r"\d+", "0", node) for node in nodes} & set(nodes)
    return f"signal {name}: no such node{hint}; {tile} has {len(nodes)}, such as {format_some(sorted(examples), 8)}"


def _default_nodes(nodes: Iterable[str]) -> Iterator[str]:
    """Yield clocks, and rows and columns from the start, the middle and the end of the tile; others if none is kept."""
    kept = list(nodes)
    clocks = [node for node in (names.ENABLE, names.CLOCK) if node in kept]
    wanted = (names.ROW, names.OUT, names.HOLD, names.ADC)
    kinds = [[node for node in kept if re.fullmatch(rf"{kind}\d+", node)] for kind in wanted]
    yield from clocks
    for members in kinds if clocks or any(kinds) else [kept]:
        members.sort(key=lambda node: [int(number) for number in re.findall(r"\d+", node)])
        yield from dict.fromkeys(members[place] for place in np.linspace(0, len(members) - 1, 3).astype(int) if members)


def count_panels(signals: Iterable[Signal]) -> int:
    """Return how many panels the signals need."""
    return len({signal.panel for signal in signals})


def draw_waveforms(canvas: Canvas, run: Run, signals: list[Signal]) -> None:
    """Draw a panel a kind of signal, cycles marked and headed by the word that is read."""
    used = sorted({signal.panel for signal in signals})
    tiles = list(dict.fromkeys(signal.tile for signal in signals))
    colours = _signal_colours(signals)
    axes = list(canvas.subplots(len(used), 1, sharex=True, squeeze=False)[:, 0])
    for axis, number in zip(axes, used, strict=True):
        members = [signal for signal in signals if signal.panel == number]
        _draw_panel(axis, PANELS[number], members, colours, len(tiles) > 1)
    cycle = run.waveforms[tiles[0]].cycle
    longest = max(signal.time[-1] for signal in signals)
    marks = _mark_cycles(axes, run, tiles, cycle, round(float(longest / cycle)))
    axes[-1].set_xlabel("time of the tile's cycles, µs")
    axes[-1].set_xlim(0, longest * 1e6)
    canvas.align_ylabels(axes)
    canvas.suptitle(format_title(f"{format_some(tiles, 3)}: {marks} each cycle"))


def _draw_panel(
    axis: Axes, panel: Panel, signals: list[Signal], colours: Mapping[tuple[str, str], str], full_names: bool
) -> None:
    label = panel.label
    if label == "ADC code" and any(np.any(signal.values != np.rint(signal.values)) for signal in signals):
        label = "ADC, parts of\nfull scale"
    for i, signal in enumerate(signals):
        name = f"{signal.tile}.{signal.node}" if full_names else signal.node
        shown = f"... {len(signals)} signals" if i == LEGEND_LIMIT else name
        look: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.55} if signal.node.startswith(names.OUT) else {}
        if signal.node.startswith(names.HOLD):
            look = {"linewidth": 1.5, "linestyle": (0, (3, 1.2))}
        axis.plot(
            signal.time * 1e6,
            signal.values * panel.scale,
            color=colours[signal.tile, signal.node],
            label=shown if i <= LEGEND_LIMIT else "_",
            **look,
        )
    axis.set_ylabel(label)
    axis.margins(y=0.12)
    columns = 1 if len(signals) <= 8 else 2
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), borderaxespad=0.2, ncols=columns, handlelength=1.6)


def _signal_colours(signals: Iterable[Signal]) -> dict[tuple[str, str], str]:
    """Give the nodes of a column (`out3`, `hold3`, `adc3`) one colour; clocks and rows their own."""
    colours: dict[tuple[str, str], str] = {}
    families: dict[str, dict[str, str]] = {}
    for signal in signals:
        kind, place = re.fullmatch(r"(\D*)(.*)", signal.node).groups()  # type: ignore[union-attr]
        if kind in (names.OUT, names.HOLD, names.ADC):
            kind = "column"
        family = families.setdefault("" if kind in (names.ENABLE, names.CLOCK) else kind, {})
        key = f"{signal.tile} {place}" if place else signal.node
        colours[signal.tile, signal.node] = family.setdefault(key, COLOURS[len(family) % len(COLOURS)])
    return colours


def _mark_cycles(axes: Sequence[Axes], run: Run, tiles: Sequence[str], cycle: float, count: int) -> str:
    """Draw a line at each cycle's start and head the cycle; return what the heads are.

    They are the words read, or numbers where tiles of several layers stand together.
    """
    for axis in axes:
        for i in range(1, count):
            axis.axvline(i * cycle * 1e6, color="0.8", linewidth=0.6, zorder=0)
    layers = list({tile.split(".")[0] for tile in tiles})
    words = words_read(run, layers[0], count) if len(layers) == 1 else [str(i + 1) for i in range(count)]
    top = axes[0].secondary_xaxis("top")
    top.spines["top"].set_visible(False)
    upright = count > 9 or max(map(len, words)) * count > 80
    top.set_xticks((np.arange(count) + 0.5) * cycle * 1e6, words, rotation=90 if upright else 0)
    top.tick_params(length=0, labelsize=6 if count > 25 else 7)
    return "word read in" if len(layers) == 1 else "number of"


def words_read(run: Run, layer: str, count: int) -> list[str]:
    """Return the word a layer reads at each of its steps; the decoder reads what it said before."""
    words = ["<sos>", *(run.hardware.tokens if layer == "decoder" else run.tokens), "<eos>"]
    words += [f"step {i + 1}" for i in range(len(words), count)]
    return [format_word(word) for word in words[:count]]
