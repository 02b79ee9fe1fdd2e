"""Axes of a sweep's figures: values of the hardware with units and scales, metrics with theirs."""

import math
import textwrap
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from pydantic import BaseModel

from hvae_mnn.experiments.sweep.facts import AxisFacts
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.summary import is_numeric
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.units import unit_of

Array = NDArray[np.float64]

YIELD = "yield"
RMS = "rms"
"""The rms read errors of all layers in one panel."""

DECADES = 1.5
"""Values that span more are on a logarithmic axis."""
_LETTER = 0.068
"""Width of a letter of 8 points, inch, on the wide side."""
_FEW = 8
"""Up to so many values an axis names values only, not round numbers."""
_STEPS = [1, 2, 2.5, 5, 10]
_LEAST_SHARE = 5.0
"""Least height of an axis of shares, %."""
_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 3: "k", 6: "M", 9: "G"}
_MORE_UNITS = {"offset": "LSB", "inl": "LSB", "noise": "V/√Hz"}
"""Of converters and the amplifier, where plain numbers have one."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the points of an axis stand in a figure.

    Attributes:
        label: The axis, with its unit.
        x: Places: the values in the label's unit, or 0, 1, ... for choices.
        names: What each is called.
        scale: `choice`, `linear`, `log`, or `symlog` where 0 is one of values that span decades.
    """

    label: str
    x: Array
    names: tuple[str, ...]
    scale: str


def place_axis(axis: AxisFacts) -> Places:
    """Return the places of an axis: numbers where they are, anything else, and a single point, side by side."""
    unit = find_unit(axis.key)
    if not is_numeric(axis.values):
        names = tuple(format_number(each) if is_numeric([each]) else _format_choice(each) for each in axis.values)
        return Places(_label(axis.key, unit), np.arange(len(names), dtype=float), names, "choice")
    values = np.array(axis.values, dtype=float)
    factor, prefix = _prefix(values) if unit and "/" not in unit and unit != "LSB" else (1.0, "")
    x = np.round(values / factor, 12)
    names = tuple(format_number(each) for each in x)
    label = _label(axis.key, prefix + unit)
    if len(x) == 1:
        return Places(label, np.zeros(1), names, "choice")
    return Places(label, x, names, choose_scale(x))


def find_unit(key: str) -> str:
    """Return the unit of a key of the hardware, empty where it has none."""
    section, *rest = key.split(",")[0].strip().split(".")
    if rest and rest[-1] in _MORE_UNITS and section in ("dac", "adc", "amplifier"):
        unit = _MORE_UNITS[rest[-1]]
        if (section == "amplifier") == (unit != "LSB"):
            return unit
    models = [HardwareConfig]
    for part in (section, *rest[:-1]):
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [model for field in fields for model in _models(field.annotation)]
    found = [unit_of(model.model_fields[rest[-1]]) for model in models if rest and rest[-1] in model.model_fields]
    return (found[0] if found else "").replace("ohm", "Ω")


def _models(annotation: Any) -> list[Any]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in get_args(annotation) for model in _models(part)]


def _label(key: str, unit: str) -> str:
    name = " = ".join(part.strip() for part in key.split(","))
    return f"{name}, {unit}" if unit else name


def _prefix(values: Array) -> tuple[float, str]:
    """Return the SI prefix for values that are all small or all large, with its factor."""
    sizes = np.abs(values[values != 0])
    if len(sizes) and sizes.max() < 0.1:
        size = sizes.max()
    elif len(sizes) and sizes.min() >= 1e4:
        size = sizes.min()
    else:
        return 1.0, ""
    exponent = int(np.clip(3 * math.floor(math.log10(size) / 3 + 1e-9), -12, 9))
    return 10.0**exponent, _PREFIXES.get(exponent, "")


def format_number(value: float) -> str:
    """Return a number as a tick has it: powers of ten where %g has an exponent."""
    text = f"{value:.4g}"
    digits, _, exponent = text.partition("e")
    if not exponent:
        return text
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if digits == "1" else rf"${digits}\times{power}$"


def _format_choice(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("$", r"\$").replace("-", "-\n", 1) if len(text) > 9 else text.replace("$", r"\$")


def choose_scale(values: Array) -> str:
    """Return `log` for positive values over more than `DECADES`, `symlog` with 0 among them, or `linear`."""
    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    if len(positive) < 2 or (finite < 0).any() or positive.max() <= positive.min() * 10**DECADES:
        return "linear"
    return "log" if len(positive) == len(finite) else "symlog"


def apply_places(axis: Axes, places: Places, width: float) -> None:
    """Set the scale, ends, ticks and label of a horizontal axis of some width in inch."""
    axis.set_xlabel(_fold(places.label, width))
    if places.scale == "choice":
        axis.set_xlim(-0.5, len(places.x) - 0.5)
        longest = max(len(line) for name in places.names for line in name.split("\n"))
        tight = longest * _LETTER > 0.95 * width / len(places.names)
        names = [name.replace("-\n", "-") for name in places.names] if tight else places.names
        axis.set_xticks(places.x, names, rotation=30 if tight else 0, ha="right" if tight else "center")
        return
    forward = set_scale(axis.xaxis, places.scale, places.x)
    ends = forward(np.array([places.x.min(), places.x.max()]))
    margin = 0.04 * (ends[1] - ends[0])
    axis.set_xlim(*_inverse(axis, ends + np.array([-margin, margin])))
    _set_ticks(axis, places, forward(places.x), width)


def set_scale(axis: Any, scale: str, values: Array) -> Any:
    """Set the scale of one direction of an axis and return its transform of arrays."""
    options = {}
    if scale == "symlog":
        options = {"linthresh": float(values[values > 0].min()), "linscale": 0.5}
    set_one = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    set_one(scale, **options)
    return axis.get_transform().transform


def _inverse(axis: Axes, ends: Array) -> tuple[float, float]:
    low, high = axis.xaxis.get_transform().inverted().transform(ends)
    return float(low), float(high)


def _set_ticks(axis: Axes, places: Places, at: Array, width: float) -> None:
    """Put ticks at the values, where they are many at round numbers, and names where they have room."""
    order = np.argsort(at)
    inches = at[order] / (at.max() - at.min()) * width / 1.08
    widths = np.array([_LETTER * _letters(places.names[i]) for i in order])
    kept = _keep_apart(inches, widths)
    ticks, names = places.x[order][kept], [places.names[i] for i in order[kept]]
    if len(kept) < len(order) and len(order) > _FEW:
        ticks = _round_ticks(places, width)
        names = [format_number(tick) for tick in ticks]
    axis.set_xticks(ticks, names)
    axis.xaxis.set_minor_locator(FixedLocator([float(each) for each in places.x]))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _keep_apart(at: Array, widths: Array) -> list[int]:
    """Return which of some rising places to name, the last and the first of all, so that no names touch."""
    kept = [0] if len(at) == 1 else [0, len(at) - 1]
    for i in range(len(at) - 2, 0, -1):
        after = kept[-1] if len(kept) > 2 else len(at) - 1
        if all(abs(at[i] - at[j]) > (widths[i] + widths[j]) / 2 + 0.04 for j in (0, after)):
            kept.append(i)
    return sorted(kept)


def _round_ticks(places: Places, width: float) -> Array:
    low, high = float(places.x.min()), float(places.x.max())
    if places.scale == "linear":
        whole = bool((places.x % 1 == 0).all())
        ticks = MaxNLocator(max(3, int(width / 0.4)), integer=whole, steps=_STEPS).tick_values(low, high)
        return np.array([tick for tick in ticks if low <= tick <= high])
    low = float(places.x[places.x > 0].min())
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) * 0.4 / width))
    zero = [0.0] if (places.x == 0).any() else []
    return np.array([*zero, *(10.0**power for power in range(first, last + 1, step))])


def _letters(name: str) -> float:
    """Return the width of a tick's name in letters; of mathtext, what is seen of it."""
    return len(name.replace(r"\times", " x ").translate(str.maketrans("", "", "${}^")))


def _fold(text: str, width: float) -> str:
    """Break a label into as few lines as have room, of like length."""
    most = max(12, int(width / _LETTER))
    lines = len(textwrap.wrap(text, most, break_long_words=False))
    wraps = (textwrap.wrap(text, fewer, break_long_words=False) for fewer in range(8, most + 1))
    return "\n".join(next((wrap for wrap in wraps if len(wrap) <= lines), [text]))


@dataclass(frozen=True, slots=True)
class Quantity:
    """A metric as a figure shows it.

    Attributes:
        label: With its unit.
        factor: From the rows' unit.
        share: Whether it lies between 0 and 100 %.
    """

    label: str
    factor: float
    share: bool


def describe_metric(name: str) -> Quantity:
    """Return how a metric, or `yield` or `rms`, is shown."""
    if name == YIELD:
        return Quantity("yield, % of dies", 100, True)
    if name == RMS:
        return Quantity("rms read error, % of full scale", 100, False)
    metric = next(metric for metric in METRICS if metric.name == name)
    units = {"share": "%", "full scale": "% of full scale"}
    unit = units.get(metric.unit, metric.unit)
    return Quantity(f"{metric.label}, {unit}" if unit else metric.label, 100 if unit[:1] == "%" else 1, unit == "%")


def apply_quantity(
    axis: Axes, quantity: Quantity, shown: Array, middle: Array, height: float, reference: float | None = None
) -> int:
    """Set the scale, ends and label of a vertical axis.

    Args:
        axis: Of the figure.
        quantity: What it shows.
        shown: All values drawn, in the unit of the figure; those far from all others get no room.
        middle: Medians, which decide on the scale and are always in sight.
        height: Of the axis, inch.
        reference: Another value always in sight.

    Returns:
        How many of the values lie outside.
    """
    axis.set_ylabel(_fold(quantity.label, height))
    shown, middle = shown[np.isfinite(shown)], middle[np.isfinite(middle)]
    if not len(shown):
        axis.set_yticks([])
        return 0
    scale = "linear" if quantity.share else choose_scale(middle)
    kept = middle if reference is None else np.append(middle, reference)
    low, high = _ends(shown, kept, scale)
    if scale == "linear":
        low, high = _linear_ends(low, high, quantity.share)
        ticks = MaxNLocator(6, steps=_STEPS).tick_values(low, high)
        top = 100.0 if quantity.share else high
        axis.set_yticks([tick for tick in ticks if low <= tick <= min(high, top)])
    else:
        set_scale(axis.yaxis, scale, middle)
        low, high = (low / 1.3 if scale == "log" else -0.3 * float(middle[middle > 0].min())), high * 1.3
        axis.yaxis.set_major_locator(_log_ticks(middle, scale, high))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(low, high)
    return int(((shown < low) | (shown > high)).sum())


def _linear_ends(low: float, high: float, share: bool) -> tuple[float, float]:
    """Return the ends of a linear axis with a margin; shares get a least height and nothing beyond 0 and 100 %."""
    if share and high - low < _LEAST_SHARE:
        middle = (low + high) / 2
        low = float(np.clip(middle - _LEAST_SHARE / 2, 0, 100 - _LEAST_SHARE))
        high = low + _LEAST_SHARE
    elif low == high:
        low, high = (low, 1.0) if low == 0 else (low - 0.05 * abs(low), high + 0.05 * abs(high))
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _ends(shown: Array, kept: Array, scale: str) -> tuple[float, float]:
    """Return the ends of what is shown, leaving out single values far from all others; `kept` are within."""
    used, kept = (each[each > 0] if scale == "log" else each for each in (shown, kept))
    low, high = float(used.min()), float(used.max())
    lower, upper = np.quantile(used, [0.02, 0.98])
    if scale == "linear":
        room = 3 * (upper - lower)
        low, high = (max(low, lower - room), min(high, upper + room)) if room else (low, high)
    else:
        low, high = (low if scale == "symlog" else max(low, lower / 100)), min(high, 100 * upper)
    return min(low, kept.min(initial=low)), max(high, kept.max(initial=high))


def _log_ticks(middle: Array, scale: str, high: float) -> Any:
    if scale == "log":
        return LogLocator(10, numticks=6)
    lowest, top = (math.floor(math.log10(each)) for each in (middle[middle > 0].min(), high))
    step = max(1, math.ceil((top - lowest) / 4))
    return FixedLocator([0.0, *(10.0**power for power in range(lowest + 1, top + 1, step))])
