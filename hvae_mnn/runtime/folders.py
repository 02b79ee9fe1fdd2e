"""Result folders that are written whole or not at all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hvae_mnn.errors import ArtifactError

LOCK = "lock"
"""The file by which a process holds a folder."""


@contextmanager
def written_whole(folder: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """Give an empty folder beside `folder` to write in; on success it takes its place.

    On any failure (a full disk, Ctrl-C) the new folder is removed and the old one stays.

    Args:
        folder: Where the result shall be.
        may_replace: Says whether an existing non-empty folder may be replaced.

    Raises:
        ArtifactError: The folder cannot be written, or holds something else.
    """
    check_replaceable(folder, may_replace)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror}; choose another --out") from None
    try:
        yield draft
        draft.chmod(0o755)
        _swap(draft, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(
            f"{folder}: writing failed: {reason}; nothing was kept. Free space or choose another --out"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_replaceable(folder: Path, may_replace: Callable[[Path], bool]) -> None:
    """Refuse to overwrite what is not the same kind of result.

    Raises:
        ArtifactError: The folder is a file, or holds something that may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder}: is a file; expected a folder or a new name. Choose another --out")
    if folder.resolve() == Path.cwd():
        raise ArtifactError(f"{folder}: is the working folder, which cannot be replaced; choose another --out")
    if folder.is_dir() and any(folder.iterdir()) and not may_replace(folder):
        raise ArtifactError(
            f"{folder}: the folder holds something else, which would be lost; choose another --out or empty it"
        )


def write_file(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        ArtifactError: The disk failed; a file that stood there before is untouched.
    """
    with disk_failures(path):
        replace_file(path, text.encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there: whole or not at all, also where the machine goes down.

    Raises:
        OSError: The disk failed; a file that stood there before is untouched.
    """
    draft = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            draft = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def unfinished_folder(out: Path) -> Path:
    """Return where what is not finished yet of a result that shall lie at `out` is kept."""
    return out.with_name(out.name + ".unfinished")


def holds_only(folder: Path, names: Collection[str]) -> bool:
    """Say whether nothing but `names` lies in a folder, so that replacing it loses nothing of the user's."""
    return {entry.name for entry in folder.iterdir()} <= set(names)


def lock_folder(folder: Path, what: str) -> IO[str]:
    """Hold a folder until the file that is returned is closed; `what` is done there, for the error.

    Raises:
        ArtifactError: Another process holds it.
    """
    file = (folder / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ArtifactError(f"{folder}: another {what} is writing there; choose another --out or wait") from None
    return file


@contextmanager
def disk_failures(folder: Path) -> Iterator[None]:
    """Say in one line why the disk failed.

    Raises:
        ArtifactError: For an `OSError` within.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"{folder}: cannot be written: {reason}; free space or choose another --out") from None


def _swap(draft: Path, folder: Path) -> None:
    """Put the draft in the folder's place; the old folder goes last, or comes back if that fails."""
    old = draft.with_name(draft.name + "-old")
    try:
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
