"""What an unfinished simulation has read so far, on disk, so that the same command goes on from there.

<out>.unfinished/
  identity.json   what is simulated; a simulation of something else is refused
  results.jsonl   results of whole batches of sentences, a line each
  states.json     states of dynamic memristors that moved in them, if any
  steps/          readings of the batch under way, a file a time step
  waveforms/      waveforms recorded so far

A simulation is replayed from its beginning with the readings that are there: everything else follows from them.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from hvae_mnn.engines.base import Reading
from hvae_mnn.errors import ArtifactError
from hvae_mnn.runtime.folders import LOCK, disk_failures, holds_only, lock_folder
from hvae_mnn.runtime.version import VERSION

States = Mapping[str, Mapping[str, float]]

_IDENTITY, _RESULTS, _STATES = "identity.json", "results.jsonl", "states.json"
_STEPS, WAVEFORMS = "steps", "waveforms"
_PARTS = ("codes", "analog", "clipped")
_STEP = re.compile(r"(?P<batch>\d{6})-(?P<step>\d{6})-(?P<layers>[\w+]+)\.npz")


class Journal:
    """Readings and results of a simulation that may be interrupted; to be used in a `with` block.

    Attributes:
        folder: Where it lies.
        batch: The batch of sentences under way, from 0.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Open the journal of a simulation.

        Args:
            folder: Where it lies; made if it is not there.
            identity: What is simulated, plain values; `batch` is how many sentences are read at once.

        Raises:
            ArtifactError: It is the journal of another simulation, another process writes it, it holds something
                else, or the disk fails.
        """
        self.folder, self.batch = folder, 0
        self._identity = json.loads(json.dumps({"program": VERSION, **identity}))
        self._step, self._found, self._removed = 0, list[Path](), False
        with disk_failures(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(folder, "simulation")
            try:
                self._open()
            except BaseException:
                self._lock.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the journal to the next one who opens it, unless nothing is in it."""
        if not self._removed and not self._found and not (self.folder / _RESULTS).exists():
            self.remove()
        self._lock.close()

    @property
    def waveforms(self) -> Path:
        """The folder of the waveforms."""
        return self.folder / WAVEFORMS

    @property
    def steps(self) -> int:
        """How many steps of the batch under way are there."""
        return len(self._found)

    def results(self) -> list[dict[str, Any]]:
        """Return the results of the batches that are done."""
        path = self.folder / _RESULTS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def states(self) -> States:
        """Return the states of memristors after the batches that are done."""
        path = self.folder / _STATES
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

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
        with disk_failures(self.folder):
            with draft.open("wb") as file:
                np.savez(file, states=np.array(json.dumps(states)), **arrays)
            draft.replace(path)
        self._step += 1
        self._found.append(path)

    def end_batch(self, results: list[dict[str, Any]], states: States) -> None:
        """Keep the results of the batch under way, and the states of memristors after it, instead of its steps.

        Raises:
            ArtifactError: The disk fails.
        """
        with disk_failures(self.folder):
            if states:
                draft = self.folder / f"{_STATES}.part"
                draft.write_text(json.dumps(states), encoding="utf-8")
                draft.replace(self.folder / _STATES)
            with (self.folder / _RESULTS).open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(result) + "\n" for result in results))
                file.flush()
                os.fsync(file.fileno())
            for step in self._found:
                step.unlink()
        self.batch, self._step, self._found = self.batch + 1, 0, list[Path]()

    def remove(self) -> None:
        """Delete the journal: the simulation is done."""
        self._removed = True
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self) -> None:
        """Make the folder that of this simulation, and find what is in it."""
        known = (_IDENTITY, _RESULTS, _STATES, _STEPS, WAVEFORMS, LOCK)
        if not holds_only(self.folder, [*known, f"{_STATES}.part"]):
            raise ArtifactError(f"{self.folder}: holds something else, which would be lost; choose another --out")
        path = self.folder / _IDENTITY
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == self._identity
        except (OSError, ValueError):
            same = False
        (self.folder / _STEPS).mkdir(exist_ok=True)
        if not same:
            if any((self.folder / _STEPS).iterdir()) or (self.folder / _RESULTS).exists():
                raise ArtifactError(
                    f"{self.folder}: holds an interrupted simulation of something else; repeat its command, choose "
                    "another --out, or delete the folder"
                )
            path.write_text(json.dumps(self._identity) + "\n", encoding="utf-8")
        self._cut_results()
        self._find_steps()

    def _cut_results(self) -> None:
        """Drop what a killed process left of a batch; enter the batch after the last whole one."""
        path, size = self.folder / _RESULTS, self._identity.get("batch", 1)
        whole = (
            [line for line in path.read_bytes().splitlines(keepends=True) if _is_whole(line)] if path.exists() else []
        )
        count = self._identity.get("count", len(whole))
        if len(whole) < count:
            whole = whole[: len(whole) // size * size]
        if path.exists():
            os.truncate(path, sum(map(len, whole)))
        self.batch = -(-len(whole) // size)

    def _find_steps(self) -> None:
        """Find the steps of the batch under way up to the first that is missing or damaged; drop the others."""
        for path in sorted((self.folder / _STEPS).iterdir()):
            match = _STEP.fullmatch(path.name)
            expected = match and (int(match["batch"]), int(match["step"])) == (self.batch, len(self._found))
            if expected and _is_sound(path):
                self._found.append(path)
            else:
                path.unlink()


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _is_sound(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
