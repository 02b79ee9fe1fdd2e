"""What a study trains: the rows of a TOML file, each with its settings."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hvae_mnn.errors import StudyError, UserError
from hvae_mnn.model.training.settings import PRESETS, TrainConfig, make_config
from hvae_mnn.runtime.toml import did_you_mean, read_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OWN_FILES = {"study": "study.json", "results": "results.csv"}
_EXPECTED = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A model of a study.

    Attributes:
        name: Letters, digits, - and _; the name of its files.
        config: All settings of its training.
    """

    name: str
    config: TrainConfig

    @property
    def plain(self) -> bool:
        """Whether it is a plain language model."""
        return self.config.latent_mode == "none"


@dataclass(frozen=True, slots=True)
class ModelStudy:
    """A table of models.

    Attributes:
        rows: Its models in the order of the file.
        seed: Seed of all noise of evaluation, the same for each row.
        threads: Processor threads, where the file says.
    """

    rows: tuple[Row, ...]
    seed: int = 0
    threads: int | None = None

    @property
    def language_model(self) -> Row | None:
        """The first plain language model, which the others are held against."""
        return next((row for row in self.rows if row.plain), None)

    def chosen(self, only: Collection[str] = ()) -> tuple[Row, ...]:
        """Return the rows to run in their order: the language model first, then as in the file.

        Args:
            only: Names of rows; all of them if empty.

        Raises:
            StudyError: There is no such row.
        """
        names = [row.name for row in self.rows]
        for name in only:
            if name not in names:
                hint = did_you_mean(name, names)
                raise StudyError(f"--only {name}: the study has no such row{hint}; it has {', '.join(names)}")
        first = self.language_model
        return tuple(
            sorted((row for row in self.rows if not only or row.name in only), key=lambda row: row is not first)
        )


class _Settings(BaseModel):
    """Values of `TrainConfig` as a file has them."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    preset: str | None = None
    encoder: str | None = None
    decoder: str | None = None
    latent_mode: str | None = None
    embedding: int | None = None
    hidden: int | list[int] | None = None
    latent: int | None = None
    embedding_dropout: float | None = None
    word_dropout: float | None = None
    max_length: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    adam_eps: float | None = None
    clip: float | None = None
    kl_warmup: float | None = None
    batch: int | None = None
    epochs: int | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    peepholes: bool | None = None
    precision: str | None = None
    arithmetic: str | None = None
    objective: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the settings that the file has."""
        return {name: value for name, value in self if name in _Settings.model_fields and value is not None}


class _RowTable(_Settings):
    objective_options: dict[str, float] = {}


class _StudyFile(_Settings):
    threads: int | None = Field(default=None, ge=1)
    row: dict[str, _RowTable] = {}


def read_study(path: Path) -> ModelStudy:
    """Read the file of a study.

    Args:
        path: TOML: settings of all rows, and a table `[row.NAME]` each with its own.

    Raises:
        StudyError: It cannot be read, is malformed, or the settings of a row make no sense together.
    """
    tree = read_toml(path, "study", StudyError)
    try:
        file = _StudyFile.model_validate(tree)
    except ValidationError as error:
        raise StudyError(f"study {path}: {_first_problem(error)}") from None
    if not file.row:
        raise StudyError(f"study {path}: no row; expected at least one table [row.NAME], such as [row.hsr]")
    rows = tuple(_read_row(path, name, file.given(), table) for name, table in file.row.items())
    _check_names(path, rows)
    return ModelStudy(rows, file.seed or 0, file.threads)


def _read_row(path: Path, name: str, common: dict[str, Any], table: _RowTable) -> Row:
    if not _NAME.fullmatch(name):
        raise StudyError(f"study {path}: row {name!r}: expected a name of letters, digits, - and _")
    values = common | table.given()
    preset = values.pop("preset", "tiny")
    if preset not in PRESETS:
        hint = did_you_mean(preset, PRESETS)
        raise StudyError(f"study {path}: row {name}: preset is {preset!r}{hint}; expected one of {', '.join(PRESETS)}")
    if "encoder" in values:
        values["encoder"] = tuple(values["encoder"].split("+"))
    if isinstance(values.get("hidden"), list):
        values["hidden"] = tuple(values["hidden"])
    if table.objective_options:
        values["objective_options"] = tuple(table.objective_options.items())
    try:
        config = make_config(preset, values)
    except UserError as error:
        raise StudyError(f"study {path}: row {name}: {error}") from None
    return Row(name, config)


def _check_names(path: Path, rows: tuple[Row, ...]) -> None:
    """Refuse names of the study's own files, and those that differ in case alone: some disks take them for one file."""
    seen: dict[str, str] = {}
    for row in rows:
        if own := _OWN_FILES.get(row.name.lower()):
            raise StudyError(f"study {path}: row {row.name!r}: a study has a file {own}; choose another name")
        other = seen.setdefault(row.name.lower(), row.name)
        if other != row.name:
            raise StudyError(f"study {path}: rows {other} and {row.name} would be one file on some disks; rename one")


def _first_problem(error: ValidationError) -> str:
    """Return the first problem of a file in one line; misspelt keys come first."""
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    place = [str(part) for part in problem["loc"] if part not in ("int", "list[int]")]
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        kind, other = (_StudyFile, _RowTable) if len(place) == 1 else (_RowTable, _StudyFile)
        if place[-1] in other.model_fields:
            where = "to a table [row.NAME]" if kind is _StudyFile else "above the rows"
            return f'"{key}" is not a known key here; it belongs {where}'
        names = list(kind.model_fields)
        return f'"{key}" is not a known key{did_you_mean(place[-1], names)}; known: {", ".join(names)}'
    if "hidden" in place[-2:]:
        return f"{key} is {problem['input']!r}; expected a whole number, or a list of one a layer"
    expected = _EXPECTED.get(problem["type"])
    if expected is not None:
        return f"{key} is {problem['input']!r}; expected {expected}"
    return f"{key} is {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
