"""Commands that neither train nor evaluate run where torch cannot be loaded, with the processes that they start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from making import make_build, make_checkpoint

from hvae_mnn.model.checkpoint import save_checkpoint
from hvae_mnn.simulation.sentence import simulate_sentence

SENTENCE = "a c b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model and its Build, beside a torch that fails when it is loaded."""
    save_checkpoint(make_checkpoint(), tmp_path / "model.pt")
    make_build(tmp_path / "build", "default")
    (tmp_path / "blocked" / "torch").mkdir(parents=True)
    (tmp_path / "blocked" / "torch" / "__init__.py").write_text("raise ImportError('torch was loaded')")
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder / "blocked"), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "hvae_mnn.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_blocked_torch_is_what_a_command_would_load(folder: Path) -> None:
    with pytest.raises(AssertionError, match="torch was loaded"):
        run(folder, "train", "--corpus", "grammar", "--epochs", "1", "--out", "new.pt")


def test_compiling_simulating_and_looking(folder: Path) -> None:
    run(folder, "compile", "model.pt", "--out", "again")
    for backend in ("nodal", "software"):
        found = run(folder, "simulate", "--build", "again", "--sentence", SENTENCE, "--backend", backend)
        wanted = simulate_sentence(make_build(None, "default"), SENTENCE, backend=backend)
        assert f"software   {wanted.software.text}" in found
        assert f"hardware   {wanted.hardware.text}" in found
    run(folder, "simulate", "--build", "again", "--sentence", SENTENCE, "--backend", "nodal", "--out", "run")
    run(folder, "explain", "run")
    run(folder, "plot", "run", "--out", "run.png")
    run(folder, "plot", "again", "--out", "build.png")
    run(folder, "program", "build", "--cells-per-tile", "0", "--out", "programming")
    run(folder, "plot", "programming", "--out", "programming.png")


def test_a_shipped_model_and_a_sweep(folder: Path) -> None:
    run(folder, "simulate", "--model", "grammar", "--sentence", "this child carries his clock", "--backend", "nodal")
    arguments = ("--axis", "device.sigma", "--values", "0,0.05", "--trials", "2", "--sentences", "5")
    run(folder, "sweep-variation", "--model", "grammar", *arguments, "--out", "sweep")
    run(folder, "plot", "sweep", "--out", "sweep.png")


@pytest.mark.ngspice
def test_a_sentence_through_ngspice(folder: Path) -> None:
    run(folder, "simulate", "--build", "build", "--sentence", SENTENCE, "--waveforms", "encoder1.f.r0c0")
    run(folder, "device")
    run(folder, "doctor")
