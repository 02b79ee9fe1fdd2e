"""Waveforms on disk: an ngspice raw file a tile, a cycle appended as it ends.

The files are ngspice's own binary format, so `ngspice` (`load TILE.raw`), gaw and other viewers open them. Their title
names the tile and the length of a cycle; there is no date, so that a seed gives the same bytes. `No. Points` has a
fixed width and is written after the points, so a file is whole at any moment.

A cycle begins where the one before ends, and its last point lies at its end: cycles are found again by their times.
"""

import math
import os
import re
import shutil
import tempfile
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.engines.base import Waveform
from hvae_mnn.errors import ArtifactError

Array = NDArray[np.float64]

_HEADER = re.compile(
    rb"Title: HVAE-MNN waveforms of (?P<tile>\S+), cycle (?P<cycle>[1-9]\d*(?:\.\d+)?(?:e[-+]\d{1,3})?|0\.\d+) s\n"
    rb"Plotname: Transient Analysis\nFlags: real\nNo\. Variables: (?P<variables>\d+)\n"
    rb"No\. Points: (?P<points>\d+) *\nVariables:\n\t0\ttime\ttime\n(?P<names>(?:\t\d+\tv\([^()\s]+\)\tvoltage\n)+)"
    rb"Binary:\n"
)
_TITLE = b"Title: HVAE-MNN waveforms of "
_NAME = re.compile(rb"\t\d+\tv\(([^()\s]+)\)")
_NEAR = 1e-7  # of a cycle: less than any time step, more than times differ by rounding
_LONGEST_LINE, _LONGEST_HEADER = 4096, 2**24
_SUFFIX, _PART = ".raw", ".part"


class WaveformFiles:
    """Writes the waveforms of tiles into a folder, a file each.

    Files that an earlier process left are continued, also where it was killed while writing.

    Attributes:
        folder: Where they lie; made with the first cycle.
        cycle: Length of a cycle, second.
        limit: Bytes that all files together may take.
        left_out: Cycles that were not written since the next one would have gone beyond the limit.
    """

    def __init__(self, folder: Path | None, cycle: float, limit: float = float("inf")) -> None:
        """Take a folder, or a temporary one, which lasts as long as this object and its `waveforms`."""
        self._temporary = _Temporary() if folder is None else None
        self.folder = folder or self._temporary.path  # type: ignore[union-attr]
        self.cycle, self.limit, self.left_out = cycle, limit, 0
        self._files: dict[str, _File] = {}
        self._bytes = sum(path.stat().st_size for path in waveform_paths(self.folder))

    @property
    def full(self) -> bool:
        """Whether the limit was reached: nothing is written any more, for a later cycle would leave a gap."""
        return self.left_out > 0

    def append(self, tile: str, signals: Mapping[str, Array]) -> None:
        """Write a cycle of a tile after those before, unless the limit is reached.

        Args:
            tile: Its name.
            signals: `time`, second from the cycle's start, and nodes, volt, each (points,).

        Raises:
            ArtifactError: The disk is full, or the tile's file is damaged or holds other nodes.
        """
        more = 8 * sum(map(len, signals.values()))
        if self.full or self._bytes + more > self.limit:
            self.left_out += 1
            return
        path, names = self._path(tile), [name for name in signals if name != "time"]
        try:
            file = self._open(tile)
            if file is not None and file.names != names:
                raise ArtifactError(f"{path}: holds other signals than this run; begin again in another folder")
            start, last = (file.count * self.cycle, file.last) if file else (0.0, 0.0)
            time = np.maximum(signals["time"] + start, last)  # a cycle may end just past the next one's start
            table = np.stack([time, *(signals[name] for name in names)], axis=1)
            if file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._files[tile] = _create(path, tile, self.cycle, names, table)
            else:
                file.append(table)
        except OSError as error:
            self._files.pop(tile, None)
            raise _failed(path, error) from None
        self._bytes += more

    def cycles(self, tile: str) -> int:
        """Return how many cycles of a tile there are.

        Raises:
            ArtifactError: Its file is damaged.
        """
        file = self._open(tile)
        return 0 if file is None else file.count

    def truncate(self, cycles: int | Mapping[str, int]) -> None:
        """Drop all cycles after the first ones.

        Args:
            cycles: How many to keep, of every tile or by tile (0 of those not named); what is not there of those by
                tile counts as left out.

        Raises:
            ArtifactError: A file is damaged or cannot be written.
        """
        for part in self.folder.glob(f"*{_PART}"):
            part.unlink(missing_ok=True)
        wanted = 0 if isinstance(cycles, int) else sum(cycles.values())
        for path in waveform_paths(self.folder):
            tile = path.name.removesuffix(_SUFFIX)
            keep = cycles if isinstance(cycles, int) else cycles.get(tile, 0)
            try:
                file = self._open(tile)
                if file is None or keep < 1:
                    path.unlink()
                    self._files.pop(tile, None)
                else:
                    file.keep(keep)
            except OSError as error:
                raise _failed(path, error) from None
        self._bytes = sum(path.stat().st_size for path in waveform_paths(self.folder))
        held = 0 if isinstance(cycles, int) else sum(self.cycles(tile) for tile in cycles)
        self.left_out = wanted - held  # those that the limit cut off before

    def waveforms(self) -> "WaveformFolder":
        """Return what was written so far, read when asked for."""
        return WaveformFolder(self.folder, self.left_out, self._temporary)

    def _path(self, tile: str) -> Path:
        return self.folder / f"{tile}{_SUFFIX}"

    def _open(self, tile: str) -> "_File | None":
        """Return a tile's file, without what a killed process left behind its last whole cycle; None if none."""
        path = self._path(tile)
        if tile not in self._files and path.is_file():
            if path.stat().st_nlink > 1:  # a saved Run has it too
                part = path.with_name(path.name + _PART)
                shutil.copyfile(path, part)
                part.replace(path)
            header = _read_header(path)
            if header.cycle != self.cycle:
                raise ArtifactError(f"{path}: has cycles of {header.cycle:g} s, expected {self.cycle:g} s")
            self._files[tile] = _File(path, header)
        return self._files.get(tile)


class WaveformFolder(Mapping[str, Waveform]):
    """The waveforms in a folder by tile, each read when asked for.

    Getting a tile raises an ArtifactError where its file is damaged.

    Attributes:
        folder: Where the files lie.
        left_out: Cycles that the one who wrote them left out for want of space.
    """

    def __init__(self, folder: Path, left_out: int = 0, keep: object = None) -> None:
        """Take a folder, and an object to be kept alive with it."""
        self.folder, self.left_out, self._keep = folder, left_out, keep

    def __getitem__(self, tile: str) -> Waveform:
        if tile not in self:
            raise KeyError(tile)
        return read_waveform(self.folder / f"{tile}{_SUFFIX}")

    def __contains__(self, tile: object) -> bool:
        return tile in set(self)

    def __iter__(self) -> Iterator[str]:
        return (path.name.removesuffix(_SUFFIX) for path in waveform_paths(self.folder))

    def __len__(self) -> int:
        return len(waveform_paths(self.folder))


def read_waveform(path: Path) -> Waveform:
    """Map a tile's file: its values are read as they are used.

    Raises:
        ArtifactError: It is damaged or no file of ours.
    """
    header = _read_header(path)
    shape = (header.points, 1 + len(header.names))
    try:
        table = np.memmap(path, "<f8", mode="r", offset=header.size, shape=shape).view(np.ndarray)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    signals = {name: table[:, 1 + i] for i, name in enumerate(header.names)}
    return Waveform(table[:, 0], signals, header.cycle)


def save_waveforms(waveforms: Mapping[str, Waveform], folder: Path) -> None:
    """Put waveforms into a new folder: files by hard link where the disk can, others written.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir()
    for tile in waveforms:
        path = folder / f"{tile}{_SUFFIX}"
        if not isinstance(waveforms, WaveformFolder):
            waveform = waveforms[tile]
            table = np.stack([waveform.time, *waveform.signals.values()], axis=1)
            _create(path, tile, waveform.cycle, list(waveform.signals), table)
            continue
        source = waveforms.folder / path.name
        try:
            path.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, path)


def waveform_paths(folder: Path) -> list[Path]:
    """Return the files of a folder of waveforms by name; none where there is no folder."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def holds_only_waveforms(folder: Path) -> bool:
    """Say whether a folder holds files of ours, damaged or not, and nothing else, or is not there."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.is_file() and path.suffix in (_SUFFIX, _PART) and _is_ours(path) for path in folder.iterdir())


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_TITLE)) == _TITLE


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands before the values: cycle in seconds, nodes, points, where the count stands, length in bytes."""

    cycle: float
    names: list[str]
    points: int
    count_at: int
    count_width: int
    size: int


class _File:
    """A file that grows: how many cycles and points it has, and its last time."""

    def __init__(self, path: Path, header: _Header) -> None:
        """Open a whole file and cut what lies behind its last point."""
        self.path, self.names, self._header, self.points = path, header.names, header, header.points
        self._row = 8 * (1 + len(header.names))
        os.truncate(path, self._end)
        self.last = float(read_waveform(path).time[-1])
        if not math.isfinite(self.last):
            raise _damaged(path, f"its last time is {self.last} s")
        self.count = round(self.last / header.cycle)

    @property
    def _end(self) -> int:
        return self._header.size + self.points * self._row

    def append(self, table: Array) -> None:
        """Add a cycle, (points, 1 + nodes); on failure the file is as before."""
        try:
            with self.path.open("r+b") as file:
                file.seek(self._end)
                file.write(table.astype("<f8").tobytes())
                file.flush()
                self._write_points(file.fileno(), self.points + len(table))
        except BaseException:
            with suppress(OSError):
                os.truncate(self.path, self._end)
            raise
        self.points += len(table)
        self.count, self.last = self.count + 1, float(table[-1, 0])

    def keep(self, cycles: int) -> None:
        """Drop all but the first cycles."""
        if cycles >= self.count:
            return
        points, last = _find_end(self.path, (cycles - _NEAR) * self._header.cycle)
        with self.path.open("r+b") as file:
            self._write_points(file.fileno(), points)
        self.points, self.count, self.last = points, cycles, last
        os.truncate(self.path, self._end)

    def _write_points(self, descriptor: int, points: int) -> None:
        os.pwrite(descriptor, f"{points:<{self._header.count_width}}".encode(), self._header.count_at)


class _Temporary:
    """A folder that is removed with its last owner."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hvae-mnn-waveforms-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _find_end(path: Path, end: float) -> tuple[int, float]:
    """Return how many points a file has until the first one not before `end`, second, and its time."""
    time = read_waveform(path).time
    points = 1 + bisect_left(range(len(time)), end, key=lambda i: float(time[i]))
    return points, float(time[points - 1])


def _create(path: Path, tile: str, cycle: float, names: list[str], table: Array) -> _File:
    """Write a file with its first points whole or not at all."""
    variables = "".join(f"\t{i}\tv({name})\tvoltage\n" for i, name in enumerate(names, 1))
    before = (
        f"Title: HVAE-MNN waveforms of {tile}, cycle {cycle!r} s\nPlotname: Transient Analysis\nFlags: real\n"
        f"No. Variables: {1 + len(names)}\nNo. Points: "
    )
    after = f"\nVariables:\n\t0\ttime\ttime\n{variables}Binary:\n"
    width = 12 + -(len(before) + 12 + len(after)) % 8  # values begin at a multiple of 8, to be mapped
    part = path.with_name(path.name + _PART)
    try:
        part.write_bytes(f"{before}{len(table):<{width}}{after}".encode() + table.astype("<f8").tobytes())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return _File(path, _read_header(path))


def _read_header(path: Path) -> _Header:
    text = b""
    try:
        with path.open("rb") as file:
            while not text.endswith(b"\nBinary:\n") and (line := file.readline(_LONGEST_LINE)):
                text += line
                if not text.startswith(_TITLE) or len(text) > _LONGEST_HEADER:
                    break
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    match = _HEADER.fullmatch(text)
    if match is None:
        raise _damaged(path, "it does not begin as HVAE-MNN writes them")
    names = [name.decode(errors="replace") for name in _NAME.findall(match["names"])]
    points, expected = int(match["points"]), int(match["variables"])
    needed = len(text) + points * 8 * expected
    if expected != 1 + len(names) or points < 1 or size < needed:
        raise _damaged(path, f"it has {size} bytes, expected {needed} for {points} points of {expected} variables")
    count_at, count_end = match.start("points"), text.index(b"\n", match.start("points"))
    return _Header(float(match["cycle"]), names, points, count_at, count_end - count_at, len(text))


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{path}: the waveforms are damaged ({reason}); simulate again")


def _failed(path: Path, error: OSError) -> ArtifactError:
    reason = error.strerror or str(error)
    return ArtifactError(
        f"{path}: writing waveforms failed: {reason}; free space, record fewer tiles, or choose another --out"
    )
