"""Figures of all that commands write, by matplotlib's object interface (no window, no state).

A signal is named by tile and node, `encoder1.f.r0c0.out3`; the nodes are those of the decks
(`hvae_mnn.circuit.spice.tile_deck`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.programmed import Programmed, is_programmed, load_programmed
from hvae_mnn.reports.figures.conductances import draw_all_gates, draw_one_map, find_tiles
from hvae_mnn.reports.figures.programming import draw_programmed
from hvae_mnn.reports.figures.read_errors import draw_read_errors, error_height
from hvae_mnn.reports.figures.style import WIDTH, check_format, figure_style, save_figure
from hvae_mnn.reports.figures.waveforms import PANEL_HEIGHT, choose_signals, count_panels, draw_waveforms
from hvae_mnn.simulation.run import Run, is_run, load_run

if TYPE_CHECKING:
    from hvae_mnn.compiler.build import Build
    from hvae_mnn.experiments.device import DeviceCurves
    from hvae_mnn.experiments.explain import Explanation

__all__ = [
    "plot",
    "plot_artifact",
    "plot_conductances",
    "plot_device",
    "plot_errors",
    "plot_explanation",
    "plot_programmed",
    "plot_run",
    "plot_waveforms",
    "save_figure",
]


def plot_artifact(folder: Path, signals: Sequence[str], out: Path) -> list[Path]:
    """Draw a Run (waveforms, where it has any, and errors), a Build (conductances), a programming, a Sweep or a study.

    Args:
        folder: A Run, a Build, a Sweep, a study, or what `hvae-mnn program` wrote.
        signals: TILE.NODE or TILE of a Run; one TILE or LAYER.GATE of a Build; metrics of a Sweep; empty for a
            selection.
        out: Figure to write; its suffix is the format. Of a Sweep with several studies one file each, with
            their names.

    Returns:
        The files written.

    Raises:
        ArtifactError: The folder is none of them, a name is not in it, or the figure cannot be written.
    """
    check_format(out)
    if is_run(folder):
        figure = plot_run(load_run(folder), signals)
    elif is_programmed(folder):
        if signals:
            raise ArtifactError(f"--signal {signals[0]}: a programming has no signals; leave it out")
        figure = plot_programmed(load_programmed(folder))
    elif (folder / "manifest.json").is_file():
        from hvae_mnn.compiler.build import load_build  # a Run is drawn without loading torch

        if len(signals) > 1:
            raise ArtifactError(f"--signal: {len(signals)} names for a build; expected one, a TILE or LAYER.GATE")
        figure = plot_conductances(load_build(folder), *signals)
    else:
        return _plot_rows(folder, signals, out)
    save_figure(figure, out)
    return [out]


def _plot_rows(folder: Path, signals: Sequence[str], out: Path) -> list[Path]:
    """Draw what is a table, a Sweep or a study; everything else is drawn without loading pandas."""
    from hvae_mnn.experiments.sweep.store import is_sweep, load_sweep

    if is_sweep(folder):
        from hvae_mnn.reports.figures.sweeps import save_sweep_figures

        return save_sweep_figures(load_sweep(folder), signals, out)
    from hvae_mnn.experiments.model_table.results import RESULTS, load_results

    if not (folder / RESULTS).is_file():
        raise ArtifactError(
            f"{folder}: no run (run.json), build (manifest.json), programming (programming.json), sweep (plan.json) or "
            f"study ({RESULTS}); make one with: hvae-mnn simulate, hvae-mnn compile, hvae-mnn program, "
            "hvae-mnn sweep-variation, or hvae-mnn train --study"
        )
    if signals:
        raise ArtifactError(f"--signal {signals[0]}: a study has no signals; leave it out")
    from hvae_mnn.reports.figures.studies import draw_study

    with figure_style():
        figure = draw_study(load_results(folder))
    save_figure(figure, out)
    return [out]


def plot(what: "Run | Build | Programmed | Explanation | DeviceCurves", signals: str | Sequence[str] = ()) -> Figure:
    """Draw a result as the figure that `hvae-mnn plot` makes of it; `figure.savefig(...)` writes it.

        plot(simulate(build, "this child carries his clock")).savefig("run.png")

    Args:
        what: A Run, a Build, a programming, an explanation, or a device's curves. Of a Sweep there is a figure for
            each study: `hvae-mnn plot FOLDER` writes them.
        signals: One or several: TILE.NODE or TILE of a Run; one TILE or LAYER.GATE of a Build; empty for a selection.

    Raises:
        ArtifactError: A signal is not in it.
        TypeError: It is no result that one figure shows.
    """
    kind = type(what).__name__
    if kind not in _FIGURES:
        raise TypeError(f"a {kind} has no figure; expected one of {', '.join(_FIGURES)}")
    figure: Figure = _FIGURES[kind](what, (signals,) if isinstance(signals, str) else signals)
    return figure


def plot_run(run: Run, signals: Sequence[str] = ()) -> Figure:
    """Draw waveforms above errors, or errors alone where the Run has no waveforms.

    Raises:
        ArtifactError: A signal is not in the Run.
    """
    if not run.waveforms and not signals:
        return plot_errors(run)
    chosen = choose_signals(run, signals)
    upper, lower = PANEL_HEIGHT * count_panels(chosen) + 0.7, error_height(run)
    with figure_style():
        figure = Figure(figsize=(WIDTH, upper + lower), layout="constrained")
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[upper, lower])[:, 0]
        draw_waveforms(parts[0], run, chosen)
        draw_read_errors(parts[1], run)
    return figure


def plot_waveforms(run: Run, signals: Sequence[str] = ()) -> Figure:
    """Draw signals of tiles that were read in time.

    Args:
        run: A Run with waveforms.
        signals: Names TILE.NODE, or TILE for a selection of its nodes; the first tile if empty.

    Raises:
        ArtifactError: A signal is not in the Run.
    """
    chosen = choose_signals(run, signals)
    with figure_style():
        figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * count_panels(chosen) + 0.7), layout="constrained")
        draw_waveforms(figure, run, chosen)
    return figure


def plot_errors(run: Run) -> Figure:
    """Draw the read error of each layer at each time step, in parts of ADC full scale."""
    with figure_style():
        figure = Figure(figsize=(WIDTH, error_height(run)), layout="constrained")
        draw_read_errors(figure, run)
    return figure


def plot_programmed(programmed: Programmed) -> Figure:
    """Draw what write-verify did: trajectories, errors against targets, pulse counts."""
    with figure_style():
        return draw_programmed(programmed)


def plot_device(curves: "DeviceCurves") -> Figure:
    """Draw a device's current-voltage loops and its staircase."""
    from hvae_mnn.reports.figures.device import draw_device  # a Run is drawn without loading the engines

    with figure_style():
        return draw_device(curves)


def plot_explanation(explanation: "Explanation") -> Figure:
    """Draw where a Run's error comes from: a bar a factor, alone and with those before it."""
    from hvae_mnn.reports.figures.explanation import draw_explanation  # a Run is drawn without loading the engines

    with figure_style():
        return draw_explanation(explanation)


def plot_conductances(build: "Build", name: str | None = None) -> Figure:
    """Draw conductance maps with their distributions.

    Args:
        build: A compiled model.
        name: A tile (`encoder1.f.r0c0`), or a gate, whose tiles are put together (`encoder1.f`);
            every gate if not given.

    Raises:
        ArtifactError: The Build has no such tile or gate.
    """
    with figure_style():
        return draw_all_gates(build) if name is None else draw_one_map(build, name, *find_tiles(build, name))


_FIGURES: Mapping[str, Callable[..., Figure]] = {
    "Run": plot_run,
    "Build": lambda build, signals: plot_conductances(build, *signals),
    "Programmed": lambda programmed, _: plot_programmed(programmed),
    "Explanation": lambda explanation, _: plot_explanation(explanation),
    "DeviceCurves": lambda curves, _: plot_device(curves),
}
"""What draws a result, by its type's name: the types themselves would load the compiler and the engines."""
