"""Errors taken apart: factors one by one against the engines, and the whole against what a Run recorded."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import make_build

from hvae_mnn.compiler.build import Build, load_build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.explain import Explanation, explain_run, find_build
from hvae_mnn.experiments.factors import FACTORS, compile_with, hardware_with
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.reports.figures.explanation import draw_explanation
from hvae_mnn.reports.terminal import print_explanation
from hvae_mnn.simulation.run import Run, load_run, save_run
from hvae_mnn.simulation.sentence import simulate_sentence

SENTENCE = "a c b e d a"
ALL = (
    "array.r_wire=2",
    "device.sigma=0.02",
    "amplifier.offset=20uV",
    "dac.range_percentile=97",
    "adc.range_percentile=97",
    "periphery.gate_bits=5",
    "periphery.state_bits=5",
)


def run_on(build: Build, backend: str = "nodal") -> Run:
    return simulate_sentence(build, SENTENCE, backend=backend, seed=2)


def explain(*overrides: str, preset: str = "default", **checkpoint: object) -> tuple[Explanation, Run]:
    build = make_build(None, preset, overrides, **checkpoint)
    run = run_on(build)
    return explain_run(run, build), run


def errors(found: Explanation, factor: str, cumulative: bool = False) -> np.ndarray:
    effect = found.effects[FACTORS.index(factor)]
    side = effect.cumulative if cumulative else effect.alone
    return np.array([side.errors[name] for name in found.layers])


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ALL,
        ("array.scheme=differential", "array.r_driver=50", "array.compensate=true", *ALL),
        ("array.scheme=reference-column", "adc.range_scope=layer", "adc.range_percentile=auto", *ALL[1:4]),
        ("dac.bits=none", "adc.bits=none", "device.sigma=0.1"),
        ("device.read_sigma=0.02", "amplifier.noise=1e-7", *ALL),
    ],
)
def test_all_factors_together_are_exactly_what_the_run_recorded(overrides: tuple[str, ...]) -> None:
    found, run = explain(*overrides)
    assert found.layers == ("encoder1", "encoder2", "decoder")
    for layer in run.layers:
        assert found.effects[-1].cumulative.errors[layer.name] == layer.rms_error
    assert found.effects[-1].cumulative.tokens == run.hardware.tokens
    assert found.effects[-1].cumulative.agreement == run.agreement
    count = sum(step.size for layer in run.layers for step in layer.error)
    assert found.check is not None and found.check.agrees
    assert (found.check.readings, found.check.equal, found.check.largest) == (count, count, 0.0)


@pytest.mark.ngspice
def test_a_run_of_ngspice_is_explained_but_for_ties(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", "default", ("device.sigma=0.02", "array.r_wire=1"))
    run = run_on(build, "spice")
    check = explain_run(run, build).check
    assert check is not None and check.agrees
    assert check.equal >= 0.99 * check.readings
    assert check.largest <= 1.01 / 127


def test_ideal_hardware_has_no_error_and_says_what_software_says() -> None:
    found, run = explain(*ALL)
    assert max(found.ideal.errors.values()) < 1e-12
    assert found.ideal.tokens == found.software == run.software.tokens
    assert found.ideal.agreement == 1.0


def test_hardware_that_is_ideal_has_no_factor() -> None:
    found, _ = explain(preset="ideal")
    assert [effect.present for effect in found.effects] == [False] * len(FACTORS)
    assert all(effect.alone == effect.cumulative == found.ideal for effect in found.effects)


@pytest.mark.parametrize(
    ("override", "factor"),
    [
        ("dac.bits=6", "input quantisation"),
        ("device.sigma=0.05", "conductance"),
        ("stuck.p_lrs=0.01", "conductance"),
        ("device.read_sigma=0.02", "conductance"),
        ("array.weight_percentile=95", "conductance"),
        ("array.r_wire=3", "wires"),
        ("array.r_driver=100", "wires"),
        ("amplifier.gain=1e4", "amplifier"),
        ("adc.bits=6", "output quantisation"),
    ],
)
def test_a_single_factor_is_named_and_is_the_whole_error(override: str, factor: str) -> None:
    found, run = explain(override, preset="ideal")
    present = {effect.factor for effect in found.effects if effect.present}
    assert present - {"clipping"} == {factor}
    recorded = np.array([layer.rms_error for layer in run.layers])
    clipped = np.array([layer.clipped_outputs + layer.clipped_inputs for layer in run.layers])
    assert (recorded > 1e-6).all()
    alone = errors(found, factor)
    assert alone[clipped == 0] == pytest.approx(recorded[clipped == 0], rel=1e-9)
    assert (alone <= recorded * (1 + 1e-9)).all()
    for other in set(FACTORS) - {factor, "clipping"}:
        assert errors(found, other).max() < 1e-12


def test_errors_of_independent_factors_add_in_squares() -> None:
    found, _ = explain("adc.bits=6", "device.sigma=0.01", preset="ideal")
    together = errors(found, "output quantisation", cumulative=True)
    squares = errors(found, "conductance") ** 2 + errors(found, "output quantisation") ** 2
    assert together == pytest.approx(np.sqrt(squares), rel=0.1)


@pytest.mark.parametrize("side", ["dac", "adc"])
def test_clipping_is_apart_from_quantisation(side: str) -> None:
    """Of a range of 80 % of the inputs or sums: rounding alone keeps to half a step, all the rest is clipping."""
    found, run = explain(f"{side}.bits=8", f"{side}.range_percentile=80", preset="ideal")
    counts = [layer.clipped_inputs if side == "dac" else layer.clipped_outputs for layer in run.layers]
    assert min(counts) > 0
    quantisation = errors(found, "input quantisation" if side == "dac" else "output quantisation")
    clipping = errors(found, "clipping")
    recorded = np.array([layer.rms_error for layer in run.layers])
    assert (quantisation < 0.25 * clipping).all()
    if side == "adc":
        assert quantisation == pytest.approx(1 / (127 * np.sqrt(12)), rel=0.1)
    assert clipping == pytest.approx(recorded, rel=0.05)


def test_the_range_that_clips_nothing_keeps_the_steps() -> None:
    """Where nothing is beyond full scale, the ADC with clipping and without is the same one."""
    found, run = explain("adc.bits=7", preset="ideal")
    inside = np.array([layer.clipped_outputs == 0 for layer in run.layers])
    recorded = np.array([layer.rms_error for layer in run.layers])
    assert inside.any()
    assert (errors(found, "output quantisation")[inside] == recorded[inside]).all()
    assert errors(found, "clipping")[inside] == pytest.approx(0, abs=1e-7)  # 24 bits where another layer clips


def test_the_periphery_changes_words_only() -> None:
    hardware = load_hardware("ideal", ("periphery.gate_bits=3", "periphery.state_bits=3"))
    build = compile_model(open_model("grammar"), hardware, "ideal")
    run = simulate_sentence(build, "this child carries his clock", backend="nodal")
    found = explain_run(run, build)
    effect = found.effects[-1]
    assert effect.factor == "periphery" and effect.present
    assert effect.alone.errors == found.ideal.errors
    assert found.ideal.tokens == run.software.tokens
    assert effect.alone.tokens == effect.cumulative.tokens == run.hardware.tokens != run.software.tokens
    assert effect.alone.agreement == run.agreement < 1


@pytest.mark.parametrize(
    "wiring",
    [
        {"cells": ("gru", "gru"), "decoder": "gru"},
        {"cells": ("rnn", "rnn"), "decoder": "rnn"},
        {"peepholes": True, "hidden": (7, 5, 9)},
    ],
)
def test_other_wirings_and_one_latent_a_step(wiring: dict[str, object]) -> None:
    found, run = explain(*ALL, latent_mode="per-step", **wiring)
    assert found.ideal.tokens == run.software.tokens
    assert found.check is not None and found.check.agrees
    assert found.effects[-1].cumulative.tokens == run.hardware.tokens


def test_full_scales_stay_those_of_the_build() -> None:
    build = make_build(None, "default", ALL)
    for factors in (frozenset[str](), frozenset({"wires"}), frozenset(FACTORS)):
        compiled = compile_with(build, factors)
        for mine, theirs in zip(compiled.manifest.layers, build.manifest.layers, strict=True):
            assert mine.groups == theirs.groups
            assert [tile.full_scale for tile in mine.tiles] == [tile.full_scale for tile in theirs.tiles]
    assert compiled.manifest == build.manifest


def test_hardware_with_all_factors_is_the_hardware_and_with_none_the_preset_ideal() -> None:
    full, ideal = load_hardware("default", ALL), load_hardware("ideal")
    assert hardware_with(full, frozenset(FACTORS)) == full
    bare = hardware_with(full, frozenset())
    assert (bare.dac.bits, bare.adc.bits, bare.amplifier.gain) == (None, None, None)
    assert (bare.device, bare.stuck) == (ideal.device, ideal.stuck)
    assert (bare.array.r_wire, bare.array.wires) == (0.0, "none")


def test_a_run_of_the_software_engine_has_nothing_to_check() -> None:
    build = make_build(None, "default")
    found = explain_run(run_on(build, "software"), build)
    assert found.check is None
    assert found.effects[-1].cumulative.errors["encoder1"] > 1e-4


def test_reads_of_another_build_do_not_agree() -> None:
    build = make_build(None, "default", ("device.sigma=0.1",))
    found = explain_run(run_on(build), make_build(None, "default"))
    assert found.check is not None and not found.check.agrees
    assert found.check.equal < found.check.readings


def test_plain_values_and_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = explain("array.r_wire=1")
    values = json.loads(json.dumps(found.to_json()))
    assert [effect["factor"] for effect in values["effects"]] == list(FACTORS)
    assert set(values["ideal"]) == {"errors", "tokens", "agreement"}
    assert values["check"]["agrees"] is True
    print_explanation(found)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 120
    rows = {line[:20].strip(): line for line in lines}
    assert set(FACTORS) < set(rows)
    assert "not in this hardware" in rows["conductance"]
    assert f"{100 * found.effects[-1].cumulative.errors['encoder1']:.3f}%" in rows["periphery"]
    assert lines[-1].startswith("check      the whole hardware gives ")


@pytest.mark.parametrize(("preset", "overrides"), [("default", ALL), ("ideal", ())])
def test_the_figure_has_a_panel_a_layer_and_one_of_words(preset: str, overrides: tuple[str, ...]) -> None:
    found, _ = explain(*overrides, preset=preset)
    figure = draw_explanation(found)
    figure.draw_without_rendering()
    assert [axis.get_title() for axis in figure.axes] == ["encoder1", "encoder2", "decoder", "free run"]
    for axis, name in zip(figure.axes, found.layers, strict=False):
        drawn = np.array(axis.lines[1].get_xdata(), dtype=float)
        wanted = 100 * np.array([effect.cumulative.errors[name] for effect in found.effects])
        assert (drawn[wanted > 1e-6] == wanted[wanted > 1e-6]).all()


def test_a_run_finds_its_build_again(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", "default")
    save_run(run_on(build), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.build == str(tmp_path / "build")
    assert find_build(run).manifest == build.manifest
    (tmp_path / "build").rename(tmp_path / "moved")
    with pytest.raises(ArtifactError, match=r"the run's build is not there any more; give another copy as --build"):
        find_build(run)
    assert find_build(run, tmp_path / "moved").manifest == build.manifest


def test_a_run_without_a_build_asks_for_one(tmp_path: Path) -> None:
    run = run_on(make_build(None, "default"))
    assert run.build is None
    with pytest.raises(ArtifactError, match="does not say which build it was read from; give it as --build"):
        find_build(run)
    save_run(replace(run, build="build"), tmp_path / "run")
    values = json.loads((tmp_path / "run/run.json").read_text())
    del values["build"], values["build_hash"]
    (tmp_path / "run/run.json").write_text(json.dumps(values))
    older = load_run(tmp_path / "run")
    assert (older.build, older.build_hash) == (None, None)
    values["build"] = 3
    (tmp_path / "run/run.json").write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match="the run is damaged"):
        load_run(tmp_path / "run")


def test_builds_that_read_differently_are_refused(tmp_path: Path) -> None:
    run = run_on(make_build(None, "default"))
    other = make_build(tmp_path / "model", "default", seed=1)
    with pytest.raises(ArtifactError, match=f"not the build of this run .model {other.manifest.model_hash[:12]}"):
        find_build(run, tmp_path / "model")
    make_build(tmp_path / "hardware", "default", ("adc.bits=7",))
    with pytest.raises(ArtifactError, match="hardware default with other values or another calibration"):
        find_build(run, tmp_path / "hardware")
    save_build(replace(make_build(None, "ideal")), tmp_path / "ideal")
    with pytest.raises(ArtifactError, match="hardware ideal instead of default"):
        find_build(replace(run, build_hash=None), tmp_path / "ideal")
    wide = make_build(tmp_path / "calibration", "default")
    ranges = {layer: {name: 2 * x for name, x in groups.items()} for layer, groups in wide.checkpoint.ranges.items()}
    save_build(replace(wide, checkpoint=replace(wide.checkpoint, ranges=ranges)), tmp_path / "calibration")
    with pytest.raises(ArtifactError, match="another calibration"):
        find_build(run, tmp_path / "calibration")


def test_a_run_of_other_tiles_is_refused() -> None:
    run = run_on(make_build(None, "default"))
    with pytest.raises(ArtifactError, match="column sums of encoder1, the build"):
        explain_run(run, make_build(None, "default", ("array.tile_rows=8",)))


def test_the_name_of_a_hardware_and_a_saved_build_are_no_difference(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", "default")
    run = run_on(build)
    renamed = build.manifest.model_copy(update={"hardware_name": "default adc.bits=8"})
    save_build(replace(build, manifest=renamed), tmp_path / "build", force=True)
    found = find_build(run)
    assert found.manifest.hardware_name == "default adc.bits=8"
    assert NodalEngine(load_build(tmp_path / "build")).adc.bits == 8
