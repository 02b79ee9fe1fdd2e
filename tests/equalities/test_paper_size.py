"""All equalities at the size of the paper: embedding 512, hidden 256, z 32; a sample of tiles of every layer.

The vocabulary touches no crossbar, so it is that of every test. Whole layers are compiled, and all but the
sampled tiles are left out of the Build that is saved and read.
"""

import dataclasses

import numpy as np
import pytest
from making import layer_inputs, make_checkpoint
from support import run_ngspice_batch

from hvae_mnn.circuit.plan import BIAS
from hvae_mnn.compiler.build import Build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.files import load_hardware

PAPER = {"embedding": 512, "hidden": 256, "latent": 32}
LAYERS = ("encoder1", "encoder2", "decoder")
SAMPLE = (
    "encoder1.i.r0c0",  # words alone
    "encoder1.g.r12c3",  # the last row tile, with the bias
    "encoder2.f.r4c1",
    "encoder2.o.r8c0",  # the last, with the bias
    "decoder.f.r3c2",
    "decoder.o.r12c1",  # the last, with z and the bias
)
SCHEMES = ("paired", "reference-column", "differential")
UNQUANTISED = ("dac.bits=none", "adc.bits=none")


def make_sample(folder, preset, overrides=(), names=SAMPLE):
    """Compile the paper's sizes, keep some tiles and save them."""
    build = compile_model(make_checkpoint(**PAPER), load_hardware(preset, overrides), preset)
    layers = tuple(
        layer.model_copy(update={"tiles": tuple(tile for tile in layer.tiles if tile.name in names)})
        for layer in build.manifest.layers
    )
    manifest = build.manifest.model_copy(update={"layers": layers})
    tiles = {name: build.tiles[name] for name in names}
    return save_build(dataclasses.replace(build, manifest=manifest, tiles=tiles), folder)


def inputs_of(build: Build, count: int | None = None) -> dict[str, np.ndarray]:
    """Return inputs of every layer that has tiles, extremes first, or the last `count` of them."""
    inputs = {layer.name: layer_inputs(build, layer.name) for layer in build.manifest.layers if layer.tiles}
    return {name: rows if count is None else rows[-count:] for name, rows in inputs.items()}


def encoded(engine, inputs):
    return {name: engine.dac.encode(rows) for name, rows in inputs.items()}


def assert_equal(found, expected, tolerance):
    """Compare what columns give before the ADC, fractions of full scale."""
    assert found.keys() == expected.keys()
    for name, reading in expected.items():
        assert np.abs(reading.analog).max() > 0.01
        np.testing.assert_allclose(found[name].analog, reading.analog, rtol=0, atol=tolerance, err_msg=name)


def test_the_sample_has_bias_z_and_last_row_tiles():
    build = compile_model(make_checkpoint(**PAPER), load_hardware("default"), "default")
    assert len(build.tiles) == 560 and build.memristors() > 2.1e6
    last = {name: max(tile.name for tile in build.layer(name).tiles if tile.gate == "o") for name in LAYERS}
    assert all(int(name.split(".r")[1].split("c")[0]) <= 12 for name in last.values())
    plans = {name: build.tiles[name].plan for name in SAMPLE}
    assert [plan.inputs.count(BIAS) > 0 for plan in plans.values()] == [False, True, False, True, False, True]
    assert max(plans["decoder.o.r12c1"].inputs) == 512 + 256 + 32 - 1
    assert all(min(plan.rows, plan.columns) > 56 for plan in plans.values())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nodal_is_software_without_imperfections(scheme):
    build = compile_model(make_checkpoint(**PAPER), load_hardware("ideal", (f"array.scheme={scheme}",)), "ideal")
    inputs = inputs_of(build)
    assert_equal(NodalEngine(build).step(inputs), SoftwareEngine(build).step(inputs), 1e-6)


@pytest.mark.ngspice
@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_spice_is_nodal(tmp_path, scheme):
    build = make_sample(tmp_path / "build", "default", (f"array.scheme={scheme}",))
    nodal = NodalEngine(build)
    codes = encoded(nodal, inputs_of(build))
    with SpiceEngine(build, workers=1) as spice:
        found = spice.step(codes)
    expected = nodal.step(codes)
    assert_equal(found, expected, 1e-4)
    apart = np.concatenate([(found[name].codes - expected[name].codes).ravel() for name in LAYERS])
    assert np.abs(apart).max() <= 1
    assert len(apart) > 5000 and np.mean(apart == 0) >= 0.999


@pytest.mark.ngspice
@pytest.mark.slow
def test_full_wires_are_reduced_ones(tmp_path):
    name, found = "decoder.o.r12c1", {}
    wires = ("array.r_wire=1", "array.r_driver=10", *UNQUANTISED)
    for parasitics in ("full", "reduced"):
        build = make_sample(tmp_path / parasitics, "default", (*wires, f"array.parasitics={parasitics}"), [name])
        inputs = inputs_of(build, 2)
        with SpiceEngine(build, workers=1) as spice:
            found[parasitics] = spice.step(inputs)
            tolerance = 2e-5 if spice.info.klu else 1e-6  # as in test_full_and_reduced_wires
    assert_equal(found["reduced"], found["full"], tolerance)
    assert_equal(NodalEngine(build).step(inputs), found["full"], tolerance)


@pytest.mark.ngspice
@pytest.mark.slow
def test_dynamic_memristors_read_as_static_ones(tmp_path):
    name, found = "encoder2.o.r8c0", {}
    for memristor in ("static", "dynamic"):
        build = make_sample(tmp_path / memristor, "ideal", (f"array.memristor={memristor}",), [name])
        with SpiceEngine(build, workers=1) as spice:
            found[memristor] = spice.step(inputs_of(build, 1))
    assert_equal(found["dynamic"], found["static"], 1e-6)


@pytest.mark.ngspice
@pytest.mark.slow
def test_pulses_are_amplitudes(tmp_path):
    found = {}
    for encoding in ("amplitude", "pulse-width"):
        build = make_sample(tmp_path / encoding, "ideal", ("dac.bits=8", f"drive.encoding={encoding}"), SAMPLE[1:6:2])
        with SpiceEngine(build, workers=1) as spice:
            found[encoding] = spice.step(encoded(spice, inputs_of(build, 2)))
    assert_equal(found["pulse-width"], found["amplitude"], 1e-3)


@pytest.mark.ngspice
@pytest.mark.slow
def test_a_cycle_in_time_ends_in_the_settled_read(tmp_path):
    build = make_sample(tmp_path / "build", "default", names=SAMPLE[1:6:2])
    with SpiceEngine(build, workers=1) as settled, SpiceEngine(build, workers=1, transient=["all"]) as transient:
        inputs = inputs_of(build)
        for i in (3, 9):
            codes = encoded(settled, {name: rows[i : i + 1] for name, rows in inputs.items()})
            assert_equal(transient.step(codes), settled.step(codes), 1e-4)


@pytest.mark.ngspice
def test_a_stock_ngspice_gives_the_codes_of_the_nodal_engine(tmp_path):
    build = make_sample(tmp_path / "build", "default", names=SAMPLE[::2])
    nodal = NodalEngine(build)
    for name in ("encoder1", "encoder2", "decoder"):
        replayed = build.replay(build.layer(name))
        expected = nodal.step({name: nodal.dac.encode(replayed[None])})[name].codes[0]
        (tile,) = build.layer(name).tiles
        vectors = run_ngspice_batch(build.folder / tile.deck)
        found = [vectors[f"v(adc{k})"][0] for k in range(tile.columns)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
        assert len(np.unique(expected)) > 20
