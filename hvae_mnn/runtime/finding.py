"""What a command works on where none is named: the Build in ./build, the newest result in the working folder."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from hvae_mnn.errors import ArtifactError

BUILD_FOLDER = Path("build")
"""Where `compile` writes, and where commands look for a Build that is not named."""

_BUILD_FILES = ("manifest.json", "conductance.npz", "decks")
_RESULT_FILES = {
    "run": ("run.json", "trace.npz"),
    "sweep": ("plan.json", "rows.parquet"),
    "build": ("manifest.json", "conductance.npz"),
    "programming": ("programming.json", "cells.npz"),
    "study": ("results.csv", "study.json"),
}
"""Files that tell each kind of result; the first one's time is the result's."""

KINDS = tuple(_RESULT_FILES)


@dataclass(frozen=True, slots=True)
class Result:
    """A result in a folder.

    Attributes:
        folder: Where it lies.
        kind: One of KINDS.
    """

    folder: Path
    kind: str


def holds_build(folder: Path) -> bool:
    """Say whether a folder is a Build, whole or damaged: two of the three parts that tell it are there."""
    return sum(_is_there(folder / name) for name in _BUILD_FILES) >= 2


def kind_of(folder: Path) -> str | None:
    """Return which kind of result a folder holds; None if none."""
    wanted = _RESULT_FILES.items()
    return next((kind for kind, files in wanted if all(_is_there(folder / name) for name in files)), None)


def newest_result(folder: Path, kinds: Collection[str] = KINDS) -> Result:
    """Return the newest result of some kinds: the folder itself, or one of the folders in it.

    Raises:
        ArtifactError: There is none.
    """
    found = [Result(each, kind) for each in _candidates(folder) if (kind := kind_of(each)) and kind in kinds]
    if not found:
        raise ArtifactError(
            f"no {' or '.join(kinds)} in this folder; name one in another folder, or make one with: "
            'hvae-mnn simulate --sentence "..."'
        )
    return max(found, key=_written)


def _written(result: Result) -> tuple[int, int]:
    """Return when a result was written; of two at once the kind that is named first comes out on top."""
    path = result.folder / _RESULT_FILES[result.kind][0]
    return path.stat().st_mtime_ns, -KINDS.index(result.kind)


def _candidates(folder: Path) -> Iterator[Path]:
    """Yield a folder and those in it; what is half written there has a name that begins with a dot."""
    yield folder
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            yield path


def _is_there(path: Path) -> bool:
    """Say whether something lies there that may be looked at."""
    try:
        return path.exists()
    except OSError:
        return False
