"""Pulse-width and bit-serial input against amplitude, and spice against nodal with each and every error on."""

import numpy as np
import pytest
from making import layer_inputs, make_build

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.hardware.timing import LONGEST_PULSE, cycles_per_read

SCHEMES = ("paired", "reference-column", "differential")
ENCODINGS = ("amplitude", "pulse-width", "bit-serial")
TILED = ("array.tile_rows=7", "array.tile_columns=4")
SMALL = {"cells": ("rnn", "gru"), "decoder": "rnn", "embedding": 5, "hidden": 6, "latent": 2}
LAYERS = ("encoder1", "encoder2")
ERRORS = (
    "dac.offset=0.4",
    "dac.gain_error=0.02",
    "dac.inl=0.5",
    "adc.offset=-0.6",
    "adc.gain_error=-0.03",
    "adc.inl=0.7",
    "amplifier.gain=1e5",
    "amplifier.offset=0.2 mV",
    "amplifier.offset_sigma=0.3 mV",
)
SATURATING = ("adc.range_percentile=90", "amplifier.v_saturation=0.51")


def sums(build, engine):
    """Return each layer's gate sums as the engine reads them, corner codes first, (batch, hidden) a gate."""
    codes = {name: engine.dac.encode(layer_inputs(build, name)) for name in LAYERS}
    found = engine.step(codes)
    return [
        values
        for name in LAYERS
        for values in build.layer(name).gate_sums(engine.adc.decode(found[name].codes)).values()
    ]


def full_scales(build):
    """Return the full scale of each gate's sums: the largest of its tiles."""
    return [
        max(tile.full_scale for tile in build.layer(name).tiles if tile.gate == gate)
        for name in LAYERS
        for gate in build.layer(name).gates
    ]


def assert_amplitudes(found, amplitude, tolerance):
    """Compare gate sums with those of amplitude input in the nodal engine; the tolerance is a part of full scale."""
    expected = sums(amplitude, NodalEngine(amplitude))
    for one, other, full_scale in zip(expected, found, full_scales(amplitude), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * full_scale)


@pytest.mark.parametrize("bits", [2, 3, 8, 11])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_nodal_sums_are_those_of_amplitude(encoding, scheme, bits):
    builds = [
        make_build(
            None,
            "ideal",
            (*TILED, f"array.scheme={scheme}", f"dac.bits={bits}", f"drive.encoding={name}"),
            **SMALL,
        )
        for name in ("amplitude", encoding)
    ]
    amplitude, build = builds
    assert_amplitudes(sums(build, NodalEngine(build)), amplitude, 1e-6)


@pytest.mark.ngspice
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_spice_sums_are_those_of_amplitude(tmp_path, encoding, scheme):
    hardware = (*TILED, f"array.scheme={scheme}", "dac.bits=8")
    amplitude = make_build(None, "ideal", hardware, **SMALL)
    build = make_build(tmp_path / "build", "ideal", (*hardware, f"drive.encoding={encoding}"), **SMALL)
    with SpiceEngine(build, workers=2) as spice:
        found = sums(build, spice)
    assert_amplitudes(found, amplitude, 1e-3)


@pytest.mark.ngspice
def test_unquantised_pulses_have_any_length(tmp_path):
    build = make_build(tmp_path / "build", "ideal", (*TILED, "drive.encoding=pulse-width"), **SMALL)
    amplitude = make_build(None, "ideal", TILED, **SMALL)
    with SpiceEngine(build, workers=2) as spice:
        found = sums(build, spice)
    assert_amplitudes(found, amplitude, 1e-5)


@pytest.mark.ngspice
def test_pulses_beyond_the_longest_end_there(tmp_path):
    build = make_build(tmp_path / "build", "ideal", (*TILED, "drive.encoding=pulse-width"), **SMALL)
    inputs = {"encoder1": 1.5 * layer_inputs(build, "encoder1")}
    with SpiceEngine(build, workers=1) as spice:
        found = spice.step(inputs)["encoder1"].analog
    cut = {name: np.clip(values, -LONGEST_PULSE, LONGEST_PULSE) for name, values in inputs.items()}
    np.testing.assert_allclose(NodalEngine(build).step(inputs)["encoder1"].analog, found, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(NodalEngine(build).step(cut)["encoder1"].analog, found, rtol=1e-5, atol=1e-5)


@pytest.mark.ngspice
def test_slow_clock_edges_turn_no_switch_late(tmp_path):
    hardware = (*TILED, "drive.encoding=pulse-width", "timing.edge=80 ns", "amplifier.offset=0.1 mV")
    build = make_build(tmp_path / "build", "default", (*hardware, "amplifier.v_saturation=50"), **SMALL)
    codes = {"encoder1": NodalEngine(build).dac.encode(layer_inputs(build, "encoder1")[::3])}
    with SpiceEngine(build, workers=1) as spice:
        found = spice.step(codes)["encoder1"].analog
    np.testing.assert_allclose(found, NodalEngine(build).step(codes)["encoder1"].analog, rtol=0, atol=1e-5)


CASES = {
    "errors": ERRORS,
    "errors, wires": (*ERRORS, "array.r_wire=5", "array.r_driver=20"),
    "errors, saturation": (*ERRORS, *SATURATING),
    "errors, saturation, wires": (*ERRORS, *SATURATING, "array.r_wire=5"),
    "noise": ("amplifier.noise=100e-9", "amplifier.v_saturation=3"),
    "read noise": ("device.read_sigma=0.03", "amplifier.v_saturation=3"),
    "read noise, errors, wires": (
        *ERRORS,
        "device.read_sigma=0.03",
        "amplifier.noise=100e-9",
        "amplifier.v_saturation=3",
        "array.r_wire=5",
        "array.r_driver=20",
    ),
    "settling": ("dac.settling=5 ns", "amplifier.v_saturation=3"),
    "few bits": ("dac.bits=3", "adc.bits=4"),
}


def every_case():
    """Yield (encoding, scheme, case); some of ngspice's long ones are for slow runs."""
    for encoding in ENCODINGS:
        for scheme in SCHEMES:
            for case in CASES:
                quick = (
                    encoding != "pulse-width" or scheme == "paired" or case in ("errors", "errors, saturation, wires")
                )
                marks = () if quick and not (scheme == "differential" and "saturation" in case) else pytest.mark.slow
                yield pytest.param(encoding, scheme, case, id=f"{encoding}, {scheme}, {case}", marks=marks)


@pytest.mark.ngspice
@pytest.mark.parametrize(("encoding", "scheme", "case"), list(every_case()))
def test_spice_and_nodal_read_the_same(tmp_path, encoding, scheme, case):
    overrides = (*TILED, f"array.scheme={scheme}", f"drive.encoding={encoding}", *CASES[case])
    build = make_build(tmp_path / "build", "default", overrides, **SMALL)
    nodal = NodalEngine(build)
    few = slice(None, None, 1 if encoding != "pulse-width" else 3)  # of the inputs: pulses take ngspice longer
    codes = {name: nodal.dac.encode(layer_inputs(build, name)[few]) for name in LAYERS}
    with SpiceEngine(build, workers=2) as spice:
        found = spice.step(codes)
    expected = nodal.step(codes)
    saturates = "saturation" in case
    differences = []
    for name in LAYERS:
        np.testing.assert_allclose(found[name].analog, expected[name].analog, rtol=0, atol=1e-4)
        differences.append((found[name].codes - expected[name].codes).ravel())
        if saturates and encoding != "bit-serial":
            assert np.isclose(np.abs(expected[name].analog), 1.02, atol=1e-6).any()  # some are at the limit
    difference = np.concatenate(differences)
    assert np.abs(difference).max() <= 1
    ties = np.count_nonzero(np.abs(difference) > 1e-9)
    assert ties <= max(1, 1e-3 * difference.size * cycles_per_read(build.manifest.hardware))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("key", ["dac.offset=2", "dac.gain_error=0.05", "dac.inl=2", "adc.offset=2", "adc.inl=2"])
def test_an_error_is_seen(encoding, key):
    plain, wrong = (
        make_build(None, "default", (*TILED, f"drive.encoding={encoding}", *extra), **SMALL) for extra in ((), (key,))
    )
    differences = [np.abs(a - b).max() for a, b in zip(*(sums(b, NodalEngine(b)) for b in (plain, wrong)), strict=True)]
    assert max(differences) > 0.002 * max(full_scales(plain))
