"""Figures of a Sweep: one a study, lines along one axis, maps over several."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from matplotlib.figure import Figure

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.sweep.facts import StudyFacts, SweepFacts
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.reports.figures.style import check_format, figure_style, format_word, save_figure
from hvae_mnn.reports.figures.sweep_axes import RMS, YIELD
from hvae_mnn.reports.figures.sweep_lines import draw_line
from hvae_mnn.reports.figures.sweep_maps import draw_maps
from hvae_mnn.runtime.toml import did_you_mean

if TYPE_CHECKING:
    import pandas as pd


class SweepLike(Protocol):
    """What a figure needs of a Sweep."""

    @property
    def plan(self) -> SweepFacts:
        """What was swept, and on what."""

    @property
    def rows(self) -> "pd.DataFrame":
        """One trial a row."""


def draw_studies(sweep: SweepLike, folder: Path) -> list[Path]:
    """Draw every study that has a trial into a folder, as `figure.png` or `figure-STUDY.png`.

    Returns:
        The files written.

    Raises:
        ArtifactError: A figure cannot be written.
    """
    return save_sweep_figures(sweep, (), folder / "figure.png")


def save_sweep_figures(sweep: SweepLike, names: Sequence[str], out: Path) -> list[Path]:
    """Draw every study that has a trial: into `out`, or where there are several into `out` with their names.

    Args:
        sweep: With its rows.
        names: Metrics to draw, `yield` or `rms`; a selection if empty.
        out: Figure to write; its suffix is the format.

    Returns:
        The files written.

    Raises:
        ArtifactError: A name is no metric, no study has a trial, or a figure cannot be written.
    """
    check_format(out)
    figures = plot_sweep(sweep, names)
    if not figures:
        raise ArtifactError("the sweep has no trial yet; expected at least one. Let hvae-mnn sweep-variation go on")
    files = []
    for name, figure in figures.items():
        files.append(out if len(sweep.plan.studies) == 1 else out.with_name(f"{out.stem}-{name}{out.suffix}"))
        save_figure(figure, files[-1])
    return files


def plot_sweep(sweep: SweepLike, names: Sequence[str] = ()) -> dict[str, Figure]:
    """Return a figure for each study that has a trial, by its name.

    Raises:
        ArtifactError: A name is no metric.
    """
    known = [YIELD, RMS, *(metric.name for metric in METRICS)]
    for name in names:
        if name not in known:
            raise ArtifactError(
                f"signal {name}: no such metric of a sweep{did_you_mean(name, known)}; "
                f"expected one of {', '.join(known)}"
            )
    measured = set(sweep.rows["study"])
    return {
        study.name: _draw_study(sweep, study, list(dict.fromkeys(names)))
        for study in sweep.plan.studies
        if study.name in measured
    }


def _draw_study(sweep: SweepLike, study: StudyFacts, names: Sequence[str]) -> Figure:
    rows, facts = sweep.rows, sweep.plan
    left_out = ""
    with figure_style():
        if len(study.axes) == 1:
            figure = draw_line(rows, study, facts, names)
        else:
            figure, left_out = draw_maps(rows, study, facts, names)
        counts = rows[rows["study"] == study.name].groupby("point").size()
        low, high = int(counts.min()), int(counts.max())
        dies = f"{high}" if low == high else f"{low} to {high}"
        parts = (
            f"{study.name}: {dies} {'die' if high == 1 else 'dies'} a point",
            f"{len(facts.sentences)} sentences of {facts.corpus}",
        )
        title = f"{', '.join(parts)}; hardware {facts.hardware_name}"
        wide = int(figure.get_figwidth() * 13)
        figure.suptitle("\n".join(format_word(textwrap.fill(line, wide)) for line in (title, left_out) if line))
    return figure
