"""Every segment in the deck, the columns' port admittance in the deck, and the nodal engine: 1e-6 of full scale."""

import numpy as np
import pytest
from making import layer_inputs, make_build

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine

pytestmark = pytest.mark.ngspice

TINY = {"cells": ("rnn", "gru"), "decoder": "rnn", "embedding": 4, "hidden": 5, "latent": 2}
TILED = ("array.tile_rows=6", "array.tile_columns=4")
POOR = ("amplifier.gain=300", "amplifier.offset=2 mV")
CASES = {
    "paired": ("ideal", ()),
    "reference column": ("ideal", ("array.scheme=reference-column",)),
    "differential": ("ideal", ("array.scheme=differential", "array.r_driver=3")),
    "read noise, reference column": ("ideal", ("array.scheme=reference-column", "device.read_sigma=0.02")),
    "poor amplifiers, differential": (
        "default",
        ("dac.bits=none", "adc.bits=none", "array.scheme=differential", *POOR),
    ),
    "paired, drivers": ("ideal", ("array.r_driver=100",)),
    "poor amplifiers, paired": ("default", ("dac.bits=none", "adc.bits=none", *POOR)),
    "poor amplifiers, reference column": (
        "default",
        ("dac.bits=none", "adc.bits=none", "array.scheme=reference-column", "array.r_driver=30", *POOR),
    ),
}


@pytest.mark.parametrize("r_wire", [1e-3, 5.0, 1e3])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_column_values_are_equal(tmp_path, case, r_wire):
    preset, overrides = case
    overrides = (*TILED, *overrides, f"array.r_wire={r_wire}")
    readings, klu = {}, False
    for wires in ("full", "reduced"):
        build = make_build(tmp_path / wires, preset, (*overrides, f"array.parasitics={wires}"), **TINY)
        inputs = {name: layer_inputs(build, name)[[0, 1, 3, 6, 10]] for name in ("encoder1", "encoder2")}
        nodal = NodalEngine(build)
        with SpiceEngine(build, workers=1) as spice:
            klu |= spice.info.klu
            readings[wires] = spice.step({name: nodal.dac.encode(rows) for name, rows in inputs.items()})
        readings["nodal"] = nodal.step({name: nodal.dac.encode(rows) for name, rows in inputs.items()})
    without = NodalEngine(make_build(None, preset, (*TILED, *overrides[2:-1]), **TINY))
    tolerance = 2e-5 if klu else 1e-6  # KLU keeps its first pivots, which an amplifier that saturates makes poor
    for name, rows in inputs.items():
        full = readings["full"][name].analog
        for other in ("reduced", "nodal"):
            np.testing.assert_allclose(readings[other][name].analog, full, rtol=0, atol=tolerance)
        np.testing.assert_allclose(readings["nodal"][name].analog, readings["reduced"][name].analog, rtol=0, atol=1e-6)
        if r_wire > 1 and "array.r_driver=100" not in overrides:  # the wires are seen at all
            assert np.abs(without.step({name: rows})[name].analog - full).max() > 1e-3
