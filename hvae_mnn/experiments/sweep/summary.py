"""What a sweep found: figures of each point over its dies, their intervals, and what costs the first 10 %.

The numbers are those of `hvae_mnn.experiments.sweep.statistics`; `docs/sweeps.md` says what each means.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.experiments.sweep.facts import StudyFacts, SweepFacts
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.statistics import (
    FEWEST,
    count_resamples,
    crossing_interval,
    find_crossing,
    mean_intervals,
    median_ranks,
    resample_means,
    share_interval,
)

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

JUDGED = "agreement_free"
"""The metric that yield and the first 10 % are about."""
LOSS = 0.10
_NAMES = tuple(metric.name for metric in METRICS)
_RANGE = (0.05, 0.95)
_COLUMNS = 1000  # resampled at once: 160 MB
_ROUNDING = 1e-12
"""A mean over sentences may miss the limit of the yield by its last bits."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval; None where it cannot be told."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric at one point, over the dies where it is finite.

    Attributes:
        n: Dies with a finite value.
        non_finite: Dies with none.
        mean: With its BCa bootstrap interval.
        median: With its bootstrap interval.
        p05: 5th percentile of the dies.
        p95: 95th percentile of the dies.
        difference: Mean difference from the same dies at the study's first point, with its interval.
    """

    n: int
    non_finite: int
    mean: Interval
    median: Interval
    p05: float | None
    p95: float | None
    difference: Interval


@dataclass(frozen=True, slots=True)
class PointSummary:
    """One point of a study.

    Attributes:
        point: Its number in the study.
        values: Value of each axis, by key.
        dies: Trials that were measured.
        passed: Dies whose free-running words agree at least as far as the yield asks.
        yield_: Passed of dies, with its Wilson interval.
        metrics: By name.
    """

    point: int
    values: Mapping[str, Any]
    dies: int
    passed: int
    yield_: Interval
    metrics: Mapping[str, MetricSummary]


@dataclass(frozen=True, slots=True)
class FirstLoss:
    """Where on an axis the mean share of equal words is 0.10 less than at its best point.

    Attributes:
        key: AxisFacts: the last numeric one of a grid.
        held: Values of the other axes, by key.
        best_at: Value of the axis with the largest mean.
        best: That mean.
        last: The value that lies furthest on the side looked at.
        at: Value of the axis, by linear interpolation; None where no point has lost so much. Its interval is
            open (None) at an end where resamples have not lost so much at the last value.
    """

    key: str
    held: Mapping[str, Any]
    best_at: float
    best: float
    last: float
    at: Interval


@dataclass(frozen=True, slots=True)
class StudySummary:
    """One study: its points in order and its first losses.

    Of a grid there are losses along its last numeric axis at each combination of the others' values.
    """

    name: str
    keys: tuple[str, ...]
    points: tuple[PointSummary, ...]
    losses: tuple[FirstLoss, ...]


@dataclass(frozen=True, slots=True)
class SpiceCheck:
    """How trials in SPICE compare with the same trials in the sweep.

    Attributes:
        trials: Trials that were done again in SPICE.
        values: ADC codes compared.
        equal_codes: Those that are equal.
        largest_lsb: Largest difference of a code, LSB.
        largest_analog: Largest difference before the ADC, parts of full scale.
        metrics: Largest absolute difference of each metric; None where none is finite in both.
    """

    trials: int
    values: int
    equal_codes: int
    largest_lsb: float
    largest_analog: float
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a sweep found, with what it was measured on."""

    studies: tuple[StudySummary, ...]
    software: Mapping[str, float]
    yield_at: float
    corpus: str
    sentences: int
    hardware_name: str
    model: str
    seed: int
    spice_check: SpiceCheck | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values: no NaN, no infinity; `yield_` is called `yield`."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key).rstrip("_"): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarise(
    rows: "pd.DataFrame",
    plan: SweepFacts,
    spice_check: "pd.DataFrame | None" = None,
    names: Sequence[str] = _NAMES,
) -> Summary:
    """Return the figures of every point that has a trial.

    Args:
        rows: One trial a row: study, point, trial and the metrics.
        plan: What was swept.
        spice_check: Trials done again in SPICE: the metrics, values, equal_codes (a share of the values),
            largest_lsb and largest_analog.
        names: Metrics to summarise.
    """
    studies = tuple(summarise_study(rows, study, plan, names) for study in plan.studies)
    return Summary(
        studies=studies,
        software=dict(plan.software),
        yield_at=plan.yield_at,
        corpus=plan.corpus,
        sentences=len(plan.sentences),
        hardware_name=plan.hardware_name,
        model=plan.model,
        seed=plan.seed,
        spice_check=None if spice_check is None or spice_check.empty else _compare_spice(rows, spice_check),
    )


def is_numeric(values: Sequence[Any]) -> bool:
    """Say whether an axis has numbers on it, not choices (or an unset value among numbers)."""
    return all(
        isinstance(each, int | float | np.number) and not isinstance(each, bool) and math.isfinite(each)
        for each in values
    )


def list_points(study: StudyFacts) -> list[dict[str, Any]]:
    """Return the axis values of each point of a study, by key."""
    grid = itertools.product(*(axis.values for axis in study.axes))
    return [dict(zip((axis.key for axis in study.axes), values, strict=True)) for values in grid]


def trials_of(rows: "pd.DataFrame", study: StudyFacts, name: str) -> tuple[Array, NDArray[np.bool_]]:
    """Return a metric of a study's trials, (points, dies): NaN where it is not finite or not measured.

    Returns:
        The values, and which of the trials were measured. Dies stand in order of their trial numbers.
    """
    mine = rows[rows["study"] == study.name]
    points = mine["point"].to_numpy(dtype=int)
    dies, place = np.unique(mine["trial"].to_numpy(dtype=int), return_inverse=True)
    values = np.full((math.prod(len(axis.values) for axis in study.axes), len(dies)), np.nan)
    measured = np.zeros(values.shape, dtype=bool)
    values[points, place] = mine[name].to_numpy(dtype=float)
    measured[points, place] = True
    values[~np.isfinite(values)] = np.nan
    return values, measured


def summarise_study(
    rows: "pd.DataFrame", study: StudyFacts, plan: SweepFacts, names: Sequence[str] = _NAMES, resampled: bool = True
) -> StudySummary:
    """Return the figures of one study, as `summarise` does of all; means have intervals if `resampled`."""
    judged, measured = trials_of(rows, study, JUDGED)
    tables = {name: trials_of(rows, study, name)[0] for name in names}
    means = _estimate_means(tables, plan.seed, resampled and bool(measured.any()))
    points = []
    for point, values in enumerate(list_points(study)):
        dies = int(measured[point].sum())
        if dies:
            passed = int((judged[point] >= plan.yield_at - _ROUNDING).sum())
            good = Interval(passed / dies, *share_interval(passed, dies))
            found = {name: _summarise_metric(tables[name][point], dies, *means[name][point]) for name in names}
            points.append(PointSummary(point, values, dies, passed, good, found))
    losses = tuple(_find_losses(judged, study, plan.seed)) if points else ()
    return StudySummary(study.name, tuple(axis.key for axis in study.axes), tuple(points), losses)


def _estimate_means(
    tables: Mapping[str, Array], seed: int, resampled: bool
) -> dict[str, list[tuple[Interval, Interval]]]:
    """Return the mean of each metric at each point, and the mean difference from the first point."""
    if not tables:
        return {}
    size = len(next(iter(tables.values())))
    columns = np.concatenate([part for table in tables.values() for part in (table, table - table[0])]).T
    values = [float(each[np.isfinite(each)].mean()) if np.isfinite(each).any() else np.nan for each in columns.T]
    none = np.full(len(values), np.nan)
    lows, highs = _intervals(columns, seed) if resampled else (none, none)
    found = [_estimate(*each) for each in zip(values, lows, highs, strict=True)]
    starts = range(0, len(found), 2 * size)
    return {
        name: list(zip(found[start : start + size], found[start + size : start + 2 * size], strict=True))
        for name, start in zip(tables, starts, strict=True)
    }


def _intervals(columns: Array, seed: int) -> tuple[Array, Array]:
    """Return `mean_intervals` of all columns, some at a time: resampled means take 80 kB each."""
    resamples = count_resamples(*columns.shape)
    parts = [columns[:, start : start + _COLUMNS] for start in range(0, columns.shape[1], _COLUMNS)]
    found = [mean_intervals(part, resample_means(part, seed, resamples)) for part in parts]
    return np.concatenate([low for low, _ in found]), np.concatenate([high for _, high in found])


def _summarise_metric(trials: Array, dies: int, mean: Interval, difference: Interval) -> MetricSummary:
    finite = np.sort(trials[np.isfinite(trials)])
    p05, p95 = np.quantile(finite, _RANGE) if len(finite) else (np.nan, np.nan)
    n = len(finite)
    return MetricSummary(n, dies - n, mean, _median(finite), _known(p05), _known(p95), difference)


def _median(ordered: Array) -> Interval:
    if len(ordered) < FEWEST:
        return _estimate(float(np.median(ordered)) if len(ordered) else np.nan, np.nan, np.nan)
    low, high = median_ranks(len(ordered))
    return _estimate(float(np.median(ordered)), ordered[low], ordered[high])


def _estimate(value: float, low: float, high: float) -> Interval:
    return Interval(_known(value), _known(low), _known(high))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _find_losses(judged: Array, study: StudyFacts, seed: int) -> Iterator[FirstLoss]:
    """Yield the first losses along the last numeric axis, for each combination of the others' values."""
    numeric = [i for i, axis in enumerate(study.axes) if len(axis.values) > 1 and is_numeric(axis.values)]
    if not numeric:
        return
    along, others = study.axes[numeric[-1]], [axis for i, axis in enumerate(study.axes) if i != numeric[-1]]
    grid = np.arange(len(judged)).reshape([len(axis.values) for axis in study.axes])
    lines = np.moveaxis(grid, numeric[-1], -1).reshape(-1, len(along.values))
    combinations = itertools.product(*(axis.values for axis in others))
    for line, held in zip(lines, combinations, strict=True):
        named = dict(zip((axis.key for axis in others), held, strict=True))
        for loss in _losses_along(np.array(along.values, dtype=float), judged[line], along.key, seed):
            yield replace(loss, held=named)


def _losses_along(x: Array, judged: Array, key: str, seed: int) -> list[FirstLoss]:
    """Return the first loss on each side of the best point that has one, or one without a place."""
    there = np.isfinite(judged).any(axis=1)
    x, judged = x[there], judged[there]
    if len(x) < 2:
        return []
    means = np.nanmean(judged, axis=1)
    best = int(np.argmax(means))  # the first of equals, in the order given
    resampled = resample_means(judged.T, seed)
    order = np.argsort(x)
    sides = [order[x[order] >= x[best]], order[x[order] <= x[best]][::-1]]
    found = []
    for side, rising in zip(sides, (True, False), strict=True):
        if len(side) > 1:
            at = float(find_crossing(x[side], means[side], LOSS))
            low, high = np.nan, np.nan
            if math.isfinite(at) and judged.shape[1] >= FEWEST:
                low, high = crossing_interval(find_crossing(x[side], resampled[:, side], LOSS), rising)
            found.append(
                FirstLoss(key, {}, float(x[best]), float(means[best]), float(x[side[-1]]), _estimate(at, low, high))
            )
    return [loss for loss in found if loss.at.value is not None] or found[:1]


def _compare_spice(rows: "pd.DataFrame", check: "pd.DataFrame") -> SpiceCheck:
    """Return how the trials in SPICE compare; those that the sweep has not are left out of the metrics."""
    place = ["study", "point", "trial"]
    both = check.merge(rows, on=place, suffixes=("", "_swept"))
    apart: dict[str, float | None] = {}
    for metric in METRICS:
        mine, swept = (both[column].to_numpy(dtype=float) for column in (metric.name, f"{metric.name}_swept"))
        difference = np.abs(mine - swept)
        finite = difference[np.isfinite(difference)]
        apart[metric.name] = float(finite.max()) if len(finite) else None
    return SpiceCheck(
        trials=len(check),
        values=int(check["values"].sum()),
        equal_codes=round(float((check["values"] * check["equal_codes"]).sum())),
        largest_lsb=float(check["largest_lsb"].max()),
        largest_analog=float(check["largest_analog"].max()),
        metrics=apart,
    )
