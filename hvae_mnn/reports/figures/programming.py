"""What write-verify did: trajectories of single cells, errors against targets, pulse counts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hvae_mnn.circuit.programming import STUCK
from hvae_mnn.circuit.variation import error_moments
from hvae_mnn.experiments.programmed import Programmed, Sample
from hvae_mnn.reports.figures.style import COLOURS, WIDTH, format_title

_TRAJECTORIES, _POINTS = 7, 4000


def draw_programmed(programmed: Programmed) -> Figure:
    """Draw trajectories (where cells were programmed in SPICE), errors and pulse counts."""
    sample = programmed.sample
    figure = Figure(figsize=(WIDTH, 5.2 if sample is not None else 2.9), layout="constrained")
    grid = figure.add_gridspec(2 if sample is not None else 1, 2)
    if sample is not None:
        _draw_trajectories(figure.add_subplot(grid[0, :]), sample, programmed)
    _draw_errors(figure.add_subplot(grid[-1, 0]), programmed)
    _draw_pulses(figure.add_subplot(grid[-1, 1]), programmed)
    where = f"{programmed.cells.g.size} cells by numpy"
    if sample is not None:
        where += f", {len(sample.tiles)} of them in SPICE too"
    figure.suptitle(format_title(f"write-verify: {where}; hardware {programmed.hardware_name}, seed {programmed.seed}"))
    return figure


def _draw_trajectories(axis: Axes, sample: Sample, programmed: Programmed) -> None:
    """Draw measured conductance against pulse number for cells whose targets lie apart."""
    spice, history = sample.spice, 1e6 * np.array(sample.spice.history)
    free = np.flatnonzero(spice.status != STUCK)
    targets = spice.g_target[free]
    wanted = np.linspace(targets.min(initial=np.inf), targets.max(initial=0), _TRAJECTORIES)
    cells = np.unique([free[np.abs(targets - each).argmin()] for each in wanted]) if free.size else free
    band = 1e6 * programmed.tolerance * programmed.span
    for colour, cell in zip(COLOURS, cells, strict=False):
        reads = history[: spice.pulses[cell] + 1, cell]
        target = 1e6 * spice.g_target[cell]
        axis.axhspan(target - band, target + band, color=colour, alpha=0.25, linewidth=0)
        axis.plot(np.arange(len(reads)), reads, "o-", color=colour, markersize=3)
        axis.annotate(
            f"{target:.4g}",
            (len(reads) - 1, target),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("pulses given")
    axis.set_ylabel("measured G, uS")
    axis.set_title("cells in SPICE on their way to their targets (numbers: target, uS; bands: tolerance)")


def _draw_errors(axis: Axes, programmed: Programmed) -> None:
    """Draw error against target with the fitted model's mean and sigma."""
    cells = programmed.cells
    free = np.flatnonzero(cells.status != STUCK)
    shown = np.random.default_rng(0).choice(free, min(_POINTS, len(free)), replace=False)
    percent = 100 / programmed.span
    target, error = 1e6 * cells.g_target[shown], percent * (cells.g - cells.g_target)[shown]
    axis.plot(target, error, ".", color=COLOURS[5], markersize=1.5, alpha=0.5, label="numpy", rasterized=True)
    if programmed.sample is not None:
        spice = programmed.sample.spice
        kept = spice.status != STUCK
        found = percent * (spice.g - spice.g_target)[kept]
        axis.plot(1e6 * spice.g_target[kept], found, "+", color=COLOURS[1], markersize=3, label="SPICE")
    model = programmed.error_model
    g = np.linspace(model.g_low, model.g_high, 200)
    mean, sigma = error_moments(g, model, None)
    axis.plot(1e6 * g, percent * mean, color=COLOURS[6], label="fitted mean")
    for sign, label in ((1, "fitted mean +- sigma"), (-1, None)):
        axis.plot(1e6 * g, percent * (mean + sign * sigma), "--", color=COLOURS[6], label=label)
    axis.set_xlabel("target G, uS")
    axis.set_ylabel("error, % of range")
    limit = 2 * np.percentile(np.abs(error), 99.5) if error.size else 1
    axis.set_ylim(-limit, limit)
    axis.legend(loc="upper center", ncols=2, markerscale=2)
    axis.set_title("error that remains")


def _draw_pulses(axis: Axes, programmed: Programmed) -> None:
    """Draw the distribution of pulse counts of cells that are not stuck."""
    sides = [("numpy", programmed.cells, COLOURS[5])]
    if programmed.sample is not None:
        sides.append(("SPICE", programmed.sample.spice, COLOURS[1]))
    counts = [(name, side.pulses[side.status != STUCK], colour) for name, side, colour in sides]
    most = max((int(pulses.max()) for _, pulses, _ in counts if pulses.size), default=0)
    edges = np.arange(-0.5, most + 1.5)
    for name, pulses, colour in counts:
        shares = 100 * np.histogram(pulses, edges)[0] / max(1, len(pulses))
        axis.stairs(shares, edges, color=colour, fill=name == "numpy", alpha=0.6 if name == "numpy" else 1, label=name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("pulses")
    axis.set_ylabel("% of cells")
    axis.legend()
    axis.set_title("pulses needed")
