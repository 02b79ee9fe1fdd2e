"""Spice against nodal on the same hardware: 1e-4 of full scale before the ADC, codes at most 1 LSB apart."""

from collections.abc import Iterator

import numpy as np
import pytest
from making import layer_inputs, make_build

from hvae_mnn.engines.base import Reading
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine

pytestmark = pytest.mark.ngspice

LAYERS = ("encoder1", "encoder2", "decoder")
TILED = ("array.tile_rows=8", "array.tile_columns=4")
REFERENCE = "array.scheme=reference-column"
POOR = ("amplifier.gain=300", "amplifier.offset=2 mV")
MIXED = {"cells": ("gru", "rnn"), "decoder": "gru"}
CASES = {
    "ideal, paired": ("ideal", TILED, {}),
    "ideal, reference column, other cells": ("ideal", (*TILED, REFERENCE), MIXED),
    "ideal, differential": ("ideal", (*TILED, "array.scheme=differential"), MIXED),
    "default, differential, programming error": (
        "default",
        (*TILED, "array.scheme=differential", "device.sigma=0.1"),
        {"decoder": "gru"},
    ),
    "default, wires": ("default", (*TILED, "array.r_wire=5", "array.r_driver=20"), {"cells": ("rnn", "lstm")}),
    "default, paired": ("default", TILED, MIXED),
    "default, lstm+gru/gru, uneven": (
        "default",
        TILED,
        {"cells": ("lstm", "gru"), "decoder": "gru", "embedding": 10, "hidden": (12, 9, 7)},
    ),
    "ideal, peepholes, uneven": ("ideal", TILED, {"peepholes": True, "hidden": (5, 4, 3)}),
    "default, rnn+rnn/rnn": ("default", TILED, {"cells": ("rnn", "rnn"), "decoder": "rnn"}),
    "default, reference column": ("default", (*TILED, REFERENCE), {}),
    "poor amplifiers, paired": ("default", (*TILED, *POOR), {}),
    "poor amplifiers, reference column": ("default", (*TILED, REFERENCE, *POOR), {"cells": ("rnn", "lstm")}),
    "programming error and stuck cells": (
        "default",
        (*TILED, "device.sigma=0.1", "stuck.p_lrs=0.02", "stuck.p_hrs=0.05"),
        {"decoder": "gru"},
    ),
    "a static device": ("rram-wan2022", (*TILED, REFERENCE, "time.seconds=3600"), {}),
    "read noise, differential, wires": (
        "default",
        (*TILED, "array.scheme=differential", "device.read_sigma=0.02", "array.r_wire=5", "adc.range_percentile=100"),
        MIXED,
    ),
    "whole tiles, 12 bits": ("default", ("adc.bits=12", "dac.bits=5"), {"cells": ("lstm", "gru"), "decoder": "rnn"}),
}
Pair = tuple[Reading, Reading]


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def pairs(request, tmp_path_factory) -> Iterator[dict[str, Pair]]:
    """Every layer read by both engines: (spice, nodal)."""
    preset, overrides, checkpoint = request.param
    build = make_build(tmp_path_factory.mktemp("spice") / "build", preset, overrides, **checkpoint)
    nodal = NodalEngine(build)
    codes = {name: nodal.dac.encode(layer_inputs(build, name)) for name in LAYERS}
    with SpiceEngine(build, workers=2) as spice:
        found = spice.step(codes)
    expected = nodal.step(codes)
    yield {name: (found[name], expected[name]) for name in LAYERS}


@pytest.mark.parametrize("layer", LAYERS)
def test_column_values_are_equal(pairs, layer):
    spice, nodal = pairs[layer]
    assert 0.3 < np.abs(nodal.analog).max()
    np.testing.assert_allclose(spice.analog, nodal.analog, rtol=0, atol=1e-4)


def test_codes_are_equal(pairs):
    difference = np.concatenate([(spice.codes - nodal.codes).ravel() for spice, nodal in pairs.values()])
    quantised = all(np.array_equal(nodal.codes, np.rint(nodal.codes)) for _, nodal in pairs.values())
    if not quantised:  # without bits a code is the column value itself
        assert np.abs(difference).max() <= 1e-4
        return
    assert len(difference) > 1000
    assert np.abs(difference).max() <= 1
    assert np.mean(difference == 0) >= 0.999


def test_amplifiers_that_are_poor_show():
    """Gain and offset of the poor amplifiers move columns by far more than the tolerance above."""
    build = make_build(None, "default", TILED)
    good = NodalEngine(build)
    poor = NodalEngine(make_build(None, "default", (*TILED, *POOR)))
    codes = {"encoder1": good.dac.encode(layer_inputs(build, "encoder1"))}
    difference = poor.step(codes)["encoder1"].analog - good.step(codes)["encoder1"].analog
    assert np.abs(difference).mean() > 1e-2


def test_a_batch_in_spice_is_its_sentences_one_by_one(tmp_path):
    """A batch of inputs and the same inputs in another order give the same columns."""
    build = make_build(tmp_path / "build", "default", cells=("rnn", "rnn"), decoder="rnn")
    with SpiceEngine(build, workers=1) as spice:
        codes = spice.dac.encode(layer_inputs(build, "encoder2"))
        together = spice.step({"encoder2": codes})["encoder2"]
        backwards = spice.step({"encoder2": codes[::-1].copy()})["encoder2"]
        alone = spice.step({"encoder2": codes[9:10]})["encoder2"]
    np.testing.assert_allclose(backwards.analog[::-1], together.analog, rtol=0, atol=1e-9)
    np.testing.assert_allclose(alone.analog[0], together.analog[9], rtol=0, atol=1e-9)
