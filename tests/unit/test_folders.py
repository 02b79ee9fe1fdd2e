"""Folders that are written whole or not at all."""

import errno
import re
import stat
from pathlib import Path

import pytest

from hvae_mnn.errors import ArtifactError
from hvae_mnn.runtime.folders import check_replaceable, written_whole

FULL = OSError(errno.ENOSPC, "No space left on device")


def is_mine(folder: Path) -> bool:
    return (folder / "mine").is_file()


def write(folder: Path, text: str) -> None:
    with written_whole(folder, is_mine) as draft:
        (draft / "mine").write_text(text)
        (draft / "deep").mkdir()
        (draft / "deep" / f"{text}.txt").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", "one")
    assert contents(tmp_path) == {"a/b/mine": "one", "a/b/deep/one.txt": "one"}
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o755


def test_an_empty_folder_and_one_of_the_same_kind_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "one")
    write(tmp_path / "out", "two")
    assert contents(tmp_path) == {"out/mine": "two", "out/deep/two.txt": "two"}


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), RuntimeError("bug")])
def test_a_failure_in_the_middle_leaves_the_old_folder_and_no_draft(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "out", "old")
    before = contents(tmp_path)
    expected = ArtifactError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), written_whole(tmp_path / "out", is_mine) as draft:
        (draft / "mine").write_text("half")
        raise error
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    message = re.escape(f"{tmp_path / 'out'}: writing failed: No space left on device; nothing was kept")
    with pytest.raises(ArtifactError, match=message), written_whole(tmp_path / "out", is_mine):
        raise FULL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_failure_while_swapping_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write(tmp_path / "out", "old")
    rename = Path.rename

    def fails_on_the_draft(self: Path, target: Path) -> Path:
        if (self / "mine").is_file() and (self / "mine").read_text() == "new":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_on_the_draft)
    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        write(tmp_path / "out", "new")
    assert contents(tmp_path) == {"out/mine": "old", "out/deep/old.txt": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("dear")
    with pytest.raises(ArtifactError, match="thesis: the folder holds something else, which would be lost"):
        write(tmp_path / "thesis", "one")
    (tmp_path / "notes").write_text("dear")
    with pytest.raises(ArtifactError, match="notes: is a file; expected a folder or a new name"):
        write(tmp_path / "notes", "one")
    assert contents(tmp_path) == {"thesis/chapter.tex": "dear", "notes": "dear"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/out: cannot be written: .*; choose another --out"):
        write(tmp_path / "file" / "out", "one")


def test_check_replaceable_lets_new_and_empty_pass(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new", lambda _: False)
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty", lambda _: False)
    (tmp_path / "empty" / "x").touch()
    with pytest.raises(ArtifactError):
        check_replaceable(tmp_path / "empty", lambda _: False)
    check_replaceable(tmp_path / "empty", lambda _: True)
