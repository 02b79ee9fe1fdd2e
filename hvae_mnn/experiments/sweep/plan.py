"""What is swept: studies of axes over a base hardware, and the points that they make.

A study is a grid: every value of an axis with every value of the others, the last axis fastest. Trial t of any
point has the device seed `plan.seed + t`, so that all points are measured on the same dies.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hvae_mnn.errors import SweepError
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import override_hardware
from hvae_mnn.runtime.toml import did_you_mean, parse_value, read_toml

SCHEMA_VERSION = 1
DEFAULT_TRIALS = 20

Value = bool | int | float | str

_KEY = re.compile(r"\w+\.\w+(\.\w+)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SEED_KEY = "device.seed"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Axis(_Frozen):
    """A key of the hardware, or several that move together, and the values that it takes.

    Attributes:
        key: `section.key`, or several with commas between.
        values: Its values: numbers in SI units, or choices.
    """

    key: str
    values: tuple[Value, ...] = Field(min_length=1)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that take each value; each is a column of the rows."""
        return tuple(part.strip() for part in self.key.split(","))

    @model_validator(mode="after")
    def _named(self) -> "Axis":
        for key in self.keys:
            if not _KEY.fullmatch(key):
                raise ValueError(f'axis "{self.key}": "{key}" is no SECTION.KEY; expected for example device.sigma')
            if key == _SEED_KEY:
                raise ValueError(f"{_SEED_KEY} is no axis: each trial is another seed; give --trials and --seed")
        return self


class Study(_Frozen):
    """A named grid.

    Attributes:
        name: Letters, digits, - and _; part of a figure's file name.
        axes: Its axes.
        trials: Dies at each point.
        overrides: `section.key=value`, changes of the base hardware for this study.
    """

    name: str
    axes: tuple[Axis, ...] = Field(min_length=1)
    trials: int = Field(default=DEFAULT_TRIALS, ge=1)
    overrides: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all its axes."""
        return tuple(key for axis in self.axes for key in axis.keys)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(len(axis.values) for axis in self.axes)

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        if not _NAME.fullmatch(self.name):
            raise ValueError(f'study "{self.name}": expected a name of letters, digits, - and _')
        for key in self.keys:
            if self.keys.count(key) > 1:
                raise ValueError(f"study {self.name}: {key} is in more than one axis; expected each key once")
        for override in self.overrides:
            key, equals, _ = override.partition("=")
            key = key.strip()
            if not equals or not _KEY.fullmatch(key):
                raise ValueError(f'study {self.name}: set has "{override}"; expected for example "array.r_wire=1"')
            if key == _SEED_KEY or key in self.keys:
                why = "trials are its seeds" if key == _SEED_KEY else "it is an axis"
                raise ValueError(f"study {self.name}: {key} cannot be set, {why}; leave {override} out")
        return self

    def grid(self) -> Iterator[dict[str, Value]]:
        """Yield the values of each point by key, the last axis fastest."""
        for values in itertools.product(*(axis.values for axis in self.axes)):
            yield {key: value for axis, value in zip(self.axes, values, strict=True) for key in axis.keys}


@dataclass(frozen=True, slots=True)
class Point:
    """One hardware of a study.

    Attributes:
        study: Name of the study.
        index: Place in the study's grid, from 0.
        values: Values of the study's keys.
        hardware: The whole hardware, checked.
        trials: Dies.
    """

    study: str
    index: int
    values: Mapping[str, Value]
    hardware: HardwareConfig
    trials: int

    def __str__(self) -> str:
        return _name_point(self.study, self.index, self.values)


class SweepPlan(_Frozen):
    """All that rows follow from, and what is needed to plot and to repeat them; `plan.json` of a Sweep.

    Attributes:
        schema_version: Version of the Sweep's layout.
        program_version: Version of the program.
        model: Name or file of the model, as given.
        model_hash: SHA-256 of the model with its calibration.
        hardware_name: Preset or file of the base hardware, with what was changed.
        hardware: The base hardware; its `device.seed` is that of trial 0.
        studies: What is swept; values as the hardware has them.
        points_hash: SHA-256 over the hardware of all points.
        corpus: Name of the corpus.
        sentences: The sentences' places in the corpus's test split, from 0.
        sentences_hash: SHA-256 over their word numbers.
        seed: Device seed of trial 0, of the draw of sentences and of the latents' noise.
        backend: What the rows are measured with.
        spice_check: Trials that ngspice repeats.
        yield_at: A die is good where its agreement is at least this.
        device: What torch multiplies tiles on; unset for numpy.
        engine: What measured, with its version.
        software: `reconstruction`, `kl` and `elbo` of the software model, nats a sentence.
    """

    schema_version: int = SCHEMA_VERSION
    program_version: str
    model: str
    model_hash: str
    hardware_name: str
    hardware: HardwareConfig
    studies: tuple[Study, ...] = Field(min_length=1)
    points_hash: str = ""
    corpus: str
    sentences: tuple[int, ...]
    sentences_hash: str
    seed: int = Field(default=0, ge=0)
    backend: Literal["nodal", "spice"] = "nodal"
    spice_check: int = Field(default=0, ge=0)
    yield_at: float = Field(default=0.9, ge=0, le=1)
    device: str | None = None
    engine: str = ""
    software: dict[str, float] = {}

    @property
    def trials(self) -> int:
        """Trials of all points of all studies."""
        return sum(study.size * study.trials for study in self.studies)

    def columns(self) -> dict[str, bool]:
        """Return the keys of all studies in their order, and whether all values of each are numbers."""
        numeric: dict[str, bool] = {}
        for axis in (axis for study in self.studies for axis in study.axes):
            for key in axis.keys:
                numeric[key] = numeric.get(key, True) and all(map(_is_number, axis.values))
        return numeric

    def identity(self) -> dict[str, Any]:
        """Return what the rows depend on, as plain values."""
        labels = {"model", "hardware_name", "yield_at", "spice_check", "engine", "software"}
        return self.model_dump(mode="json", exclude=labels) | {"metrics": [metric.name for metric in METRICS]}

    def settled(self) -> tuple["SweepPlan", tuple[Point, ...]]:
        """Return the plan with its values as the hardware has them, and all of its points.

        Raises:
            HardwareError: A point's hardware is refused; names the point.
            SweepError: An axis has a value twice, or two studies have one name.
        """
        names = [study.name for study in self.studies]
        for name in names:
            if names.count(name) > 1:
                raise SweepError(f"study {name} is there twice; expected each name once")
        base = self.hardware.model_copy(
            update={"device": self.hardware.device.model_copy(update={"seed": self.seed})},
        )
        found = [_settle(study, base) for study in self.studies]
        points = tuple(point for _, group in found for point in group)
        digest = hashlib.sha256("\n".join(point.hardware.model_dump_json() for point in points).encode())
        changed = {"hardware": base, "studies": tuple(study for study, _ in found), "points_hash": digest.hexdigest()}
        return self.model_copy(update=changed), points


def read_studies(path: Path, trials: int | None = None) -> tuple[Study, ...]:
    """Read the studies of a plan file.

    Args:
        path: TOML.
        trials: Dies at each point of studies that do not say their own, in place of the file's.

    Raises:
        SweepError: It cannot be read, or is malformed.
    """
    tree = read_toml(path, "plan", SweepError)
    try:
        file = _PlanFile.model_validate(tree)
        if not file.study:
            raise SweepError(f"plan {path}: no study; expected at least one table [study.NAME] with axes")
        return tuple(
            Study(
                name=name,
                axes=tuple(
                    Axis(key=key, values=tuple(_plain(value) for value in values)) for key, values in table.axes.items()
                ),
                trials=table.trials or trials or file.trials or DEFAULT_TRIALS,
                overrides=table.overrides,
            )
            for name, table in file.study.items()
        )
    except ValidationError as error:
        raise SweepError(f"plan {path}: {_first_problem(error)}") from None


def make_study(axes: Sequence[tuple[str, str]], trials: int) -> Study:
    """Make the study `sweep` of axes from the command line: a key, and values with commas between.

    Raises:
        SweepError: A key or a list of values is malformed.
    """
    for key, text in axes:
        if not all(part.strip() for part in text.split(",")):
            raise SweepError(f"--values {text}: an empty value for {key}; expected for example 0,0.01,0.02")
    try:
        made = tuple(Axis(key=key, values=tuple(map(_plain, text.split(",")))) for key, text in axes)
        return Study(name="sweep", axes=made, trials=trials)
    except ValidationError as error:
        raise SweepError(_first_problem(error)) from None


def check_overrides(overrides: Iterable[str]) -> None:
    """Refuse changes of the base hardware that a sweep would take back.

    Raises:
        SweepError: It is the seed.
    """
    for override in overrides:
        if override.partition("=")[0].strip() == _SEED_KEY:
            raise SweepError(f"--set {override}: trials are the seeds of a sweep; give --seed, the first of them")


class _StudyTable(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    axes: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(min_length=1)
    trials: int | None = Field(default=None, ge=1)
    overrides: Annotated[tuple[str, ...], Field(strict=False)] = Field(default=(), alias="set")


class _PlanFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    trials: int | None = Field(default=None, ge=1)
    study: dict[str, _StudyTable] = {}


_EXPECTED = {"tuple_type": "a list", "list_type": "a list", "dict_type": "a table", "model_type": "a table"}


def _first_problem(error: ValidationError) -> str:
    """Return the first problem of a plan in one line; misspelt keys come first."""
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    kinds = [kind.__name__ for kind in get_args(Value)]
    place = [str(part) for part in problem["loc"] if part not in kinds]
    key = ".".join(place)
    if problem["loc"] and problem["loc"][-1] in kinds:
        return f"{key} is {problem['input']!r}; expected a finite number, a choice, true or false"
    if problem["type"] == "extra_forbidden":
        names = ("trials", "study") if len(place) == 1 else ("axes", "trials", "set")
        return f'"{key}" is not a known key{did_you_mean(place[-1], names)}; known: {", ".join(names)}'
    if place[-2:-1] == ["axes"] and isinstance(problem["input"], dict):
        inner = next(iter(problem["input"]), "KEY")
        return f'{key} is a table; a key with a dot is written in quotes: axes = {{ "{place[-1]}.{inner}" = [...] }}'
    if problem["type"] in _EXPECTED:
        return f"{key} is {problem['input']!r}; expected {_EXPECTED[problem['type']]}"
    if problem["type"] == "missing":
        return f'{key} is missing; expected for example axes = {{ "device.sigma" = [0, 0.05, 0.1] }}'
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{key} is {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _settle(study: Study, base: HardwareConfig) -> tuple[Study, list[Point]]:
    """Return a study with its values as the hardware has them, and its points."""
    points = []
    for index, values in enumerate(study.grid()):
        source = f"of {_name_point(study.name, index, values)}"
        changes = [*study.overrides, *(f"{key}={text_of(value)}" for key, value in values.items())]
        hardware = override_hardware(base, changes, source)
        points.append((values, hardware))
    axes = tuple(_settle_axis(axis, points) for axis in study.axes)
    for axis in axes:
        for i, value in enumerate(axis.values):
            if value in axis.values[:i]:
                raise SweepError(f"study {study.name}: {axis.key} has {text_of(value)} twice; expected each value once")
    settled = study.model_copy(update={"axes": axes})
    return settled, [
        Point(study.name, index, values, hardware, study.trials)
        for index, (values, (_, hardware)) in enumerate(zip(settled.grid(), points, strict=True))
    ]


def _settle_axis(axis: Axis, points: Iterable[tuple[Mapping[str, Value], HardwareConfig]]) -> Axis:
    """Return an axis with each value as hardware that was given it has it."""
    key = axis.keys[0]
    held = {(type(values[key]), values[key]): hardware for values, hardware in points}
    return axis.model_copy(
        update={"values": tuple(_held_value(held[type(value), value], key, value) for value in axis.values)}
    )


def _held_value(hardware: HardwareConfig, key: str, given: Value) -> Value:
    """Return a key's value, `none` where it is unset; a table keeps the name it was given by."""
    found: Any = hardware
    for part in key.split("."):
        found = getattr(found, part)
    if found is None:
        return "none"
    return found if isinstance(found, bool | int | float | str) else given


def _plain(value: Value) -> Value:
    """Read a value as `--set` reads its text."""
    if not isinstance(value, str):
        return value
    parsed = parse_value(value.strip())
    if parsed is None:
        return "none"
    return parsed if isinstance(parsed, bool | int | float) else value.strip()


def text_of(value: Value) -> str:
    """Return a value as `--set` and the rows have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name_point(study: str, index: int, values: Mapping[str, Value]) -> str:
    shown = ", ".join(f"{key}={text_of(value)}" for key, value in values.items())
    return f"study {study}, point {index} ({shown})"
