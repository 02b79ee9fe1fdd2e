"""Statistics over dies: intervals of means, medians and shares, and where a mean has lost so much.

Every array is (dies, columns), float64, with NaN where a die has no finite value. Dies are common
to all columns, so they are drawn again in all columns at once: what two points of a sweep share
cancels in their difference and in the place of a loss.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, norm

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 9999
_FEWEST_RESAMPLES = 999
_CELLS = 2_000_000_000
"""Values drawn again in all resamples together, before there are fewer than `RESAMPLES`: some seconds."""
_BATCH = 1_000_000
"""Dies drawn together: what the caches hold."""
FEWEST = 6
"""Dies below which nothing has an interval: of five the smallest and the largest hold the median with 94 % only."""
_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def count_resamples(dies: int, columns: int) -> int:
    """Return how often dies are drawn again: 9999 times, fewer where there are millions of values."""
    return int(np.clip(_CELLS // max(1, dies * columns), _FEWEST_RESAMPLES, RESAMPLES))


def resample_means(values: Array, seed: int, resamples: int | None = None) -> Array:
    """Return the means of each column when dies are drawn with replacement.

    Args:
        values: (dies, columns).
        seed: Of the draws; the same number of dies and resamples gives the same draws.
        resamples: How many; as `count_resamples` says if not given.

    Returns:
        (resamples, columns); NaN where no die that was drawn has a value.
    """
    dies, columns = values.shape
    rng, resamples = np.random.default_rng(seed), resamples or count_resamples(dies, columns)
    there = np.isfinite(values)
    centre = _mean(values)
    deviations = np.where(there, values - centre, 0.0)
    means = np.empty((resamples, columns))
    batch = max(1, _BATCH // dies)
    for start in range(0, resamples, batch):
        drawn = _draw(rng, dies, min(batch, resamples - start))
        numbers = dies if there.all() else drawn @ there.astype(float)
        with np.errstate(invalid="ignore"):
            means[start : start + len(drawn)] = centre + drawn @ deviations / numbers
    return means


def _draw(rng: np.random.Generator, dies: int, resamples: int) -> Array:
    """Return how often each die is drawn: (resamples, dies)."""
    places = rng.integers(dies, size=(resamples, dies)) + dies * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * dies).reshape(resamples, dies).astype(float)


def mean_intervals(values: Array, means: Array) -> tuple[Array, Array]:
    """Return BCa bootstrap intervals of the mean of each column.

    Efron, "Better bootstrap confidence intervals", J. Am. Stat. Assoc. 82 (1987). The acceleration of
    a mean is its jackknife's in closed form, sum d^3 / (6 (sum d^2)^1.5) with d = x - mean.

    Args:
        values: (dies, columns).
        means: (resamples, columns), of `resample_means`.

    Returns:
        Lower and upper ends, each (columns,): NaN with fewer than `FEWEST` values, the value itself
        where all are equal.
    """
    there = np.isfinite(values)
    counts, mean = there.sum(axis=0), _mean(values)
    deviations = np.where(there, values - mean, 0.0)
    ordered = np.sort(means, axis=0)  # NaN last
    usable = np.isfinite(ordered).sum(axis=0)
    least = np.where(there, values, np.inf).min(axis=0, initial=np.inf)
    largest = np.where(there, values, -np.inf).max(axis=0, initial=-np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = ((ordered < mean).sum(axis=0) + (ordered <= mean).sum(axis=0)) / (2 * usable)
        bias = norm.ppf(np.clip(below, 0.5 / usable, 1 - 0.5 / usable))
        acceleration = (deviations**3).sum(axis=0) / (6 * (deviations**2).sum(axis=0) ** 1.5)
        ends = []
        for tail in _TAILS:
            shifted = bias + norm.ppf(tail)
            place = norm.cdf(bias + shifted / (1 - acceleration * shifted)) * (usable - 1)
            ends.append(_take_between(ordered, place))
    for end in ends:
        end[least == largest] = least[least == largest]
        end[counts < FEWEST] = np.nan
    return ends[0], ends[1]


def _mean(values: Array) -> Array:
    """Return the mean of what is finite in each column, NaN where nothing is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0))


def _take_between(ordered: Array, place: Array) -> Array:
    """Return from each column what lies at a fractional place, by linear interpolation."""
    columns = np.arange(ordered.shape[1])
    place = np.clip(np.nan_to_num(place), 0, len(ordered) - 1)
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, len(ordered) - 1)
    low, high = ordered[lower, columns], ordered[upper, columns]
    return np.asarray(low + (place - lower) * (high - low))


@cache
def median_ranks(dies: int) -> tuple[int, int]:
    """Return the ranks, from 0, of the values that end the bootstrap interval of the median.

    The percentile interval without resampling: of n values drawn with replacement from n, the m-th
    smallest is at most the k-th smallest of all with probability P(Bin(n, k/n) >= m) (Efron, "Bootstrap
    methods", Ann. Stat. 7 (1979), section 3). BCa is no help here: the jackknife of a median is not consistent.
    For even n the lower end is that of the lower of the two middle values, the upper end that of the upper.
    """
    ranks = np.arange(1, dies + 1)
    at_most = binom.sf((dies + 1) // 2 - 1, dies, ranks / dies)
    low = int(np.argmax(at_most >= _TAILS[0]))
    return low, dies - 1 - low


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Return the Wilson interval of a share, `of` at least 1."""
    found = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def find_crossing(x: Array, means: Array, loss: float) -> Array:
    """Return where means have first fallen by `loss` below their value at the first point.

    Args:
        x: (points,), rising or falling.
        means: (..., points).
        loss: In units of the means.

    Returns:
        (...,): linear interpolation between the point that has lost so much and the one before it;
        NaN where none has.
    """
    target = means[..., :1] - loss
    lost = means <= target
    after = np.argmax(lost, axis=-1)
    before = np.maximum(after - 1, 0)
    upper, lower = (np.take_along_axis(means, at[..., None], -1)[..., 0] for at in (before, after))
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (upper - target[..., 0]) / (upper - lower)
        found = x[before] + part * (x[after] - x[before])
    return np.asarray(np.where(lost.any(axis=-1), found, np.nan))


def crossing_interval(crossings: Array, rising: bool) -> tuple[float, float]:
    """Return the percentile interval of crossings, NaN at an end where they lie beyond the last point.

    Args:
        crossings: (resamples,), NaN where a resample has none.
        rising: Whether the last point is that of the largest value.
    """
    beyond = np.inf if rising else -np.inf
    ordered = np.where(np.isnan(crossings), beyond, crossings)
    low, high = np.quantile(ordered, _TAILS, method="inverted_cdf")
    return float(low) if np.isfinite(low) else np.nan, float(high) if np.isfinite(high) else np.nan
