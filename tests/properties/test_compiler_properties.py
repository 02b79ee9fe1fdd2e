"""What holds for gates and tiles of every shape."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_mnn.compiler.blocks import WeightBlock, cut_blocks, plan_groups
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.layers import GateWeights, Group, LayerWeights

few = settings(derandomize=True, deadline=None, max_examples=40)
size = st.integers(1, 23)


@few
@given(size, size, size, st.integers(1, 9), st.integers(1, 9), st.floats(0, 30))
def test_every_weight_lies_in_exactly_one_tile(
    x: int, h: int, hidden: int, rows: int, columns: int, bias: float
) -> None:
    """Weights are numbered 1, 2, 3, ...; the tiles put together hold each number once, in its place."""
    weight = np.arange(1.0, (x + h) * hidden + 1).reshape(x + h, hidden)
    biases = bias * np.linspace(-1, 0.5, hidden)
    layer = LayerWeights(
        "encoder1", "rnn", hidden, (Group("x", x), Group("h", h)), (GateWeights("h", ("x", "h"), weight, biases),)
    )
    array = load_hardware("ideal", [f"array.tile_rows={rows}", f"array.tile_columns={columns}"]).array
    found, counted, summed = np.zeros_like(weight), np.zeros_like(weight), np.zeros(hidden)
    for block in cut_blocks(layer, plan_groups(layer, {"x": 1.0, "h": 1.0}), array):
        assert block.weights.shape[0] == len(block.inputs) <= rows
        assert 1 <= block.weights.shape[1] <= columns
        stop = block.column_start + block.weights.shape[1]
        is_bias = block.inputs < 0
        place = np.ix_(block.inputs[~is_bias], np.arange(block.column_start, stop))
        found[place] += block.weights[~is_bias]
        counted[place] += 1
        summed[block.column_start : stop] += block.weights[is_bias].sum(axis=0)
    np.testing.assert_array_equal(counted, 1)
    np.testing.assert_array_equal(found, weight)
    np.testing.assert_allclose(summed, biases, rtol=1e-12, atol=1e-12)


@few
@given(
    st.integers(0, 2**31),
    st.integers(1, 7),
    st.integers(1, 5),
    st.floats(1e-6, 1e4),
    st.sampled_from([100.0, 90.0, 50.0]),
    st.sampled_from(["paired", "reference-column"]),
)
def test_conductances_lie_in_range_and_give_back_what_did_not_clip(
    seed: int, rows: int, columns: int, scale: float, percentile: float, scheme: str
) -> None:
    rng = np.random.default_rng(seed)
    weights = scale * rng.standard_normal((rows, columns))
    config = load_hardware("ideal", [f"array.weight_percentile={percentile}", f"array.scheme={scheme}"])
    block = WeightBlock("encoder1", "i", 0, 0, np.arange(rows), 0, weights)
    tile = map_block(block, rng.uniform(-1, 1, (4, rows)), config)
    array = config.array
    assert tile.g.min() >= array.g_min
    assert tile.g.max() <= array.g_max
    largest = tile.plan.weight_per_siemens * (array.g_max - array.g_min) / 2
    back = tile.plan.weight_per_siemens * (1 / tile.plan.r_s - tile.g)
    np.testing.assert_allclose(back, np.clip(weights, -largest, largest), atol=1e-12 * largest)
    assert tile.plan.clipped_weights == np.count_nonzero(np.abs(weights) > largest * (1 + 1e-9))
    assert (tile.plan.clipped_weights == 0) == (percentile == 100 or weights.size == 1)
    assert tile.plan.r_f > 0
