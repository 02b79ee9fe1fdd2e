"""What the set-up script refuses before it touches anything; `scripts/test-platforms.sh` runs all of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "clone with a space" / "scripts")
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "clone with a space")
    return tmp_path / "clone with a space"


def set_up(clone: Path, **variables: str) -> str:
    """Run the script from another folder; it must end with 1 and one line, which is returned."""
    done = subprocess.run(
        ["bash", str(clone / "scripts" / "setup.sh")],
        cwd=clone.parent,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_an_environment_of_the_users_is_left_alone(clone: Path, kind: str) -> None:
    there = clone / ".venv"
    if kind == "folder":
        there.mkdir()
        (there / "mine").write_text("work")
    elif kind == "file":
        there.write_text("work")
    else:
        there.symlink_to(clone / "nowhere")
    said = set_up(clone, CDPATH=str(clone.parent))
    assert (
        said
        == f"setup: {there} was made by something else and is left alone; move it away, or use pip in it (README.md)\n"
    )
    assert kind != "folder" or (there / "mine").read_text() == "work"
    assert kind != "file" or there.read_text() == "work"
    assert there.is_symlink() == (kind == "link")


def test_an_unknown_build_of_torch_is_named(clone: Path) -> None:
    said = set_up(clone, HVAE_MNN_TORCH="cuda")
    assert said == "setup: HVAE_MNN_TORCH is cuda; auto, cpu or default is expected\n"
    assert not (clone / ".venv").exists()
