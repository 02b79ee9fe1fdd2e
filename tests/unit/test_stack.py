"""A layer's tiles as one product: the same as tile by tile, whatever the layer is cut to."""

import numpy as np
import pytest
from making import layer_inputs, make_build

from hvae_mnn.circuit.amplifiers import NoiseSource
from hvae_mnn.circuit.crossbar import solve_array, solve_transfer
from hvae_mnn.circuit.plan import row_inputs
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.stack import TileStack

WIRINGS = {
    "lstm": {"hidden": 6},
    "gru, two kinds of rows": {"cells": ("gru", "gru"), "decoder": "gru", "hidden": (12, 9, 7)},
    "rnn": {"cells": ("rnn", "rnn"), "decoder": "rnn"},
}
TILINGS = ((), ("array.tile_rows=8", "array.tile_columns=4"), ("array.tile_rows=5", "array.tile_columns=64"))


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("wiring", WIRINGS.values(), ids=WIRINGS.keys())
def test_a_stack_is_its_tiles_one_by_one(wiring, tiling, constant):
    build = make_build(None, "ideal", tiling, **wiring)
    rng = np.random.default_rng(3)
    for layer in build.manifest.layers:
        inputs = layer_inputs(build, layer.name)
        matrices = [rng.normal(size=(tile.rows, tile.columns)) for tile in layer.tiles]
        constants = [rng.normal(size=tile.columns) for tile in layer.tiles] if constant else None
        found = TileStack(layer.tiles, matrices, constants).read(inputs, bias=0.7)

        assert found.shape == (len(inputs), sum(tile.columns for tile in layer.tiles))
        for (tile, outputs), matrix, place in zip(layer.tile_outputs(), matrices, range(len(matrices)), strict=True):
            expected = row_inputs(tile.inputs, inputs, bias=0.7) @ matrix
            expected += 0.7 * constants[place] if constants else 0
            np.testing.assert_allclose(found[:, outputs], expected, rtol=0, atol=1e-13)


def test_one_output_a_tile():
    """Reference columns are stacked by themselves."""
    build = make_build(None, "default", TILINGS[1])
    layer, inputs = build.layer("decoder"), layer_inputs(build, "decoder")
    matrices = [np.full((tile.rows, 1), place + 1.0) for place, tile in enumerate(layer.tiles)]
    found = TileStack(layer.tiles, matrices).read(inputs, bias=1.0)
    sums = [row_inputs(tile.inputs, inputs, bias=1.0).sum(axis=1) for tile in layer.tiles]
    np.testing.assert_allclose(found, np.stack(sums, axis=1) * np.arange(1, len(sums) + 1), rtol=0, atol=1e-12)


def test_a_matrix_that_is_not_the_tiles_is_refused():
    layer = make_build(None).layer("encoder1")
    with pytest.raises(ValueError):
        TileStack(layer.tiles, [np.zeros((tile.rows + 1, tile.columns)) for tile in layer.tiles])


@pytest.mark.parametrize("preset", ["ideal", "default"])
def test_torch_multiplies_as_numpy_does(preset):
    build = make_build(None, preset, TILINGS[1])
    numpy, torch = NodalEngine(build), NodalEngine(build, device="cpu")
    for layer in build.manifest.layers:
        codes = {layer.name: numpy.dac.encode(layer_inputs(build, layer.name))}
        first, second = numpy.step(codes)[layer.name], torch.step(codes)[layer.name]
        np.testing.assert_allclose(first.analog, second.analog, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(first.clipped, second.clipped)


@pytest.mark.parametrize("noise", [0.0, 1e-6])
@pytest.mark.parametrize("scheme", ["paired", "reference-column"])
@pytest.mark.parametrize("wires", ["0 ohm", "5 ohm"])
def test_a_tile_that_saturates_does_as_it_would_alone(scheme, wires, noise):
    """Stacked columns, some beyond saturation, against each tile's own network, with the noise of its amplifiers."""
    poor = ("amplifier.v_saturation=0.5 V", "amplifier.offset=6 mV", "adc.range_percentile=90", "adc.bits=none")
    noisy = f"amplifier.noise={noise}"
    build = make_build(None, "default", (*TILINGS[1], *poor, noisy, f"array.scheme={scheme}", f"array.r_wire={wires}"))
    engine, layer = NodalEngine(build), build.layer("encoder2")
    codes = engine.dac.encode(layer_inputs(build, "encoder2"))
    found = engine.step({"encoder2": codes})["encoder2"].analog
    assert 0 < np.count_nonzero(np.abs(found) == 1.0) < found.size
    references = []
    for tile, outputs in layer.tile_outputs():
        rows = engine.dac.decode(row_inputs(tile.inputs, codes, bias=engine.dac.code_max))
        hardware = build.manifest.hardware
        alone = solve_transfer(build.tiles[tile.name], hardware)
        source = NoiseSource.of_tile(tile, hardware, solve_array(build.tiles[tile.name], hardware).load)
        assert (source is None) == (noise == 0)
        volts = source.draw(len(rows)) if source else np.zeros((len(rows), len(alone.v_offset)))
        np.testing.assert_allclose(found[:, outputs], alone.read(rows, volts) / 0.5, rtol=0, atol=1e-12)
        references.append((rows @ alone.matrix + (alone.v_offset + volts) @ alone.offsets)[:, tile.columns :])
    if scheme == "reference-column":
        assert 0 < np.count_nonzero(np.abs(references) > 0.5) < np.size(references)
