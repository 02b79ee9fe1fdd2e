"""Rows of a sweep on disk: while it runs, and the Sweep that it ends as.

<out>.unfinished/                   sweep/
  identity.json   what is swept       plan.json            everything to plot from and to repeat
  rows/           a file a chunk      rows.parquet         a row a trial, by study, point and trial
  checks/         a file a trial      spice_check.parquet  trials that ngspice repeated, if any
                                      figure.png       one a study: figure-STUDY.png where there are several
"""

import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.plan import SCHEMA_VERSION, Point, SweepPlan, text_of
from hvae_mnn.runtime.folders import (
    LOCK,
    check_replaceable,
    disk_failures,
    holds_only,
    lock_folder,
    unfinished_folder,
    written_whole,
)

PLAN_FILE, ROWS_FILE, CHECK_FILE = "plan.json", "rows.parquet", "spice_check.parquet"
COMPARISON = ("values", "equal_codes", "largest_lsb", "largest_analog")
"""Columns of `spice_check.parquet` after the metrics: ngspice against the nodal engine on the same codes."""

_IDENTITY, _ROWS, _CHECKS = "identity.json", "rows", "checks"
_KEY = ("study", "point", "trial")
_MANY_PARTS = 256
_REPEAT = "repeat its command, choose another --out, or delete the folder"

TrialKey = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A finished sweep.

    Attributes:
        plan: What was swept.
        rows: A row a trial, sorted by study, point and trial.
        spice_check: Trials that ngspice repeated, if any.
    """

    plan: SweepPlan
    rows: pd.DataFrame = field(repr=False)
    spice_check: pd.DataFrame | None = field(default=None, repr=False)


def make_row(plan: SweepPlan, point: Point, trial: int, metrics: Mapping[str, float], backend: str) -> dict[str, Any]:
    """Return the row of a trial."""
    axes = {
        key: None if key not in point.values else float(point.values[key]) if numeric else text_of(point.values[key])
        for key, numeric in plan.columns().items()
    }
    place = {"study": point.study, "point": point.index, "trial": trial, "seed": plan.seed + trial}
    return {**place, **axes, "backend": backend, **{name: float(value) for name, value in metrics.items()}}


def row_schema(plan: SweepPlan, extra: Iterable[str] = ()) -> pa.Schema:
    """Return the columns of a plan's rows, with further ones of numbers."""
    numbers = [*(metric.name for metric in METRICS), *extra]
    return pa.schema(
        [
            ("study", pa.string()),
            *((name, pa.int64()) for name in ("point", "trial", "seed")),
            *((key, pa.float64() if numeric else pa.string()) for key, numeric in plan.columns().items()),
            ("backend", pa.string()),
            *((name, pa.float64()) for name in numbers),
        ]
    )


class Parts:
    """Rows in a folder, a small file each time some are added; many of them become a large one.

    Attributes:
        dropped: Files that were damaged, and are gone.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Find what is there; files that are damaged are deleted."""
        self._folder, self._schema = folder, schema
        self.dropped = 0
        self._done: set[TrialKey] = set()
        self._small: list[Path] = []
        self._next = 0
        folder.mkdir(exist_ok=True)
        for path in sorted(folder.iterdir()):
            self._find(path)

    def __contains__(self, key: TrialKey) -> bool:
        return key in self._done

    def __len__(self) -> int:
        return len(self._done)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, whole or not at all.

        Raises:
            ArtifactError: The disk fails.
        """
        table = pa.Table.from_pylist(list(rows), schema=self._schema)
        with disk_failures(self._folder):
            self._small.append(self._write(table))
            self._done.update(_keys(table))
            if len(self._small) >= _MANY_PARTS:
                self._merge()

    def adopt(self, table: pa.Table) -> None:
        """Take over the rows of a finished sweep, where there are none yet.

        Raises:
            ArtifactError: The disk fails.
        """
        if not self._done and table.num_rows:
            with disk_failures(self._folder):
                self._write(table)
                self._done.update(_keys(table))

    def table(self) -> pa.Table:
        """Return all rows sorted by study, point and trial."""
        return (
            _sorted(self._read(path) for path in sorted(self._folder.glob("*.parquet"))) or self._schema.empty_table()
        )

    def _find(self, path: Path) -> None:
        try:
            table = self._read(path) if path.suffix == ".parquet" else None
        except (pa.ArrowException, ValueError):
            table = None
        if table is None:
            self.dropped += path.suffix == ".parquet"
            path.unlink()
            return
        self._done.update(_keys(table))
        self._small.append(path)
        self._next = max(self._next, int(path.stem) + 1)

    def _read(self, path: Path) -> pa.Table:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        if not table.schema.equals(self._schema) or not path.stem.isdecimal():
            raise ValueError(f"{path} has other columns")
        return table

    def _write(self, table: pa.Table) -> Path:
        path = self._folder / f"{self._next:08}.parquet"
        draft = path.with_suffix(".part")
        try:
            _write_table(table, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        self._next += 1
        return path

    def _merge(self) -> None:
        """Put all small files into one; a row that is in both for a moment counts once."""
        self._write(_sorted(map(self._read, self._small)))
        for path in self._small:
            path.unlink()
        self._small = []


class SweepStore:
    """The rows of a sweep that is under way; to be used in a `with` block.

    Where `out` is the finished sweep already, its rows are there from the beginning.

    Attributes:
        folder: Where it lies.
        rows: Rows that are there.
        checks: Trials that ngspice repeated.
    """

    def __init__(self, out: Path, plan: SweepPlan) -> None:
        """Open the rows of a sweep that shall be written to `out`.

        Raises:
            ArtifactError: They are of another sweep, another process writes them, the folder holds something else,
                or the disk fails.
        """
        self.folder, self._out, self._plan = unfinished_folder(out), out, plan
        self._removed = False
        with disk_failures(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(self.folder, "sweep")
            try:
                self._identify()
                self.rows = Parts(self.folder / _ROWS, row_schema(plan))
                self.checks = Parts(self.folder / _CHECKS, row_schema(plan, COMPARISON))
                if is_sweep(out):
                    self._adopt()
            except BaseException:
                self._lock.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the rows to the same command, unless there are none."""
        if not (self._removed or len(self.rows) or len(self.checks)):
            self.remove()
        self._lock.close()

    def remove(self) -> None:
        """Delete the folder: the sweep is done."""
        self._removed = True
        for folder in (self.folder / _ROWS, self.folder / _CHECKS, self.folder):  # what tells whose rows they are last
            shutil.rmtree(folder, ignore_errors=True)

    def finish(
        self, software: Mapping[str, float], engine: str, draw: Callable[[Sweep, Path], object] | None = None
    ) -> Sweep:
        """Put the Sweep in its place, whole, and delete this folder.

        Args:
            software: The software model's own figures, for the plan.
            engine: What measured, for the plan.
            draw: Called with the Sweep and the folder that its figures go to.

        Raises:
            ArtifactError: The disk fails, or something else lies there.
        """
        plan = self._plan.model_copy(update={"software": dict(software), "engine": engine})
        checks = self.checks.table() if len(self.checks) else None
        sweep = save_sweep(plan, self.rows.table(), checks, self._out, draw)
        self.remove()
        return sweep

    def _adopt(self) -> None:
        found = load_sweep(self._out).plan
        self.rows.adopt(_load_table(self._out / ROWS_FILE, row_schema(found)))
        if found.spice_check:
            self.checks.adopt(_load_table(self._out / CHECK_FILE, row_schema(found, COMPARISON)))

    def _identify(self) -> None:
        """Make the folder that of this sweep."""
        if not holds_only(self.folder, (_IDENTITY, _ROWS, _CHECKS, LOCK)):
            raise ArtifactError(f"{self.folder}: holds something else, which would be lost; choose another --out")
        path, identity = self.folder / _IDENTITY, self._plan.identity()
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == identity
        except (OSError, ValueError):
            same = False
        if same:
            return
        if any(any((self.folder / name).glob("*.parquet")) for name in (_ROWS, _CHECKS)):
            raise ArtifactError(f"{self.folder}: holds an interrupted sweep of something else; {_REPEAT}")
        path.write_text(json.dumps(identity) + "\n", encoding="utf-8")


def save_sweep(
    plan: SweepPlan,
    rows: pa.Table,
    checks: pa.Table | None,
    folder: Path,
    draw: Callable[[Sweep, Path], object] | None = None,
) -> Sweep:
    """Write a Sweep whole or not at all; the same one may be written again.

    Raises:
        ArtifactError: The disk fails, or something else lies there.
    """
    sweep = Sweep(plan, rows.to_pandas(), None if checks is None else checks.to_pandas())
    with written_whole(folder, lambda there: may_replace_sweep(there, plan)) as draft:
        (draft / PLAN_FILE).write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _write_table(rows, draft / ROWS_FILE)
        if checks is not None:
            _write_table(checks, draft / CHECK_FILE)
        if draw is not None:
            draw(sweep, draft)
    return sweep


def is_sweep(folder: Path) -> bool:
    """Say whether a folder looks like a Sweep."""
    return (folder / PLAN_FILE).is_file() and (folder / ROWS_FILE).is_file()


def load_sweep(folder: str | Path) -> Sweep:
    """Open a Sweep and check that its parts belong together.

    Raises:
        ArtifactError: Missing, incomplete, damaged, or of another schema version.
    """
    folder = Path(folder)
    plan = _load_plan(folder)
    schema = row_schema(plan)
    rows = _load_table(folder / ROWS_FILE, schema)
    if rows.num_rows != plan.trials:
        raise ArtifactError(f"{folder / ROWS_FILE}: {rows.num_rows} rows; the plan has {plan.trials} trials. {_AGAIN}")
    checks = None
    if plan.spice_check:
        checks = _load_table(folder / CHECK_FILE, row_schema(plan, COMPARISON)).to_pandas()
    return Sweep(plan, rows.to_pandas(), checks)


def check_sweep_folder(folder: Path, plan: SweepPlan) -> None:
    """Refuse a folder that a plan's Sweep may not take the place of, before it is measured.

    Raises:
        ArtifactError: It holds another sweep, or something else.
    """
    check_replaceable(folder, lambda there: may_replace_sweep(there, plan))


def may_replace_sweep(folder: Path, plan: SweepPlan) -> bool:
    """Say whether a folder holds nothing but the Sweep of this plan.

    Raises:
        ArtifactError: It holds another sweep.
    """
    if not is_sweep(folder):
        return False
    figures = [path.name for path in folder.glob("figure*.png")]
    if not holds_only(folder, [PLAN_FILE, ROWS_FILE, CHECK_FILE, *figures]):
        return False
    if _load_plan(folder).identity() != plan.identity():
        raise ArtifactError(f"{folder}: the folder holds another sweep; choose another --out, or delete it")
    return True


_AGAIN = "Delete the folder and repeat the sweep"


def _load_plan(folder: Path) -> SweepPlan:
    path = folder / PLAN_FILE
    if not path.is_file():
        raise ArtifactError(f"{folder}: not a sweep (no {PLAN_FILE}); make one with: hvae-mnn sweep-variation")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        version = tree.get("schema_version") if isinstance(tree, dict) else None
        if version != SCHEMA_VERSION:
            raise ArtifactError(f"{path}: schema version {version}; this program reads {SCHEMA_VERSION}. {_AGAIN}")
        return SweepPlan.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path}: damaged ({place}: {first['msg']}). {_AGAIN}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path}: damaged ({error}). {_AGAIN}") from None


def _load_table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{path}: missing or damaged ({reason}). {_AGAIN}") from None
    if not table.schema.equals(schema):
        odd = sorted(set(table.schema.names) ^ set(schema.names)) or ["their types"]
        raise ArtifactError(f"{path}: other columns than the plan's ({', '.join(odd[:3])}). {_AGAIN}")
    return table


def _write_table(table: pa.Table, path: Path) -> None:
    buffer = io.BytesIO()  # so that a failing disk is Python's OSError, with its reason
    pq.write_table(table, buffer)
    path.write_bytes(buffer.getvalue())


def _keys(table: pa.Table) -> Iterable[TrialKey]:
    return zip(*(table.column(name).to_pylist() for name in _KEY), strict=True)


def _sorted(tables: Iterable[pa.Table]) -> pa.Table | None:
    """Return the rows of some tables by study, point and trial, each once; None of no table."""
    found = list(tables)
    if not found:
        return None
    whole = pa.concat_tables(found).sort_by([(name, "ascending") for name in _KEY])
    keys = list(_keys(whole))
    return whole.take([i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]).combine_chunks()
