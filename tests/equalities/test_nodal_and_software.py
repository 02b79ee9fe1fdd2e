"""Nodal against software on the `ideal` preset: 1e-6 of full scale."""

import numpy as np
import pytest
from making import layer_inputs, make_build

from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine

LAYERS = ("encoder1", "encoder2", "decoder")
SMALL_TILES = ("array.tile_rows=8", "array.tile_columns=4")
UNEVEN = {"embedding": 10, "hidden": (12, 9, 7)}
WIRINGS = {
    "lstm+lstm/lstm": {},
    "gru+rnn/lstm": {"cells": ("gru", "rnn")},
    "rnn+lstm/gru": {"cells": ("rnn", "lstm"), "decoder": "gru"},
    "lstm+gru/rnn": {"cells": ("lstm", "gru"), "decoder": "rnn"},
    "gru+gru/gru": {"cells": ("gru", "gru"), "decoder": "gru"},
    "rnn+rnn/rnn": {"cells": ("rnn", "rnn"), "decoder": "rnn"},
    "gru+lstm/rnn": {"cells": ("gru", "lstm"), "decoder": "rnn"},
    "lstm+gru/gru, uneven": {"cells": ("lstm", "gru"), "decoder": "gru", **UNEVEN},
    "peepholes, uneven": {"peepholes": True, **UNEVEN},
}


@pytest.mark.parametrize("scheme", ["paired", "reference-column", "differential"])
@pytest.mark.parametrize("tiling", [(), SMALL_TILES], ids=["whole", "tiled"])
@pytest.mark.parametrize("wiring", WIRINGS.values(), ids=WIRINGS.keys())
def test_readings_and_gate_sums_are_equal(wiring, tiling, scheme):
    build = make_build(None, "ideal", (*tiling, f"array.scheme={scheme}"), **wiring)
    nodal, software = NodalEngine(build), SoftwareEngine(build)
    for name in LAYERS:
        layer, inputs = build.layer(name), layer_inputs(build, name)
        found, expected = nodal.step({name: inputs})[name], software.step({name: inputs})[name]

        np.testing.assert_allclose(found.analog, expected.analog, rtol=0, atol=1e-6)
        np.testing.assert_allclose(nodal.adc.decode(found.codes), expected.analog, rtol=0, atol=1e-6)
        assert np.abs(expected.analog[8:]).max(axis=0).min() > 0.01  # every column says something
        sums, exact = layer.gate_sums(found.codes), layer.gate_sums(expected.analog)
        for gate in layer.gates:
            largest = max(tile.full_scale for tile in layer.tiles if tile.gate == gate)
            np.testing.assert_allclose(sums[gate], exact[gate], rtol=0, atol=1e-6 * largest)


def test_tiling_leaves_gate_sums_unchanged():
    inputs = None
    sums = []
    for tiling in ((), SMALL_TILES, ("array.tile_rows=5", "array.tile_columns=6")):
        build = make_build(None, "ideal", tiling)
        inputs = layer_inputs(build, "decoder") if inputs is None else inputs
        layer = build.layer("decoder")
        sums.append(layer.gate_sums(NodalEngine(build).step({"decoder": inputs})["decoder"].codes))
    for other in sums[1:]:
        for gate, values in sums[0].items():
            np.testing.assert_allclose(other[gate], values, rtol=0, atol=1e-9)
