"""`program` and `device` as users meet them."""

import csv
import json
from pathlib import Path

import pytest
from cli.test_cli import refused, run
from making import make_build

from hvae_mnn.hardware.files import load_hardware

pytestmark = pytest.mark.ngspice

SMALL = {"cells": ("rnn", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 4, "latent": 2}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def build(*overrides: str) -> None:
    make_build(Path("build"), "default", overrides, **SMALL)


def test_from_program_to_an_error_model_that_compile_takes() -> None:
    build()
    done = run("program", "build", "--cells-per-tile", "4", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert "SPICE and numpy: equal pulse counts in 12 of 12 cells" in done.stdout
    assert done.stderr.splitlines()[0] == "wrote programming"
    plotted = run("plot", "programming", "--out", "programming.png")
    assert plotted.exit_code == 0, plotted.output
    assert Path("programming.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(Path("programming/sample.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert all(row["spice_pulses"] == row["numpy_pulses"] for row in rows)
    overrides = ["device.error_model=programming/error_model.toml"]
    model = load_hardware("default", overrides).device.error_model
    assert model is not None and "write-verify of" in model.source


def test_json_of_a_programming_without_spice() -> None:
    build()
    done = run("program", "build", "--cells-per-tile", "0", "--set", "stuck.p_hrs=0.2", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["spice"] is None
    assert found["numpy"]["cells"] == 8 * 4 + 9 * 4 + 10 * 4
    assert found["numpy"]["stuck"] > 5
    assert found["numpy"]["within_1_percent"] >= 0.97
    assert not Path("programming/sample.csv").exists()
    assert run("plot", "programming").exit_code == 0


def test_one_tile_and_all_of_its_cells() -> None:
    build()
    done = run("program", "build", "--tile", "encoder1.h.r0c0", "--all", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["tiles"]) == ["encoder1.h.r0c0"]
    assert found["spice"]["cells"] == found["numpy"]["cells"] == 8 * 4


def test_the_same_seed_gives_the_same_result() -> None:
    build()
    first, second = (run("program", "build", "--cells-per-tile", "0", "--json").stdout for _ in range(2))
    other = run("program", "build", "--cells-per-tile", "0", "--json", "--seed", "1").stdout
    assert first == second != other


def test_what_cannot_be_programmed() -> None:
    build()
    refused(run("program", "nowhere"), "nowhere: not a build")
    refused(run("program", "build", "--tile", "encoder9"), "--tile encoder9: no such tile", "encoder1.h.r0c0")
    refused(run("program", "build", "--set", "adc.bits=4"), "--set adc.bits=4", "expected programming.KEY or stuck.KEY")
    refused(run("program", "build", "--set", "programming.v_set=0.05"), "programming.v_set is 50 mV in magnitude")
    refused(run("program", "build", "--out", "build"), "build: the folder holds something else")
    make_build(Path("ideal"), "ideal", (), **SMALL)
    refused(run("program", "ideal"), "the hardware has no section [programming]")
    make_build(Path("static"), "ta-hfo2", (), **SMALL)
    refused(run("program", "static"), "memristor.model is static", "write-verify needs model aist")
    assert not Path("programming").exists()
    assert run("program", "build", "--all", "--cells-per-tile", "3").exit_code == 2


def test_a_device_is_drawn_and_described() -> None:
    done = run("device", "--hardware", "aist-low-g", "--out", "device.png")
    assert done.exit_code == 0, done.output
    assert "50 kohm to 1 Mohm" in done.stdout
    assert Path("device.png").read_bytes().startswith(b"\x89PNG")


def test_devices_that_cannot_be_characterised() -> None:
    refused(run("device", "--hardware", "ta-hfo2"), "memristor.model is static", "a characterisation needs model aist")
    refused(run("device", "--out", "device.jpg"), "device.jpg: suffix .jpg")
    assert not Path("device.png").exists()
