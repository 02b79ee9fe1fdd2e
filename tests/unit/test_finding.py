"""What a command takes where nothing is named."""

import os
from pathlib import Path

import pytest

from hvae_mnn.errors import ArtifactError
from hvae_mnn.runtime.finding import KINDS, Result, holds_build, kind_of, newest_result

FILES = {
    "run": ("run.json", "trace.npz"),
    "sweep": ("plan.json", "rows.parquet"),
    "build": ("manifest.json", "conductance.npz"),
    "programming": ("programming.json", "cells.npz"),
    "study": ("results.csv", "study.json"),
}


def make(folder: Path, kind: str, second: int) -> Result:
    folder.mkdir(exist_ok=True)
    for name in FILES[kind]:
        (folder / name).write_text("")
        os.utime(folder / name, (second, second))
    return Result(folder, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_told_by_all_of_its_files(tmp_path: Path, kind: str) -> None:
    make(tmp_path, kind, 1)
    assert kind_of(tmp_path) == kind
    (tmp_path / FILES[kind][1]).unlink()
    assert kind_of(tmp_path) is None


def test_the_newest_of_all_or_of_some_kinds(tmp_path: Path) -> None:
    made = {kind: make(tmp_path / f"my {kind}", kind, second) for second, kind in enumerate(KINDS)}
    assert newest_result(tmp_path) == made["study"]
    assert newest_result(tmp_path, ["run", "sweep"]) == made["sweep"]
    make(made["run"].folder, "run", 99)
    assert newest_result(tmp_path) == made["run"]


def test_the_folder_itself_counts_and_half_written_ones_do_not(tmp_path: Path) -> None:
    make(tmp_path / ".run-draft", "run", 9)
    with pytest.raises(ArtifactError, match="no run in this folder"):
        newest_result(tmp_path, ["run"])
    (tmp_path / "notes.txt").write_text("")
    make(tmp_path, "run", 1)
    assert newest_result(tmp_path) == Result(tmp_path, "run")


def test_of_results_of_one_time_the_run_comes_first(tmp_path: Path) -> None:
    for kind in reversed(KINDS):
        make(tmp_path / kind, kind, 5)
    assert newest_result(tmp_path).kind == "run"
    assert newest_result(tmp_path, ["study", "build"]).kind == "build"


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        (("manifest.json", "conductance.npz", "decks"), True),
        (("manifest.json", "decks"), True),
        (("conductance.npz", "decks"), True),
        (("manifest.json", "static"), False),  # of a web site
        (("lib", "bdist.linux-x86_64"), False),  # of a Python project
        ((), False),
    ],
)
def test_a_build_is_told_from_other_folders_of_its_name(tmp_path: Path, names: tuple[str, ...], ours: bool) -> None:
    for name in names:
        (tmp_path / name).write_text("")
    assert holds_build(tmp_path) is ours
    assert not holds_build(tmp_path / "nowhere")
