"""Waveforms on disk: bytes back as they came, cut and continued, at any moment whole, never beyond the limit."""

import errno
import gc
import os
import re
from pathlib import Path

import numpy as np
import pytest
from support import parse_raw

from hvae_mnn.engines.spice.recording import Recording
from hvae_mnn.engines.spice.waveforms import WaveformFiles, WaveformFolder, holds_only_waveforms, read_waveform
from hvae_mnn.errors import ArtifactError

CYCLE = 4e-6
TILES = ("encoder1.f.r0c0", "decoder.n_x.r2c1")


def cycle(number: int, nodes: int = 3) -> dict[str, np.ndarray]:
    """Return a cycle of some points whose end lies a rounding past its length, as ngspice's may."""
    rng = np.random.default_rng(number)
    points = int(rng.integers(5, 9))
    time = np.array([0, *np.sort(rng.uniform(0.01, 0.99, points)) * CYCLE, np.nextafter(CYCLE, 1 - number % 2)])
    return {"time": time, **{f"out{k}": rng.normal(size=points + 2) for k in range(nodes)}}


def write(folder: Path, cycles: int, tiles: tuple[str, ...] = TILES) -> WaveformFiles:
    files = WaveformFiles(folder, CYCLE)
    for number in range(cycles):
        for tile in tiles:
            files.append(tile, cycle(number + 100 * tiles.index(tile)))
    return files


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_values_come_back_bit_by_bit(tmp_path: Path) -> None:
    files = write(tmp_path / "w", 6)
    found = files.waveforms()[TILES[1]]
    expected = [cycle(number + 100) for number in range(6)]
    assert list(found.signals) == ["out0", "out1", "out2"]
    assert found.cycle == CYCLE
    for name, signal in found.signals.items():
        np.testing.assert_array_equal(signal, np.concatenate([one[name] for one in expected]))
    times = np.concatenate([one["time"] + i * CYCLE for i, one in enumerate(expected)])
    np.testing.assert_array_equal(found.time, np.maximum.accumulate(times))
    assert files.cycles(TILES[0]) == files.cycles(TILES[1]) == 6
    assert files.cycles("another") == 0


def test_the_file_is_an_ngspice_raw_file_after_every_cycle(tmp_path: Path) -> None:
    files = WaveformFiles(tmp_path, CYCLE)
    points = 0
    for number in range(12):
        files.append("t", cycle(number))
        points += len(cycle(number)["time"])
        (plot,) = parse_raw((tmp_path / "t.raw").read_bytes())
        assert list(plot) == ["time", "v(out0)", "v(out1)", "v(out2)"]
        assert len(plot["time"]) == points
        np.testing.assert_array_equal(plot["v(out2)"][-len(cycle(number)["time"]) :], cycle(number)["out2"])
    assert (tmp_path / "t.raw").read_bytes().index(b"Binary:\n") % 8 == 0  # values at a multiple of 8


@pytest.mark.parametrize("kept", [0, 1, 4, 7])
@pytest.mark.parametrize("anew", [False, True])
def test_cut_and_continued_is_as_if_never_interrupted(tmp_path: Path, kept: int, anew: bool) -> None:
    write(tmp_path / "whole", 7)
    files = write(tmp_path / "cut", 5, TILES[:1])  # killed between two tiles
    other = WaveformFiles(tmp_path / "cut", CYCLE)
    for number in range(4):
        other.append(TILES[1], cycle(number + 100))
    if anew or kept > 4:
        files = WaveformFiles(tmp_path / "cut", CYCLE)
    files.truncate(min(kept, 4))
    assert [files.cycles(tile) for tile in TILES] == [min(kept, 4)] * 2
    for number in range(min(kept, 4), 7):
        for tile in TILES:
            files.append(tile, cycle(number + 100 * TILES.index(tile)))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_tiles_are_cut_one_by_one(tmp_path: Path) -> None:
    files = write(tmp_path, 5)
    files.truncate({TILES[0]: 3})
    assert [path.name for path in tmp_path.iterdir()] == [f"{TILES[0]}.raw"]
    assert files.cycles(TILES[0]) == 3
    assert list(files.waveforms()) == [TILES[0]]


def test_what_a_killed_process_left_is_cut(tmp_path: Path) -> None:
    """Killed before the count was written, or while a file was made."""
    write(tmp_path / "whole", 3)
    write(tmp_path / "cut", 2)
    with (tmp_path / "cut" / f"{TILES[0]}.raw").open("ab") as file:
        file.write(b"\x01" * 100)
    (tmp_path / "cut" / "encoder2.f.r0c0.raw.part").write_bytes(b"Title: HVAE")
    found = read_waveform(tmp_path / "cut" / f"{TILES[0]}.raw")
    assert found.time[-1] == pytest.approx(2 * CYCLE, rel=1e-9)
    files = WaveformFiles(tmp_path / "cut", CYCLE)
    files.truncate(2)
    for tile in TILES:
        files.append(tile, cycle(2 + 100 * TILES.index(tile)))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_saved_run_is_not_changed_by_what_follows(tmp_path: Path) -> None:
    write(tmp_path / "w", 2)
    saved = tmp_path / "saved.raw"
    saved.hardlink_to(tmp_path / "w" / f"{TILES[0]}.raw")
    before = saved.read_bytes()
    files = WaveformFiles(tmp_path / "w", CYCLE)
    files.append(TILES[0], cycle(2))
    files.truncate(1)
    assert saved.read_bytes() == before


def test_nothing_is_written_beyond_the_limit_and_no_gap_is_left(tmp_path: Path) -> None:
    small, large = cycle(0, nodes=1), cycle(1, nodes=400)
    files = WaveformFiles(tmp_path, CYCLE, limit=20e3)
    files.append("a", small)
    files.append("b", large)
    assert files.full
    files.append("a", small)
    files.append("a", {})
    assert (files.cycles("a"), files.cycles("b"), files.left_out) == (1, 0, 3)
    assert files.waveforms().left_out == 3
    assert sum(map(len, contents(tmp_path).values())) < 20e3


def test_the_limit_counts_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, 3)
    size = sum(map(len, contents(tmp_path).values()))
    files = WaveformFiles(tmp_path, CYCLE, limit=size + 10)
    files.append(TILES[0], cycle(3))
    assert files.full
    files.truncate(1)
    files.append(TILES[0], cycle(1))
    assert files.cycles(TILES[0]) == 2


@pytest.mark.parametrize("first", [True, False])
def test_a_full_disk_is_one_line_and_the_file_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    files = WaveformFiles(tmp_path, CYCLE)
    if not first:
        files.append("a", cycle(0))
    before = contents(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        patch.setattr(Path, "replace", full)
        with pytest.raises(
            ArtifactError, match=r"a\.raw: writing waveforms failed: No space left on device; free [^\n]+$"
        ):
            files.append("a", cycle(1))
    assert contents(tmp_path) == before
    files.append("a", cycle(1))
    assert files.cycles("a") == 2 - first


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[:-8],
        lambda text: text.replace(b"Binary", b"Values"),
        lambda text: text.replace(b"cycle 4e-06", b"cycle 0e-06"),
        lambda text: text.replace(b"No. Variables: 4", b"No. Variables: 3"),
        lambda text: re.sub(rb"No. Points: \d+ ", b"No. Points: 0", text),
        lambda text: re.sub(rb"No. Points: \d+ ", b"No. Points: 999999999999", text),
        lambda text: np.random.default_rng(0).bytes(5000),
        lambda text: b"Title: HVAE-MNN waveforms of " + b"a" * 9000,
    ],
    ids=range(9),
)
def test_damaged_files(tmp_path: Path, damage) -> None:
    write(tmp_path, 2)
    path = tmp_path / f"{TILES[0]}.raw"
    path.write_bytes(damage(path.read_bytes()))
    message = rf"^{re.escape(str(path))}: the waveforms are damaged \([^\n]+\); simulate again$"
    with pytest.raises(ArtifactError, match=message):
        WaveformFolder(tmp_path)[TILES[0]]
    with pytest.raises(ArtifactError, match=message):
        WaveformFiles(tmp_path, CYCLE).append(TILES[0], cycle(2))


def test_what_is_ours_in_a_folder(tmp_path: Path) -> None:
    assert holds_only_waveforms(tmp_path / "nowhere")
    write(tmp_path, 2)
    path = tmp_path / f"{TILES[0]}.raw"
    path.write_bytes(path.read_bytes()[:-8])
    assert holds_only_waveforms(tmp_path)
    path.rename(tmp_path / "thesis.tex")
    assert not holds_only_waveforms(tmp_path)
    (tmp_path / "thesis.tex").unlink()
    (tmp_path / "folder.raw").mkdir()
    assert not holds_only_waveforms(tmp_path)
    path.write_text("")
    assert not holds_only_waveforms(path)


def test_a_file_of_other_nodes_or_cycles_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with pytest.raises(ArtifactError, match="holds other signals than this run"):
        WaveformFiles(tmp_path, CYCLE).append(TILES[0], cycle(1, nodes=2))
    with pytest.raises(ArtifactError, match=r"has cycles of 4e-06 s, expected 5e-06 s"):
        WaveformFiles(tmp_path, 5e-6).append(TILES[0], cycle(1))


def test_a_folder_of_waveforms_is_a_mapping(tmp_path: Path) -> None:
    found = write(tmp_path, 1).waveforms()
    assert list(found) == sorted(TILES)
    assert len(found) == 2
    assert "../secret" not in found
    with pytest.raises(KeyError):
        found["encoder9.f.r0c0"]
    assert WaveformFolder(tmp_path / "nowhere") == {}


def test_a_temporary_folder_lasts_as_long_as_its_waveforms() -> None:
    files = WaveformFiles(None, CYCLE)
    files.append("a", cycle(0))
    folder, waveforms = files.folder, files.waveforms()
    del files
    gc.collect()
    assert len(waveforms["a"].time) == len(cycle(0)["time"])
    del waveforms
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("values", [{"every": 0}, {"limit": 0.0}, {"limit": float("nan")}])
def test_a_recording_of_nothing_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ArtifactError, match=r"; expected (1 or )?more"):
        Recording(**values)  # type: ignore[arg-type]
