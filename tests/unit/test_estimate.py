"""What compiling takes, estimated beforehand and measured in a process of its own."""

import subprocess
import sys
from collections import namedtuple

import psutil
import pytest
from making import make_checkpoint

from hvae_mnn.compiler import estimate as module
from hvae_mnn.compiler.build import save_build
from hvae_mnn.compiler.estimate import SURE, check_disk, estimate_build, format_estimate
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.errors import ArtifactError
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import save_checkpoint

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "available")

MEASURED = """
import re, sys
from pathlib import Path
from hvae_mnn.compiler.build import save_build
from hvae_mnn.compiler.estimate import estimate_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.compiler.shipped import open_model

def peak():  # ru_maxrss would begin at that of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, model, folder, preset, *overrides = sys.argv[1:]
folder = Path(folder)
save_build(compile_model(open_model(small), load_hardware(preset), preset), folder / "small")  # imports what is used
checkpoint, hardware = open_model(model), load_hardware(preset, overrides)
before = peak()
save_build(compile_model(checkpoint, hardware, preset), folder / "build")
print(estimate_build(checkpoint, hardware).memory, peak() - before)
"""
WIDE, PAPER = {"embedding": 200, "hidden": 180, "latent": 12}, {"embedding": 512, "hidden": 256, "latent": 32}
MIXED = {"cells": ("gru", "rnn"), "decoder": "gru"}
UNEVEN = {**MIXED, "embedding": 70, "hidden": (40, 33, 65)}
SIZES = {
    "small": ("default", (), {}),
    "uneven, differential": ("default", ("array.scheme=differential",), UNEVEN),
    "wires": ("realistic", (), UNEVEN),
    "full wires": ("default", ("array.r_wire=1", "array.parasitics=full", "array.scheme=reference-column"), UNEVEN),
    "pulses, small tiles": ("pulse-width", ("array.tile_rows=13", "array.tile_columns=9"), UNEVEN),
    "dynamic": ("default", ("array.memristor=dynamic",), {}),
}


@pytest.mark.parametrize(("preset", "overrides", "sizes"), SIZES.values(), ids=SIZES.keys())
def test_counts_are_right_and_disk_is_within_30_per_cent(tmp_path, preset, overrides, sizes):
    checkpoint, hardware = make_checkpoint(**sizes), load_hardware(preset, overrides)
    estimate = estimate_build(checkpoint, hardware)
    build = save_build(compile_model(checkpoint, hardware, preset), tmp_path / "build")
    assert (estimate.tiles, estimate.memristors) == (len(build.tiles), build.memristors())
    used = sum(512 * path.stat().st_blocks for path in build.folder.rglob("*") if path.is_file())
    assert estimate.disk == pytest.approx(used, rel=0.3)


@pytest.mark.parametrize(
    ("preset", "overrides", "sizes"),
    [
        ("default", (), WIDE),
        pytest.param("default", (), PAPER, marks=pytest.mark.slow),
        pytest.param("realistic", ("array.scheme=differential",), PAPER, marks=pytest.mark.slow),
        pytest.param("pulse-width", (), {**PAPER, "embedding": 1000}, marks=pytest.mark.slow),
    ],
    ids=["wide", "paper", "paper, differential, wires", "wider than paper, pulses"],
)
def test_memory_is_within_30_per_cent(tmp_path, preset, overrides, sizes):
    for name, checkpoint in (("small", make_checkpoint()), ("model", make_checkpoint(**sizes))):
        save_checkpoint(checkpoint, tmp_path / f"{name}.pt")
    arguments = [str(tmp_path / "small.pt"), str(tmp_path / "model.pt"), str(tmp_path), preset, *overrides]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True, timeout=300
    )
    estimated, measured = map(int, done.stdout.split())
    assert estimated == pytest.approx(measured, rel=0.3)


def test_a_disk_without_room_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    estimate = estimate_build(make_checkpoint(), load_hardware("default"))
    out = tmp_path / "not" / "yet" / "there"
    for share, refused in ((0.99, True), (1.01, False)):
        usage = Usage(0, 0, int(share * SURE * estimate.disk))
        monkeypatch.setattr(module.shutil, "disk_usage", lambda path, usage=usage: usage)
        if refused:
            with pytest.raises(ArtifactError, match=r"there: the build takes about \d+ kB and the disk has \d+ kB"):
                check_disk(estimate, out)
        else:
            check_disk(estimate, out)
    assert not (tmp_path / "not").exists()


def test_the_line_says_what_is_made_and_warns_of_too_little_memory(monkeypatch):
    estimate = estimate_build(make_checkpoint(), load_hardware("default"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(10**12))
    line = format_estimate(estimate)
    assert line.startswith(f"{estimate.tiles} tiles, {estimate.memristors} memristors; about ")
    assert "of disk" in line and "Warning" not in line
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(int(0.9 * SURE * estimate.memory)))
    assert "Warning: only" in format_estimate(estimate) and "\n" not in format_estimate(estimate)


def test_progress_counts_tiles_and_then_decks(tmp_path):
    seen = []
    build = compile_model(make_checkpoint(), load_hardware("default"), "default", lambda *event: seen.append(event))
    save_build(build, tmp_path / "build", progress=lambda *event: seen.append(event))
    count = len(build.tiles)
    assert seen == [(stage, done + 1, count) for stage in ("tiles compiled", "decks written") for done in range(count)]
