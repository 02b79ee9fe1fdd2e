"""Statistics over dies: closed forms, scipy and simulated coverage; what a summary and its table say."""

import itertools
import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm

from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.statistics import (
    count_resamples,
    crossing_interval,
    find_crossing,
    mean_intervals,
    median_ranks,
    resample_means,
    share_interval,
)
from hvae_mnn.experiments.sweep.summary import FirstLoss, MetricSummary, Summary, is_numeric, summarise, summarise_study
from hvae_mnn.reports.sweep_table import print_summary

SIGMA = "device.sigma"


def make_plan(*studies: tuple[str, dict[str, Any]], yield_at: float = 0.9) -> SimpleNamespace:
    """Make the facts of a sweep: name and axes of each study."""
    return SimpleNamespace(
        studies=[
            SimpleNamespace(
                name=name, axes=[SimpleNamespace(key=key, values=tuple(values)) for key, values in axes.items()]
            )
            for name, axes in studies
        ],
        software={"reconstruction": 34.2, "kl": 6.1, "elbo": 40.3},
        yield_at=yield_at,
        corpus="grammar",
        sentences=(3, 1, 4),
        hardware_name="realistic",
        model="shipped",
        seed=0,
    )


def make_rows(plan: Any, **columns: Any) -> pd.DataFrame:
    """Make a row a trial of each point; a metric not given is 1, the others are (points, dies)."""
    rows = []
    for study in plan.studies:
        dies = max((np.shape(table)[1] for table in columns.values()), default=2)
        for point, _ in enumerate(itertools.product(*(axis.values for axis in study.axes))):
            for trial in range(dies):
                row = {metric.name: 1.0 for metric in METRICS}
                row |= {name: float(table[point][trial]) for name, table in columns.items()}
                rows.append({"study": study.name, "point": point, "trial": trial, "seed": trial, **row})
    return pd.DataFrame(rows)


def summarise_one(values: Any, axis: tuple[Any, ...] | None = None, **columns: Any) -> Summary:
    """Summarise one study of agreement, (points, dies)."""
    plan = make_plan(("a", {SIGMA: axis or tuple(float(i) for i in range(len(values)))}))
    return summarise(make_rows(plan, agreement_free=values, **columns), plan)


def metric_of(summary: Summary, point: int, name: str = "agreement_free") -> MetricSummary:
    return summary.studies[0].points[point].metrics[name]


def losses_of(means: list[float], x: tuple[Any, ...], spread: float = 0.0, dies: int = 40) -> tuple[FirstLoss, ...]:
    """Return the losses of a study whose dies lie at the means, moved in common by a die's own offset."""
    offset = np.linspace(-spread, spread, dies)
    return summarise_one(np.array(means)[:, None] + offset, x).studies[0].losses


def test_the_interval_of_a_mean_of_normal_values_is_that_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(5, 2, (400, 3))
    low, high = mean_intervals(values, resample_means(values, 0))
    half = norm.ppf(0.975) * values.std(axis=0, ddof=1) / 20
    np.testing.assert_allclose(low, values.mean(axis=0) - half, atol=0.06 * half.max())
    np.testing.assert_allclose(high, values.mean(axis=0) + half, atol=0.06 * half.max())


def test_the_interval_of_a_skewed_mean_is_scipys_bca() -> None:
    values = np.random.default_rng(2).lognormal(0, 1, (35, 2))
    low, high = mean_intervals(values, resample_means(values, 0))
    expected = bootstrap((values,), np.mean, axis=0, n_resamples=40_000, rng=3).confidence_interval
    width = expected.high - expected.low
    np.testing.assert_allclose(low, expected.low, atol=0.03 * width.max())
    np.testing.assert_allclose(high, expected.high, atol=0.04 * width.max())
    middle = values.mean(axis=0)
    assert ((high - middle) > 1.15 * (middle - low)).all()  # skewed as the data are: no percentile, no normal interval


@pytest.mark.parametrize("dies", [5, 20, 31])
def test_the_interval_of_a_median_is_scipys_percentile_bootstrap(dies: int) -> None:
    values = np.sort(np.random.default_rng(dies).normal(size=dies))
    found = bootstrap((values,), np.median, method="percentile", n_resamples=40_000, rng=4).confidence_interval
    low, high = (values[rank] for rank in median_ranks(dies))
    if dies % 2:
        assert (low, high) == (found.low, found.high)
    else:  # of the two middle values the outer one on either side: at most a rank wider
        ranks = np.searchsorted(values, [found.low, found.high], side="left")
        assert low <= found.low and high >= found.high
        assert np.abs(np.array(median_ranks(dies)) - ranks).max() <= 1


def test_intervals_hold_the_truth_in_95_of_100_sets() -> None:
    rng = np.random.default_rng(5)
    sets = rng.gamma(4.0, 1.0, (40, 300))
    low, high = mean_intervals(sets, resample_means(sets, 0))
    assert 0.90 <= ((low <= 4.0) & (4.0 <= high)).mean() <= 0.98
    ordered, (first, last) = np.sort(sets, axis=0), median_ranks(40)
    truth = 3.672060748850897  # median of a gamma distribution of shape 4
    assert 0.90 <= ((ordered[first] <= truth) & (truth <= ordered[last])).mean() <= 0.99


def test_the_interval_of_a_share_is_wilsons_formula() -> None:
    z, share, n = norm.ppf(0.975), 17 / 20, 20
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert share_interval(17, 20) == pytest.approx((middle - half, middle + half))
    assert share_interval(20, 20)[1] == pytest.approx(1.0)
    assert share_interval(0, 1)[0] == pytest.approx(0.0)


def test_values_that_are_equal_or_alone_give_no_nonsense() -> None:
    few = [1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
    values = np.array([[0.3, 1.0, np.nan, value] for value in few])
    values[-1, 1] = np.nan
    low, high = mean_intervals(values, resample_means(values, 0))
    assert low[0] == high[0] == 0.3
    assert np.isnan([low[1], high[1], low[2], high[2]]).all()
    assert 1.0 <= low[3] < high[3] <= 8.0


def test_many_values_are_drawn_fewer_times() -> None:
    assert count_resamples(100, 760) == 9999
    assert count_resamples(100, 40_000) == 999
    assert 999 < count_resamples(100, 4_000) < 9999


def test_means_of_resamples_are_those_of_the_drawn_dies() -> None:
    """Columns share their dies: of a column and twice the column plus 1, each resample's mean is that too."""
    values = np.random.default_rng(6).normal(size=(30, 1))
    means = resample_means(np.concatenate([values, 2 * values + 1], axis=1), 0)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0] + 1)
    assert means[:, 0].std() == pytest.approx(values.std() / math.sqrt(30), rel=0.03)
    assert (resample_means(values, 0) == resample_means(values, 0)).all()
    assert (resample_means(values, 0) != resample_means(values, 1)).any()


def test_a_point_has_the_plain_figures_of_its_dies() -> None:
    values = np.random.default_rng(7).uniform(0.7, 1.0, (3, 21))
    summary = summarise_one(values)
    for point in range(3):
        found = metric_of(summary, point)
        assert found.mean.value == pytest.approx(values[point].mean())
        assert found.median.value == np.median(values[point])
        assert (found.p05, found.p95) == pytest.approx(tuple(np.quantile(values[point], [0.05, 0.95])))
        assert (found.n, found.non_finite) == (21, 0)
        ends = (found.mean.low, found.mean.value, found.mean.high, found.median.low, found.median.high)
        assert None not in ends
        assert found.mean.low < found.mean.value < found.mean.high  # type: ignore[operator]


def test_the_yield_counts_dies_at_the_limit_or_better() -> None:
    agreement = np.array([[0.9 - 1e-15, 0.9, 0.95, 0.89, np.nan]])
    point = summarise_one(agreement).studies[0].points[0]
    assert (point.passed, point.dies, point.yield_.value) == (3, 5, 0.6)
    assert (point.yield_.low, point.yield_.high) == pytest.approx(share_interval(3, 5))


def test_differences_are_between_the_same_dies() -> None:
    """Dies differ much, all lose 0.01 with little spread: a paired interval is narrow, around -0.01."""
    rng = np.random.default_rng(8)
    first = rng.uniform(0.2, 1.0, 50)
    second = first - 0.01 + rng.normal(0, 1e-4, 50)
    summary = summarise_one(np.array([first, second]))
    difference = metric_of(summary, 1).difference
    assert difference.value == pytest.approx((second - first).mean())
    assert difference.low is not None and difference.high is not None
    assert -0.0102 < difference.low < difference.high < -0.0098
    own = metric_of(summary, 1).mean
    assert own.high is not None and own.low is not None and own.high - own.low > 0.1
    assert metric_of(summary, 0).difference.value == 0


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    elbo = np.array([[40.0, 41.0, 42.0], [50.0, np.inf, np.nan], [np.nan] * 3])
    summary = summarise_one(np.ones((3, 3)), elbo=elbo)
    assert [metric_of(summary, point, "elbo").non_finite for point in range(3)] == [0, 2, 3]
    assert metric_of(summary, 1, "elbo").mean.value == 50.0
    assert metric_of(summary, 1, "elbo").median.low is None
    gone = metric_of(summary, 2, "elbo")
    assert (gone.n, gone.mean.value, gone.median.value, gone.p05, gone.difference.value) == (0, None, None, None, None)


def test_points_and_dies_that_are_not_there_yet_are_left_out() -> None:
    plan = make_plan(("a", {SIGMA: (0.0, 0.1, 0.2)}), ("b", {SIGMA: (0.0,)}))
    rows = make_rows(plan, agreement_free=np.full((3, 4), 0.5))
    rows = rows[(rows["study"] == "a") & (rows["point"] != 1) & ~((rows["point"] == 2) & (rows["trial"] > 1))]
    first, second = summarise(rows, plan).studies
    assert [(point.point, point.dies, point.values[SIGMA]) for point in first.points] == [(0, 4, 0.0), (2, 2, 0.2)]
    assert first.points[1].metrics["elbo"].non_finite == 0
    assert second.points == () and second.losses == ()


def test_a_loss_is_where_the_line_between_two_means_crosses() -> None:
    (loss,) = losses_of([1.0, 0.96, 0.88, 0.5], (0.0, 0.1, 0.2, 0.4))
    assert loss.at.value == pytest.approx(0.1 + 0.1 * 0.06 / 0.08)
    assert (loss.key, loss.best_at, loss.best, loss.last) == (SIGMA, 0.0, 1.0, 0.4)


def test_a_loss_moves_with_the_dies_that_are_drawn_together() -> None:
    """An offset that a die has at all points cancels: the place is known exactly, though each mean is not."""
    (loss,) = losses_of([0.9, 0.7, 0.5], (0.0, 0.1, 0.2), spread=0.1)
    assert (loss.at.low, loss.at.value, loss.at.high) == pytest.approx((0.05, 0.05, 0.05))


def test_the_interval_of_a_loss_is_that_of_its_closed_form() -> None:
    """Means fall as 1 - s x with s a mean over dies: the loss is at 0.1 / s, its interval that of s turned over."""
    slopes = np.random.default_rng(9).normal(1.0, 0.3, 200)
    x = np.linspace(0, 0.3, 7)
    (loss,) = summarise_one(1 - slopes * x[:, None], tuple(x)).studies[0].losses
    half = norm.ppf(0.975) * slopes.std(ddof=1) / math.sqrt(200)
    assert loss.at.value == pytest.approx(0.1 / slopes.mean())
    assert loss.at.low == pytest.approx(0.1 / (slopes.mean() + half), rel=0.01)
    assert loss.at.high == pytest.approx(0.1 / (slopes.mean() - half), rel=0.01)


def test_the_place_of_a_loss_is_within_its_interval_in_95_of_100_sweeps() -> None:
    rng, x = np.random.default_rng(10), np.linspace(0, 0.3, 4)
    held = 0
    for seed in range(150):
        dies = 1 - rng.normal(1.0, 0.4, 30) * x[:, None] + rng.normal(0, 0.02, (4, 30))
        means = resample_means(dies.T, seed)
        low, high = crossing_interval(find_crossing(x, means, 0.1), rising=True)
        held += low <= 0.1 <= (high if not math.isnan(high) else math.inf)
    assert 0.89 <= held / 150 <= 0.99


def test_bits_lose_downwards_and_a_peak_loses_on_both_sides() -> None:
    (down,) = losses_of([0.2, 0.8, 1.0, 1.0], (4, 6, 8, 10))
    assert (down.best_at, down.last) == (8.0, 4.0)
    assert down.at.value == pytest.approx(7.0)
    up, down = losses_of([0.5, 1.0, 0.5], (99.0, 99.9, 100.0))
    assert up.at.value == pytest.approx(99.9 + 0.02) and down.at.value == pytest.approx(99.9 - 0.18)


def test_values_in_any_order_are_joined_to_their_neighbours() -> None:
    (loss,) = losses_of([0.5, 1.0, 0.8], (0.4, 0.0, 0.2))
    assert loss.at.value == pytest.approx(0.1)


def test_what_is_never_lost_says_so() -> None:
    (loss,) = losses_of([1.0, 0.95, 0.91], (0.0, 0.1, 0.2))
    assert loss.at.value is None and loss.at.high is None and loss.last == 0.2


def test_an_interval_is_open_where_resamples_never_lose_so_much() -> None:
    low, high = crossing_interval(np.r_[np.linspace(0.1, 0.2, 90), np.full(10, np.nan)], rising=True)
    assert 0.1 <= low < 0.11 and math.isnan(high)
    low, high = crossing_interval(np.r_[np.linspace(0.1, 0.2, 90), np.full(10, np.nan)], rising=False)
    assert math.isnan(low) and 0.19 < high <= 0.2


def test_a_grid_loses_along_its_last_numeric_axis_at_each_value_of_the_others() -> None:
    axes = {SIGMA: (0.0, 0.2), "array.r_wire": (0.0, 4.0), "array.scheme": ("paired", "differential")}
    plan = make_plan(("g", axes))
    sigma, wire, scheme = np.meshgrid((0.0, 0.2), (0.0, 4.0), (0.0, 0.5), indexing="ij")
    means = (1 - sigma - scheme - 0.1 * (1 + sigma + scheme) * wire).ravel()
    losses = summarise(make_rows(plan, agreement_free=means[:, None].repeat(5, axis=1)), plan).studies[0].losses
    assert {loss.key for loss in losses} == {"array.r_wire"}
    assert [(loss.held[SIGMA], loss.held["array.scheme"], loss.at.value) for loss in losses] == [
        (0.0, "paired", pytest.approx(1.0)),
        (0.0, "differential", pytest.approx(1 / 1.5)),
        (0.2, "paired", pytest.approx(1 / 1.2)),
        (0.2, "differential", pytest.approx(1 / 1.7)),
    ]


def test_choices_and_an_unset_value_among_numbers_are_no_numbers() -> None:
    assert is_numeric((1, 2.5, np.float64(3)))
    assert not is_numeric(("paired",)) and not is_numeric((4, "none")) and not is_numeric((True, False))


def test_json_is_plain_and_whole() -> None:
    elbo = np.array([[40.0, np.inf], [np.nan, np.nan]])
    tree = summarise_one(np.ones((2, 2)), elbo=elbo).to_json()
    text = json.dumps(tree, allow_nan=False)
    assert json.loads(text) == tree
    point = tree["studies"][0]["points"][1]
    assert point["yield"] == {"value": 1.0, "low": share_interval(2, 2)[0], "high": share_interval(2, 2)[1]}
    assert point["metrics"]["elbo"]["non_finite"] == 2 and point["metrics"]["elbo"]["mean"]["value"] is None
    assert (tree["sentences"], tree["model"], tree["spice_check"]) == (3, "shipped", None)


def test_the_same_rows_give_the_same_summary_in_any_order() -> None:
    plan = make_plan(("a", {SIGMA: (0.0, 0.1)}))
    rows = make_rows(plan, agreement_free=np.random.default_rng(11).uniform(size=(2, 9)))
    assert summarise(rows, plan) == summarise(rows.sample(frac=1, random_state=1), plan)


def make_check(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    check = rows[rows["trial"] < 2].assign(values=1000.0, equal_codes=0.999, largest_lsb=1.0, largest_analog=3e-6)
    return check.assign(**columns)


def test_the_check_in_spice_is_added_up_and_compared_trial_by_trial() -> None:
    plan = make_plan(("a", {SIGMA: (0.0, 0.1)}))
    rows = make_rows(plan, elbo=np.array([[40.0, 41.0, 42.0], [43.0, 44.0, np.inf]]))
    check = make_check(rows, elbo=[40.0, 41.5, 43.0, np.nan], equal_codes=[1.0, 0.998, 1.0, 1.0])
    found = summarise(rows, plan, check).spice_check
    assert found is not None
    assert (found.trials, found.values, found.equal_codes) == (4, 4000, 3998)
    assert (found.largest_lsb, found.largest_analog) == (1.0, 3e-6)
    assert found.metrics["elbo"] == 0.5 and found.metrics["kl"] == 0.0


def test_the_table_shows_points_losses_software_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(("noise", {SIGMA: (0.0, 0.2)}), ("way", {"array.scheme": ("paired", "differential")}))
    agreement = np.array([[1.0] * 6, [0.8] * 6])
    elbo = np.array([[40.0, 40.5, 41.0] * 2, [50.0, np.inf, 60.0, 50.0, 55.0, 60.0]])
    rows = make_rows(plan, agreement_free=agreement, elbo=elbo)
    print_summary(summarise(rows, plan, make_check(rows, elbo=1.0)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "study      noise"
    assert lines[1].split()[:2] == [SIGMA, "dies"] and "yield at 90%" in lines[1]
    shown = lines[3].split("  ")
    assert lines[3].split()[:5] == ["0.2", "6", "80.0%", "[80.0,", "80.0]"] and "55.00" in lines[3], shown
    assert "0.0%" in lines[3] and "100.0%" in lines[2]
    assert lines[4] == "           not finite at 0.2: elbo of 1 dies; left out above"
    assert any(line.split()[:3] == ["noise", SIGMA, "0.1"] for line in lines)
    assert not any(line.startswith("way ") for line in lines)  # a choice has no place of a loss
    assert any(line.startswith("differential") for line in lines)
    assert "software   shipped: ELBO 40.30, reconstruction 34.20, KL 6.10 nats a sentence, z sampled" in lines
    assert any("8 trials: 99.9000% of 8000 ADC codes equal" in line and "within 1 LSB" in line for line in lines)
    assert any("metrics apart by at most: elbo 49" in line for line in lines)
    assert lines[-1].endswith("3 sentences of grammar, hardware realistic, seed 0")


def test_the_table_of_broken_hardware_and_of_one_trial_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    plan = make_plan(("a", {SIGMA: (0.0, 0.2)}))
    tables = {metric.name: np.full((2, 1), np.nan) for metric in METRICS}
    print_summary(summarise(make_rows(plan, **tables), plan))
    assert "none" in capsys.readouterr().out
    print_summary(summarise(make_rows(plan, agreement_free=np.array([[1.0], [0.95]])), plan))
    assert "not up to 0.2" in capsys.readouterr().out


def test_without_resampling_only_means_have_no_interval() -> None:
    plan = make_plan(("a", {SIGMA: (0.0, 0.1)}))
    rows = make_rows(plan, agreement_free=np.random.default_rng(12).uniform(size=(2, 9)))
    full = summarise_study(rows, plan.studies[0], plan, ["agreement_free"])
    quick = summarise_study(rows, plan.studies[0], plan, ["agreement_free"], resampled=False)
    for one, other in zip(full.points, quick.points, strict=True):
        mine, its = one.metrics["agreement_free"], other.metrics["agreement_free"]
        assert mine.median == its.median and mine.mean.value == its.mean.value
        assert mine.mean.low is not None and its.mean.low is None and its.difference.high is None
    assert full.losses == quick.losses


def test_each_metric_keeps_its_own_figures() -> None:
    tables = {name: np.random.default_rng(i).uniform(size=(3, 8)) for i, name in enumerate(("elbo", "kl", "whole"))}
    summary = summarise_one(np.ones((3, 8)), **tables)
    for name, table in tables.items():
        for point in range(3):
            found = metric_of(summary, point, name)
            assert found.mean.value == pytest.approx(table[point].mean())
            assert found.difference.value == pytest.approx((table[point] - table[0]).mean())
            assert found.mean.low is not None and found.mean.high is not None
            assert found.mean.low < table[point].mean() < found.mean.high
