"""`explain` as users meet it."""

import json
import shutil
from pathlib import Path

import pytest
from cli.test_cli import MODEL, SENTENCE, refused, run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def simulate(*more: str) -> None:
    result = run("simulate", "--sentence", SENTENCE, "--backend", "nodal", *more)
    assert result.exit_code == 0, result.output


def test_a_run_is_explained_with_a_figure() -> None:
    assert run("compile", MODEL, "--hardware", "realistic", "--out", "build").exit_code == 0
    simulate("--build", "build")
    result = run("explain", "run", "--out", "error.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"sentence   {SENTENCE}\nhardware   realistic\n")
    assert result.stdout.count("not in this hardware") == 1
    assert "column sums again (nodal)\n" in result.stdout
    assert Path("error.png").read_bytes().startswith(b"\x89PNG")
    assert "wrote error.png" in result.stderr


def test_json_and_the_build_in_the_cache() -> None:
    simulate("--model", MODEL, "--set", "adc.bits=6")
    result = run("explain", "run", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["hardware_preset"] == "default adc.bits=6"
    assert values["check"]["equal"] == values["check"]["readings"] > 1000
    recorded = {layer["name"]: layer["rms_error"] for layer in json.loads(Path("run/run.json").read_text())["layers"]}
    assert values["effects"][-1]["cumulative"]["errors"] == recorded
    assert not list(Path().glob("*.png"))
    shutil.rmtree("cache")
    refused(run("explain", "run"), "the run's build is not there any more", "--build FOLDER")


def test_what_cannot_be_explained_is_said_in_one_line() -> None:
    refused(run("explain", "nowhere"), "nowhere", "not a run", "hvae-mnn simulate")
    assert run("compile", MODEL, "--out", "build").exit_code == 0
    simulate("--build", "build")
    refused(run("explain", "run", "--out", "figure.gif"), "figure.gif", ".png")
    refused(run("explain", "run", "--build", "elsewhere"), "elsewhere", "not a build")
    assert run("compile", MODEL, "--hardware", "ideal", "--out", "build", "--force").exit_code == 0
    refused(run("explain", "run"), "build", "not the build of this run", "hardware ideal")


def test_a_run_knows_its_build_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compile", MODEL, "--out", "build").exit_code == 0
    simulate("--build", "build")
    Path("elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run("explain", str(Path("..", "run"))).exit_code == 0
