"""The examples run, print what they say, and leave the figure they name."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from hvae_mnn.simulation.run import load_run

EXAMPLES = Path(__file__).parents[1] / "examples"
PNG = b"\x89PNG"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name[:2]}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.ngspice
def test_read_one_tile(tmp_path, capsys):
    figure = load_example("01_read_one_tile").main(tmp_path)
    printed = capsys.readouterr().out
    assert figure.read_bytes()[:4] == PNG
    rows = re.findall(r"^ +(\d)  +(-?\d+)  +(-?\d+)  +(-?[\d.]+)  +(-?[\d.]+)  +(-?[\d.]+)$", printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert max(abs(float(row[5])) for row in rows) > 1
    for _, nodal_code, spice_code, nodal, spice, software in rows:
        assert abs(int(nodal_code) - int(spice_code)) <= 1
        assert float(spice) == pytest.approx(float(nodal), abs=2e-3)
        assert float(spice) == pytest.approx(float(software), abs=0.2)


def test_compile_and_simulate_without_ngspice(tmp_path, capsys):
    figure = load_example("02_compile_and_simulate").main(tmp_path, backend="nodal")
    printed = capsys.readouterr().out
    assert figure.read_bytes()[:4] == PNG
    run = load_run(tmp_path / "run")
    assert f"hardware  {run.hardware.text}   ({run.agreement:.0%} of words agree)" in printed
    assert len(re.findall(r"^\w+: rms error [\d.]+ % of full scale over \d+ steps$", printed, re.MULTILINE)) == 3


@pytest.mark.ngspice
def test_compile_and_simulate_with_ngspice(tmp_path):
    figure = load_example("02_compile_and_simulate").main(tmp_path)
    assert figure.read_bytes()[:4] == PNG
    run = load_run(tmp_path / "run")
    assert run.engine.name == "spice"
    assert list(run.waveforms) == ["encoder1.f.r0c0"]
    assert all(0 < layer.rms_error < 0.02 for layer in run.layers)


def test_program_your_device(tmp_path, capsys):
    figure = load_example("03_program_your_device").main(tmp_path)
    assert figure.read_bytes()[:4] == PNG
    rows = re.findall(r"^(fine|coarse) +([\d.]+) +([\d.]+)% +(\d+)%$", capsys.readouterr().out, re.MULTILINE)
    assert [row[0] for row in rows] == ["fine", "coarse"]
    fine, coarse = (float(row[2]) for row in rows)
    assert fine < 0.5 < coarse < 5
    assert int(rows[0][3]) >= int(rows[1][3])


def test_what_breaks_it(tmp_path, capsys):
    folder = load_example("04_what_breaks_it").main(tmp_path, trials=2, sentences=8)
    found = re.findall(r"^(\S+) +first 10 % lost at (\S+) = (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert [row[:2] for row in found] == [
        ("programming-error", "device.sigma"),
        ("stuck-hrs", "stuck.p_hrs"),
        ("adc-bits", "adc.bits"),
    ]
    error, stuck, bits = (float(row[2]) for row in found)
    assert 0.005 < error < 0.05 and 1e-4 < stuck < 0.01 and 3 <= bits < 7
    for study, _, _ in found:
        assert (folder / f"figure-{study}.png").read_bytes()[:4] == PNG
