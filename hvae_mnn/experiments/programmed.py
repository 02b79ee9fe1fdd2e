"""Programmed: what write-verify made of a Build's cells, in memory and as a folder.

programming/
  programming.json   what `program --json` prints
  cells.npz          every cell, by numpy: `<tile>/<what>`, each (rows, columns)
  sample.csv         one row for each cell that was programmed in SPICE, with numpy's result beside it
  history.npz        conductances that the verifying reads of the sample measured, siemens, (reads, cells)
  error_model.toml   mean and sigma of the error as functions of G, for `device.error_model`
  decks/ lib/        the SPICE decks of the sample
"""

import csv
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from hvae_mnn.circuit.programming import GAVE_UP, REACHED, STUCK, Written
from hvae_mnn.errors import ArtifactError
from hvae_mnn.hardware.cells import ErrorModel
from hvae_mnn.runtime.folders import holds_only

Array = NDArray[np.float64]

PROGRAMMED_FILE = "programming.json"
_PARTS = (PROGRAMMED_FILE, "cells.npz", "sample.csv", "history.npz", "error_model.toml", "decks", "lib")
_DAMAGE = (
    OSError,
    EOFError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_CELL_PARTS = ("g_target", "g", "pulses", "energy", "status")


@dataclass(frozen=True, slots=True)
class Sample:
    """Cells that were programmed in SPICE and, with the same random numbers, in numpy.

    Attributes:
        tiles: Name of each cell's tile, (cells,).
        rows: Row of each cell, (cells,).
        columns: Column of each cell, (cells,).
        spice: What SPICE made of them.
        twin: What numpy made of them.
    """

    tiles: tuple[str, ...]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    spice: Written
    twin: Written


@dataclass(frozen=True, slots=True)
class Programmed:
    """A Build's cells after write-verify.

    Attributes:
        hardware_name: Preset or file that the hardware came from.
        model_hash: SHA-256 of the model.
        seed: Seed of devices, pulses and reads.
        span: Conductance range g_max - g_min, siemens.
        tolerance: Accepted error at a verifying read, as a part of the range.
        shapes: (rows, columns) of each tile, in the order of `cells`.
        cells: Every cell, by numpy, tile after tile.
        sample: The cells that were programmed in SPICE too.
        error_model: Error as a function of G, fitted to cells with targets spread evenly over the range.
    """

    hardware_name: str
    model_hash: str
    seed: int
    span: float
    tolerance: float
    shapes: Mapping[str, tuple[int, int]]
    cells: Written
    sample: Sample | None
    error_model: ErrorModel

    def tile_cells(self) -> Iterator[tuple[str, slice]]:
        """Yield each tile with the slice of `cells` that holds its cells, row after row."""
        start = 0
        for name, (rows, columns) in self.shapes.items():
            yield name, slice(start, start + rows * columns)
            start += rows * columns

    def to_json(self) -> dict[str, Any]:
        """Return what `program --json` prints, as plain values; SI units, errors in parts of the range."""
        return {
            "hardware_preset": self.hardware_name,
            "model_hash": self.model_hash,
            "seed": self.seed,
            "span": self.span,
            "tolerance": self.tolerance,
            "tiles": {name: list(shape) for name, shape in self.shapes.items()},
            "numpy": _summary(self.cells, self.span),
            "spice": None if self.sample is None else self._spice_summary(self.sample),
            "error_model": self.error_model.model_dump(mode="json"),
        }

    def _spice_summary(self, sample: Sample) -> dict[str, Any]:
        both: dict[str, float] = {"equal_pulses": int(np.count_nonzero(sample.spice.pulses == sample.twin.pulses))}
        both["largest_difference"] = float(np.abs(sample.spice.g - sample.twin.g).max() / self.span)
        return _summary(sample.spice, self.span) | both


def _summary(written: Written, span: float) -> dict[str, Any]:
    free = written.status != STUCK
    error = (written.g - written.g_target)[free] / span
    pulses = written.pulses[free]
    return {
        "cells": int(free.size),
        "stuck": int(np.count_nonzero(~free)),
        "given_up": int(np.count_nonzero(written.status == GAVE_UP)),
        "reached": int(np.count_nonzero(written.status == REACHED)),
        "within_1_percent": float(np.mean(np.abs(error) <= 0.01)) if error.size else None,
        "rms_error": float(np.sqrt(np.mean(error**2))) if error.size else None,
        "max_error": float(np.abs(error).max()) if error.size else None,
        "mean_pulses": float(pulses.mean()) if error.size else None,
        "p99_pulses": float(np.percentile(pulses, 99)) if error.size else None,
        "max_pulses": int(pulses.max()) if error.size else None,
        "energy": float(written.energy.sum()),
    }


def save_programmed(programmed: Programmed, folder: Path) -> None:
    """Write everything but the decks into an existing folder."""
    text = json.dumps(programmed.to_json(), indent=1) + "\n"
    (folder / PROGRAMMED_FILE).write_text(text, encoding="utf-8")
    np.savez_compressed(folder / "cells.npz", **dict(_cell_arrays(programmed)))  # type: ignore[arg-type]
    model = programmed.error_model.model_dump(mode="json", exclude_none=True)
    (folder / "error_model.toml").write_text(tomli_w.dumps(model), encoding="utf-8")
    if programmed.sample is not None:
        _save_sample(programmed.sample, folder)


def load_programmed(folder: str | Path) -> Programmed:
    """Open what `hvae-mnn program` wrote.

    Raises:
        ArtifactError: It is something else, or damaged.
    """
    folder = Path(folder)
    if not is_programmed(folder):
        raise ArtifactError(f"{folder}: no {PROGRAMMED_FILE} in it; make one with: hvae-mnn program BUILD")
    try:
        values = json.loads((folder / PROGRAMMED_FILE).read_text(encoding="utf-8"))
        shapes = {name: (int(rows), int(columns)) for name, (rows, columns) in values["tiles"].items()}
        return Programmed(
            hardware_name=values["hardware_preset"],
            model_hash=values["model_hash"],
            seed=values["seed"],
            span=values["span"],
            tolerance=values["tolerance"],
            shapes=shapes,
            cells=_load_cells(folder / "cells.npz", shapes),
            sample=_load_sample(folder) if values["spice"] else None,
            error_model=ErrorModel.model_validate(values["error_model"]),
        )
    except _DAMAGE as error:
        raise ArtifactError(f"{folder}: damaged ({error}); program the build again") from None


def may_replace_programmed(folder: Path) -> bool:
    """Say whether a folder holds what `program` wrote and nothing besides."""
    return is_programmed(folder) and holds_only(folder, _PARTS)


def is_programmed(folder: Path) -> bool:
    """Say whether a folder holds what `program` wrote."""
    return (folder / PROGRAMMED_FILE).is_file()


def _cell_arrays(programmed: Programmed) -> Iterator[tuple[str, Array]]:
    for name, part in programmed.tile_cells():
        for what in _CELL_PARTS:
            yield f"{name}/{what}", getattr(programmed.cells, what)[part].reshape(programmed.shapes[name])


def _load_cells(path: Path, shapes: Mapping[str, tuple[int, int]]) -> Written:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        parts = {what: np.concatenate([arrays[f"{name}/{what}"].ravel() for name in shapes]) for what in _CELL_PARTS}
    return Written(**parts, history=())


_COLUMNS = (
    "tile",
    "row",
    "column",
    "g_target",
    *(f"{side}_{what}" for side in ("spice", "numpy") for what in _CELL_PARTS[1:]),
)


def _save_sample(sample: Sample, folder: Path) -> None:
    sides = [getattr(side, what) for side in (sample.spice, sample.twin) for what in _CELL_PARTS[1:]]
    with (folder / "sample.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(zip(sample.tiles, sample.rows, sample.columns, sample.spice.g_target, *sides, strict=True))
    history = {"spice": np.array(sample.spice.history), "numpy": np.array(sample.twin.history)}
    np.savez_compressed(folder / "history.npz", **history)  # type: ignore[arg-type]


def _load_sample(folder: Path) -> Sample:
    with (folder / "sample.csv").open(newline="", encoding="utf-8") as table:
        reader = csv.DictReader(table)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != _COLUMNS or not rows:
        raise ValueError("sample.csv has other columns, or no rows")
    with (folder / "history.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        history = {side: tuple(arrays[side]) for side in ("spice", "numpy")}
    column = {name: [row[name] for row in rows] for name in _COLUMNS}
    return Sample(
        tuple(column["tile"]),
        np.array(column["row"], dtype=np.int64),
        np.array(column["column"], dtype=np.int64),
        *(_load_side(column, side, history[side]) for side in ("spice", "numpy")),
    )


def _load_side(column: Mapping[str, list[str]], side: str, history: tuple[Array, ...]) -> Written:
    kinds = {"g": np.float64, "pulses": np.int64, "energy": np.float64, "status": np.int8}
    parts = {what: np.array(column[f"{side}_{what}"], dtype=kind) for what, kind in kinds.items()}
    return Written(g_target=np.array(column["g_target"], dtype=np.float64), **parts, history=history)
