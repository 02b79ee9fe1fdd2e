"""What an unfinished simulation has read so far, on disk, so that the same command goes on from there.

<out>.unfinished/
  identity.json   what is simulated; a simulation of something else begins anew
  results.jsonl   results of whole batches of sentences, a line each
  steps/          readings of the batch under way, a file a time step
  waveforms/      waveforms recorded so far

A simulation is replayed from its beginning with the readings that are there: everything else follows from them.
"""

import fcntl
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from hvae_mnn.engines.base import Reading
from hvae_mnn.errors import ArtifactError
from hvae_mnn.folders import holds_only

States = Mapping[str, Mapping[str, float]]

_IDENTITY, _RESULTS, _STEPS, _WAVEFORMS, _LOCK = "identity.json", "results.jsonl", "steps", "waveforms", "lock"
_PARTS = ("codes", "analog", "clipped")
_STEP = re.compile(r"(?P<batch>\d{6})-(?P<step>\d{6})-(?P<layers>[\w+]+)\.npz")


def unfinished_folder(out: Path) -> Path:
    """Return where the journal of a simulation that shall write `out` lies."""
    return out.with_name(out.name + ".unfinished")


class Journal:
    """Readings and results of a simulation that may be interrupted; to be used in a `with` block.

    Attributes:
        folder: Where it lies.
        batch: The batch of sentences under way, from 0.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Open the journal of a simulation, an empty one where `folder` holds that of another one.

        Raises:
            ArtifactError: Another process writes it, it holds something else, or the disk fails.
        """
        self.folder, self.batch = folder, 0
        self._identity = json.loads(json.dumps(identity))
        self._step, self._found = 0, list[Path]()
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder)
            try:
                self._open()
            except BaseException:
                self._lock.close()
                raise
        self._enter_batch(len(self.results()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the journal to the next one who opens it, unless nothing is in it."""
        if not self._found and not (self.folder / _RESULTS).exists():
            self.remove()
        self._lock.close()

    @property
    def waveforms(self) -> Path:
        """The folder of the waveforms."""
        return self.folder / _WAVEFORMS

    @property
    def steps(self) -> int:
        """How many steps of the batch under way are there."""
        return len(self._found)

    def results(self) -> list[dict[str, Any]]:
        """Return the results of the batches that are done."""
        path = self.folder / _RESULTS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines]

    def reads(self) -> dict[str, int]:
        """Return how often each layer was read in the steps that are there."""
        counts: dict[str, int] = {}
        for path in self._found:
            match = _STEP.fullmatch(path.name)
            for layer in match["layers"].split("+") if match else ():
                counts[layer] = counts.get(layer, 0) + 1
        return counts

    def replay(self) -> tuple[dict[str, Reading], States] | None:
        """Return the next step's readings and the states of memristors after it; None where there are no more."""
        if self._step >= len(self._found):
            return None
        path = self._found[self._step]
        self._step += 1
        with np.load(path, allow_pickle=False) as arrays:
            layers = {name.partition("/")[0] for name in arrays.files if "/" in name}
            readings = {layer: Reading(*(arrays[f"{layer}/{part}"] for part in _PARTS)) for layer in layers}
            return readings, json.loads(str(arrays["states"]))

    def add(self, readings: Mapping[str, Reading], states: States) -> None:
        """Append a step.

        Raises:
            ArtifactError: The disk fails.
        """
        path = self.folder / _STEPS / f"{self.batch:06}-{self._step:06}-{'+'.join(sorted(readings))}.npz"
        arrays = {f"{layer}/{part}": getattr(read, part) for layer, read in readings.items() for part in _PARTS}
        draft = path.with_suffix(".part")
        with _disk(self.folder):
            with draft.open("wb") as file:
                np.savez(file, states=np.array(json.dumps(states)), **arrays)
            draft.replace(path)
        self._step += 1
        self._found.append(path)

    def end_batch(self, results: list[dict[str, Any]]) -> None:
        """Keep the results of the batch under way instead of its steps.

        Raises:
            ArtifactError: The disk fails.
        """
        path = self.folder / _RESULTS
        with _disk(self.folder):
            draft = path.with_suffix(".part")
            lines = "".join(json.dumps(result) + "\n" for result in results)
            draft.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + lines, encoding="utf-8")
            draft.replace(path)
            for step in self._found:
                step.unlink()
        self.batch, self._step, self._found = self.batch + 1, 0, list[Path]()

    def remove(self) -> None:
        """Delete the journal: the simulation is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self) -> None:
        """Make the folder that of this simulation."""
        known = (_IDENTITY, _RESULTS, _STEPS, _WAVEFORMS, _LOCK)
        if not holds_only(self.folder, [*known, Path(_RESULTS).with_suffix(".part").name]):
            raise ArtifactError(f"{self.folder}: holds something else, which would be lost; choose another --out")
        path = self.folder / _IDENTITY
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == self._identity
        except (OSError, ValueError):
            same = False
        if not same:
            for name in (_STEPS, _WAVEFORMS):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / _RESULTS).unlink(missing_ok=True)
            path.write_text(json.dumps(self._identity) + "\n", encoding="utf-8")
        (self.folder / _STEPS).mkdir(exist_ok=True)

    def _enter_batch(self, results: int) -> None:
        """Find the batch under way and its steps up to the first that is missing or damaged; drop the others."""
        self.batch = -(-results // self._identity.get("batch", 1))
        for path in sorted((self.folder / _STEPS).iterdir()):
            match = _STEP.fullmatch(path.name)
            expected = match and (int(match["batch"]), int(match["step"])) == (self.batch, len(self._found))
            if expected and zipfile.is_zipfile(path):
                self._found.append(path)
            else:
                path.unlink()


def _lock(folder: Path) -> IO[str]:
    """Hold the folder until the file is closed."""
    file = (folder / _LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ArtifactError(f"{folder}: another simulation is writing there; choose another --out or wait") from None
    return file


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Say in one line why the disk failed."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"{folder}: cannot be written: {reason}; free space or choose another --out") from None
