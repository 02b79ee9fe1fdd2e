"""Rows of a sweep on disk: whole or not at all, found again, and refused where they are something else."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sweeping import FakeBench, assert_same, make_studies, plan_of, stored, sweep

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.sweep import store
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.plan import Point, SweepPlan
from hvae_mnn.experiments.sweep.store import COMPARISON, Parts, SweepStore, is_sweep, load_sweep, make_row, row_schema

KEYS = ["device.sigma", "array.scheme", "array.tile_rows", "array.tile_columns"]
PLAN, POINTS = plan_of()


def rows_of(point: Point, *trials: int, plan: SweepPlan = PLAN) -> list[dict[str, object]]:
    bench = FakeBench.__new__(FakeBench)
    metrics = bench.measure(point.hardware, [plan.seed + trial for trial in trials])
    return [make_row(plan, point, trial, values, "nodal") for trial, values in zip(trials, metrics, strict=True)]


def test_columns_and_their_types(tmp_path: Path) -> None:
    found = sweep(tmp_path / "out", PLAN, POINTS)
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    assert_same(rows, found.rows)
    assert list(rows) == ["study", "point", "trial", "seed", *KEYS, "backend", *(metric.name for metric in METRICS)]
    kinds = {name: str(kind) for name, kind in rows.dtypes.items()}
    assert {kinds[name] for name in ("point", "trial", "seed")} == {"int64"}
    assert {kinds[name] for name in ("device.sigma", "array.tile_rows", "elbo")} == {"float64"}
    assert all(isinstance(value, str) for name in ("study", "backend") for value in rows[name])
    errors, tiles = (rows[rows["study"] == name] for name in ("errors", "tiles"))
    assert errors["array.tile_rows"].isna().all() and tiles["device.sigma"].isna().all()
    assert set(errors["array.scheme"]) == {"paired", "differential"} and tiles["array.scheme"].isna().all()
    assert (tiles["array.tile_rows"] == tiles["array.tile_columns"]).all()
    assert len(rows) == PLAN.trials == 6 * 10 + 2 * 5
    order = list(zip(rows["study"], rows["point"], rows["trial"], strict=True))
    assert order == sorted(order)


def test_parts_are_found_again_whatever_their_sizes(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "rows", row_schema(PLAN))
    assert len(parts.table()) == 0
    parts.add(rows_of(POINTS[1], 2, 3))
    parts.add(rows_of(POINTS[0], 5))
    again = Parts(tmp_path / "rows", row_schema(PLAN))
    again.add(rows_of(POINTS[0], 0))
    assert len(again) == 4
    assert ("errors", 1, 3) in again and ("errors", 1, 1) not in again
    expected = pd.DataFrame(rows_of(POINTS[0], 0, 5) + rows_of(POINTS[1], 2, 3))
    pd.testing.assert_frame_equal(again.table().to_pandas(), expected, check_exact=True, check_dtype=False)


def test_many_small_files_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_MANY_PARTS", 4)
    parts = Parts(tmp_path / "rows", row_schema(PLAN))
    for trial in range(10):
        parts.add(rows_of(POINTS[0], trial))
    assert len(list((tmp_path / "rows").iterdir())) == 4  # two of four rows, and the last two rows
    table = Parts(tmp_path / "rows", row_schema(PLAN)).table().to_pandas()
    assert table["trial"].tolist() == list(range(10))


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    """As after a kill between writing a large file and deleting the small ones."""
    parts = Parts(tmp_path / "rows", row_schema(PLAN))
    parts.add(rows_of(POINTS[0], 0, 1))
    parts.add(rows_of(POINTS[0], 1, 2))
    parts = Parts(tmp_path / "rows", row_schema(PLAN))
    assert len(parts) == 3
    assert parts.table().to_pandas()["trial"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["cut", "empty", "columns", "draft", "foreign"])
def test_damaged_files_are_measured_again(tmp_path: Path, damage: str) -> None:
    parts = Parts(tmp_path / "rows", row_schema(PLAN))
    parts.add(rows_of(POINTS[0], 0))
    parts.add(rows_of(POINTS[0], 1))
    first, second = sorted((tmp_path / "rows").iterdir())
    if damage in ("cut", "empty"):
        second.write_bytes(second.read_bytes()[: 500 if damage == "cut" else 0])
    elif damage == "columns":
        pq.write_table(pq.read_table(second).drop_columns(["elbo"]), second)
    elif damage == "draft":
        second.rename(second.with_suffix(".part"))
    else:
        second.rename(second.with_name("more.parquet"))
    again = Parts(tmp_path / "rows", row_schema(PLAN))
    assert len(again) == 1
    assert list((tmp_path / "rows").iterdir()) == [first]


def test_another_sweep_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with SweepStore(tmp_path / "out", PLAN) as kept:
        kept.rows.add(rows_of(POINTS[0], 0))
    other, _ = plan_of(seed=1)
    with pytest.raises(ArtifactError, match="holds an interrupted sweep of something else; repeat its command"):
        SweepStore(tmp_path / "out", other)
    assert stored(tmp_path / "out.unfinished") == 1
    with SweepStore(tmp_path / "out", PLAN.model_copy(update={"yield_at": 0.3})) as kept:
        assert len(kept.rows) == 1


def test_an_empty_store_leaves_nothing(tmp_path: Path) -> None:
    with SweepStore(tmp_path / "out", PLAN):
        assert (tmp_path / "out.unfinished").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_before_its_first_row_is_no_hindrance(tmp_path: Path) -> None:
    kept = SweepStore(tmp_path / "out", PLAN)
    kept._lock.close()
    other, _ = plan_of(seed=1)
    with SweepStore(tmp_path / "out", other) as kept:
        assert json.loads((kept.folder / "identity.json").read_text())["seed"] == 1


def test_two_at_once_and_folders_of_the_users_are_refused(tmp_path: Path) -> None:
    with SweepStore(tmp_path / "out", PLAN) as kept:
        kept.rows.add(rows_of(POINTS[0], 0))
        with pytest.raises(ArtifactError, match="another sweep is writing there; choose another --out or wait"):
            SweepStore(tmp_path / "out", PLAN)
    (tmp_path / "out.unfinished" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="holds something else, which would be lost"):
        SweepStore(tmp_path / "out", PLAN)
    assert (tmp_path / "out.unfinished" / "thesis.txt").exists()


def test_a_full_disk_is_one_line_and_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with SweepStore(tmp_path / "out", PLAN) as kept:
        kept.rows.add(rows_of(POINTS[0], 0))
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(ArtifactError, match=r"rows: cannot be written: No space left on device; free space or"):
            kept.rows.add(rows_of(POINTS[0], 1))
        assert len(kept.rows) == 1
        with pytest.raises(ArtifactError, match="writing failed: No space left on device"):
            kept.finish({}, "numpy")
        monkeypatch.undo()
    with SweepStore(tmp_path / "out", PLAN) as kept:
        assert len(kept.rows) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.unfinished"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "sweep"
    plan, points = plan_of(make_studies(2), spice_check=2)
    sweep_with_check(folder, plan, points)
    return folder


def sweep_with_check(folder: Path, plan: SweepPlan, points: tuple[Point, ...]) -> None:
    """Write a Sweep without ngspice, which `run_sweep` asks for before it begins."""
    with SweepStore(folder, plan) as kept:
        for point in points:
            kept.rows.add(rows_of(point, *range(point.trials), plan=plan))
        compared = {"values": 8.0, "equal_codes": 1.0, "largest_lsb": 0.0, "largest_analog": 1e-9}
        for point in (points[0], points[-1]):
            kept.checks.add([{**rows_of(point, 0, plan=plan)[0], **compared, "backend": "spice"}])
        kept.finish({"kl": 1.0}, "numpy 2", draw=lambda found, where: (where / "figure.png").write_bytes(b"picture"))


def test_a_sweep_is_opened_as_it_was_written(finished: Path) -> None:
    found = load_sweep(finished)
    assert is_sweep(finished)
    assert sorted(path.name for path in finished.iterdir()) == [
        "figure.png",
        "plan.json",
        "rows.parquet",
        "spice_check.parquet",
    ]
    assert found.plan.software == {"kl": 1.0}
    assert found.plan.studies == plan_of(make_studies(2), spice_check=2)[0].studies
    assert len(found.rows) == found.plan.trials
    assert found.spice_check is not None
    assert list(found.spice_check)[-4:] == list(COMPARISON)
    assert found.spice_check["backend"].tolist() == ["spice", "spice"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _edit_plan(folder: Path, **changes: object) -> None:
    path = folder / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "plan.json").unlink(), "not a sweep (no plan.json); make one with: hvae-mnn sweep"),
        (lambda folder: _cut(folder / "plan.json"), "plan.json: damaged ("),
        (lambda folder: (folder / "plan.json").write_text("[]"), "schema version None; this program reads 1"),
        (lambda folder: (folder / "plan.json").write_bytes(b"\xff"), "plan.json: damaged ("),
        (lambda folder: _edit_plan(folder, schema_version=9), "schema version 9; this program reads 1"),
        (lambda folder: _edit_plan(folder, studies=[]), "plan.json: damaged (studies: "),
        (lambda folder: _edit_plan(folder, seed=-1), "plan.json: damaged (seed: "),
        (lambda folder: (folder / "rows.parquet").unlink(), "rows.parquet: missing or damaged ("),
        (lambda folder: _cut(folder / "rows.parquet"), "rows.parquet: missing or damaged ("),
        (lambda folder: (folder / "spice_check.parquet").unlink(), "spice_check.parquet: missing or damaged ("),
        (
            lambda folder: shutil.copy(folder / "spice_check.parquet", folder / "rows.parquet"),
            "rows.parquet: other columns than the plan's (equal_codes, largest_analog, largest_lsb)",
        ),
        (
            lambda folder: pq.write_table(pq.read_table(folder / "rows.parquet").slice(0, 3), folder / "rows.parquet"),
            "rows.parquet: 3 rows; the plan has 14 trials",
        ),
    ],
)
def test_a_damaged_sweep_is_one_line(
    finished: Path, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(finished, folder)
    damage(folder)
    with pytest.raises(ArtifactError) as caught:
        load_sweep(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_same_sweep_may_be_replaced(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(finished, folder)
    plan, _ = plan_of(make_studies(2), spice_check=2)
    assert store.may_replace_sweep(folder, plan)
    with pytest.raises(ArtifactError, match="the folder holds another sweep; choose another --out"):
        store.may_replace_sweep(folder, plan_of(make_studies(3), spice_check=2)[0])
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="the folder holds something else, which would be lost"):
        store.check_sweep_folder(folder, plan)
