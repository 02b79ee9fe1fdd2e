"""The package's public names: all there, quick to import, and enough for a first program."""

import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hvae_mnn as hm

README = Path(hm.__file__).parents[1] / "README.md"


def test_every_public_name_is_there() -> None:
    assert sorted(hm.__all__) == hm.__all__
    for name in hm.__all__:
        assert getattr(hm, name) is not None
        assert name in dir(hm)
    assert set(hm._HOMES) | {"__version__"} == set(hm.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'hvae_mnn' has no attribute 'simulat'"):
        _ = hm.simulat


def test_importing_loads_nothing_heavy_until_a_name_is_asked_for() -> None:
    heavy = "numpy scipy torch matplotlib pandas PySpice pydantic click"
    code = f"import sys, hvae_mnn as hm; print([each for each in {heavy.split()} if each in sys.modules])"
    code += "; hm.load_build; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False True"]


def test_the_readmes_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(example.strip().splitlines()) <= 5
    monkeypatch.chdir(tmp_path)
    exec(example.replace('"spice"', '"nodal"'), {})
    assert "this child carries his clock" in capsys.readouterr().out
    assert (tmp_path / "small" / "manifest.json").is_file()


def test_a_model_is_compiled_simulated_explained_and_drawn(tmp_path: Path) -> None:
    build = hm.compile("grammar", "default", tmp_path / "build", overrides=["adc.bits=6"])
    assert build.manifest.hardware_name == "default adc.bits=6"
    run = hm.simulate(build, "this child carries his clock", backend="nodal")
    hm.save_run(run, tmp_path / "run")
    assert hm.load_run(tmp_path / "run").hardware.tokens == run.hardware.tokens
    assert hm.load_build(tmp_path / "build").manifest == build.manifest
    explanation = hm.explain(run)
    for result in (run, build, explanation):
        hm.plot(result).savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000
    with pytest.raises(TypeError, match="a str has no figure; expected one of Run, Build"):
        hm.plot("run")  # type: ignore[arg-type]


def test_a_build_in_memory_is_read_without_ngspice() -> None:
    build = hm.compile(hm.open_model("grammar"), hm.load_hardware("ideal"))
    assert build.folder is None
    run = hm.simulate(build, "this child carries his clock", backend="nodal")
    assert run.agreement == 1
    with pytest.raises(hm.UserError, match="save the build first"):
        hm.simulate(build, "this child carries his clock")


def test_what_the_circuit_cannot_keep_up_with_is_a_python_warning() -> None:
    with pytest.warns(UserWarning, match=r"with timing\.cycle = 100 ns, .* is sampled .* of a step early"):
        hm.compile("grammar", overrides=["timing.cycle=100 ns"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hm.compile("grammar")


def test_a_sweep_in_one_call(tmp_path: Path) -> None:
    found = hm.sweep("grammar", {"adc.bits": [3, 8]}, tmp_path / "sweep", trials=1, sentences=5, workers=1)
    few, many = found.rows.sort_values("adc.bits").agreement_free
    assert few < many
    again = hm.sweep("grammar", {"adc.bits": [3, 8]}, tmp_path / "sweep", trials=1, sentences=5, workers=1)
    np.testing.assert_array_equal(again.rows.agreement_free, found.rows.agreement_free)
    assert hm.load_sweep(tmp_path / "sweep").rows.equals(found.rows)


@pytest.mark.parametrize("backend", ["SPICE", "ngspice", None])
def test_an_engine_that_is_none_is_refused(backend: str) -> None:
    with pytest.raises(hm.UserError, match=r"no such engine; expected spice, nodal or software"):
        hm.simulate(hm.compile("grammar"), "this child carries his clock", backend=backend)


@pytest.mark.parametrize(
    ("samples", "largest"),
    [
        (None, 1.0),
        (np.ones((3, 4)), 1.0),
        (np.zeros((0, 96)), 1.0),
        (np.full((3, 96), np.nan), 1.0),
        (np.ones((3, 96)), 0.0),
        (np.ones((3, 96)), np.nan),
        (np.ones((3, 96)), -1.0),
    ],
)
def test_damaged_calibration_is_refused_by_compile(samples: np.ndarray | None, largest: float) -> None:  # type: ignore[type-arg]
    model = hm.open_model("grammar")
    calibration = {name: value for name, value in model.calibration.items() if name != "encoder1"}
    if samples is not None:
        calibration["encoder1"] = samples
    ranges = {**model.ranges, "encoder1": {"x": largest, "h": 1.0}}
    with pytest.raises(hm.UserError, match="the checkpoint's calibration of encoder1 is damaged; expected finite"):
        hm.compile(replace(model, calibration=calibration, ranges=ranges))


def test_folders_and_changes_are_given_as_strings_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hm.compile("grammar", out="build", overrides="adc.bits=7")
    build = hm.load_build("build")
    assert build.manifest.hardware.adc.bits == 7
    hm.save_build(build, "again")
    run = hm.simulate(build, "this child carries his clock", backend="nodal")
    hm.save_run(run, "run")
    assert hm.load_run("run").hardware.tokens == run.hardware.tokens
    assert hm.plot(build, "encoder1.f.r0c0").axes
    with pytest.raises(hm.UserError, match="seed is -1; expected a whole number"):
        hm.simulate(build, "this child carries his clock", backend="nodal", seed=-1)


@pytest.mark.parametrize(
    ("axes", "more", "message"),
    [
        ({}, {}, "sweep: axes is"),
        ({"adc.bits": "4,8"}, {}, "expected a list of values"),
        ({"adc.bits": 4}, {}, "expected a list of values for each key"),
        ({"adc.bits": [4]}, {"trials": 0}, "sweep: trials is 0"),
        ({"adc.bits": [4]}, {"sentences": 0}, "sentences is 0; expected at least 1"),
    ],
)
def test_a_sweep_of_nothing_is_refused(tmp_path: Path, axes: object, more: dict[str, int], message: str) -> None:
    with pytest.raises(hm.UserError, match=message):
        hm.sweep("grammar", axes, tmp_path / "sweep", **more)  # type: ignore[arg-type]
