"""A summary on stdout: a line a point, what costs the first 10 %, and what it is compared with."""

from collections.abc import Sequence
from typing import Any

import click

from hvae_mnn.experiments.sweep.metrics import LAYERS, METRICS
from hvae_mnn.experiments.sweep.summary import FirstLoss, Interval, PointSummary, SpiceCheck, StudySummary, Summary

_METRICS_SHOWN = 3
"""Of a check in SPICE; all of them are in the JSON."""


def print_summary(summary: Summary) -> None:
    """Print a table a study, the first losses, the software's figures and how SPICE compares."""
    for study in summary.studies:
        _print_study(study, summary.yield_at)
    _print_losses(summary.studies)
    figures = ", ".join(f"{name} {value:.2f}" for name, value in _in_order(summary.software))
    click.echo(f"software   {summary.model}: {figures} nats a sentence, z sampled")
    if summary.spice_check is not None:
        _print_check(summary.spice_check)
    click.echo(
        f"medians of dies with [95 % intervals]; {summary.sentences} sentences of "
        f"{summary.corpus}, hardware {summary.hardware_name}, seed {summary.seed}"
    )


def _in_order(software: Any) -> list[tuple[str, float]]:
    """Return the software's figures, the bound first."""
    names = {"elbo": "ELBO", "reconstruction": "reconstruction", "kl": "KL"}
    return [(shown, software[name]) for name, shown in names.items() if name in software]


def _print_study(study: StudySummary, yield_at: float) -> None:
    heads = (
        "words free",
        "",
        "forced",
        f"yield at {yield_at:.0%}",
        "",
        "ELBO",
        "KL shift",
        *(f"rms {layer}" for layer in LAYERS),
    )
    rows = [_format_point(study, point) for point in study.points]
    click.echo(f"study      {study.name}")
    _print_columns([(*study.keys, "dies", *heads), *rows], left=len(study.keys))
    for point in study.points:
        broken = [f"{name} of {found.non_finite}" for name, found in point.metrics.items() if found.non_finite]
        if broken:
            values = ", ".join(_format_value(value) for value in point.values.values())
            click.echo(f"           not finite at {values}: {', '.join(broken)} dies; left out above")
    click.echo("")


def _format_point(study: StudySummary, point: PointSummary) -> tuple[str, ...]:
    medians = {name: found.median for name, found in point.metrics.items()}
    free, good = medians["agreement_free"], point.yield_
    return (
        *(_format_value(point.values[key]) for key in study.keys),
        str(point.dies),
        _percent(free.value),
        _format_interval(free),
        _percent(medians["agreement_forced"].value),
        _percent(good.value),
        _format_interval(good),
        _number(medians["elbo"].value, ".2f"),
        _number(medians["kl_shift"].value, ".3g"),
        *(_percent(medians[f"rms_{layer}"].value, 3) for layer in LAYERS),
    )


def _print_columns(rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print rows of equal length, the first `left` columns from the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        both = zip(row, widths, strict=True)
        cells = [f"{cell:<{width}}" if i < left else f"{cell:>{width}}" for i, (cell, width) in enumerate(both)]
        click.echo("  ".join(cells).rstrip())


def _print_losses(studies: Sequence[StudySummary]) -> None:
    losses = [(study.name, loss) for study in studies for loss in study.losses]
    if not losses:
        return
    click.echo("what costs the first 10 %: mean share of equal words, free-running, 0.10 below the best point's")
    heads = ("study", "axis", "lost at", "", "best", "at")
    _print_columns([heads, *(_format_loss(name, loss) for name, loss in losses)], left=3)
    click.echo("")


def _format_loss(name: str, loss: FirstLoss) -> tuple[str, ...]:
    at = loss.at
    if at.value is None:
        place, interval = f"not up to {_format_value(loss.last)}", ""
        if loss.last < loss.best_at:
            place = f"not down to {_format_value(loss.last)}"
    else:
        ends = [_format_value(end) if end is not None else "beyond" for end in (at.low, at.high)]
        told = at.low is not None or at.high is not None
        place, interval = f"{at.value:.3g}", f"[{ends[0]}, {ends[1]}]" if told else ""
    held = "".join(f", {key} = {_format_value(value)}" for key, value in loss.held.items())
    return name, loss.key + held, place, interval, _percent(loss.best), _format_value(loss.best_at)


def _print_check(check: SpiceCheck) -> None:
    share = check.equal_codes / check.values if check.values else 0.0
    click.echo(
        f"SPICE      {check.trials} trials: {share:.4%} of {check.values} ADC codes equal, the others within "
        f"{check.largest_lsb:.3g} LSB; before the ADC within {check.largest_analog:.2g} of full scale"
    )
    apart = [(metric, check.metrics.get(metric.name)) for metric in METRICS]
    worst = sorted(((value, metric.name) for metric, value in apart if value), reverse=True)
    if worst:
        text = ", ".join(f"{name} {value:.2g}" for value, name in worst[:_METRICS_SHOWN])
        click.echo(f"           metrics apart by at most: {text}")
    else:
        click.echo("           every metric the same")


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _format_interval(found: Interval) -> str:
    return "" if found.low is None or found.high is None else f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _percent(value: float | None, digits: int = 1) -> str:
    return "none" if value is None else f"{100 * value:.{digits}f}%"


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else f"{value:{form}}"
