"""What users install: sdist, the wheel made from it, and that wheel in an environment of its own."""

import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

PROJECT = Path(__file__).parents[2]
SENTENCE = "this child carries his clock"


def names(folder: str) -> set[str]:
    return {path.name for path in (PROJECT / folder).iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an sdist, and a wheel made from it and not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, PROJECT)
    return folder


def uv(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", "--offline", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Iterator[ZipFile]:
    with ZipFile(next(dist.glob("*.whl"))) as opened:
        yield opened


def test_the_wheel_has_what_the_package_reads(wheel: ZipFile) -> None:
    files = {Path(name) for name in wheel.namelist()}
    data = {"netlists": "_netlists", "models": "_models", "hvae_mnn/hardware/presets": "hardware/presets"}
    for source, inside in data.items():
        assert names(source) == {path.name for path in files if path.parent == Path("hvae_mnn", inside)}
    assert any(path.match("licenses/LICENSE") for path in files)


def test_the_wheel_has_nothing_else(wheel: ZipFile) -> None:
    for name in wheel.namelist():
        root, kind = name.split("/")[0], Path(name).suffix
        assert root.startswith("hvae_mnn"), name
        allowed = {".py", ".typed", ".toml", ".lib", ".cir", ".md", ".pt"}
        assert root.endswith(".dist-info") or kind in allowed or name.endswith("py.typed"), name


def test_the_sdist_has_the_project_and_nothing_that_was_made_in_it(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as opened:
        found = {Path(*Path(name).parts[1:]) for name in opened.getnames()}
    assert {Path(name) for name in ("pyproject.toml", "LICENSE", "scripts/setup.sh", "models/ptb.pt")} <= found
    assert not {path.parts[0] for path in found if path.parts} & {".git", ".venv", "build", "demo", "dist", "run"}
    assert not [path for path in found if "__pycache__" in path.parts or path.suffix == ".training"]


@pytest.fixture(scope="module")
def command(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of a fresh environment that has the wheel, and all else from where the tests run."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    uv("venv", "--python", sys.executable, venv)
    uv("pip", "install", "--no-deps", "--python", venv / "bin" / "python", next(dist.glob("*.whl")))
    packages = next(venv.glob("lib/python*/site-packages"))
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin" / "hvae-mnn"


@pytest.mark.ngspice
def test_it_runs_from_another_folder(command: Path, tmp_path: Path) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    surroundings["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def output(*arguments: str | Path) -> str:
        done = subprocess.run(arguments, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = output(command.parent / "python", "-c", "import hvae_mnn; print(hvae_mnn.__file__)")
    assert Path(where.strip()).is_relative_to(command.parent.parent)
    assert "MISSING" not in output(command, "doctor")
    assert "decks" in output(command, "compile", "grammar", "--out", "build")
    for backend in ("nodal", "spice"):
        said = output(command, "simulate", "--build", "build", "--sentence", SENTENCE, "--backend", backend)
        assert "agreement  100% of words" in said
