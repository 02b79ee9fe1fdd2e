"""Gate tables cut into tiles, against blocks written out by hand."""

import numpy as np

from hvae_mnn.circuit.plan import GroupPlan, row_inputs
from hvae_mnn.compiler.blocks import WeightBlock, cut_blocks, plan_groups
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.layers import GateWeights, Group, LayerWeights

GROUPS = (Group("x", 2), Group("h", 3), Group("z", 1))
RANGES = {"x": 2.0, "h": 0.5, "z": 4.0}
WEIGHT = np.array([[1, 2, 3], [-4, 5, -6], [2, 8, 4], [6, -2, 10], [-12, 14, 16], [0.5, -0.25, 0.75]])
FOLDED = np.array([[2, 4, 6], [-8, 10, -12], [1, 4, 2], [3, -1, 5], [-6, 7, 8], [2, -1, 3]])
"""WEIGHT times each row's range: 2, 2, 0.5, 0.5, 0.5, 4."""


def cut(*gates: GateWeights, rows: int = 64, columns: int = 64) -> list[WeightBlock]:
    array = load_hardware("ideal", [f"array.tile_rows={rows}", f"array.tile_columns={columns}"]).array
    layer = LayerWeights("decoder", "lstm", 3, GROUPS, gates)
    return list(cut_blocks(layer, plan_groups(layer, RANGES), array))


def gate(bias: list[float], weight: np.ndarray = WEIGHT, groups: tuple[str, ...] = ("x", "h", "z")) -> GateWeights:
    return GateWeights("f", groups, weight, np.array(bias))


def test_groups_take_their_range_and_a_silent_one_takes_1() -> None:
    layer = LayerWeights("decoder", "lstm", 3, GROUPS, ())
    assert plan_groups(layer, RANGES | {"h": 0.0}) == (
        GroupPlan(name="x", size=2, x_max=2.0),
        GroupPlan(name="h", size=3, x_max=1.0),
        GroupPlan(name="z", size=1, x_max=4.0),
    )


def test_rows_stand_in_the_order_x_h_z_bias_with_ranges_folded_in() -> None:
    (block,) = cut(gate([0.5, -1.5, 2.5]))
    assert (block.layer, block.gate, block.row_tile, block.column_tile) == ("decoder", "f", 0, 0)
    assert block.inputs.tolist() == [0, 1, 2, 3, 4, 5, -1]
    assert block.weights.tolist() == [*FOLDED.tolist(), [0.5, -1.5, 2.5]]


def test_a_bias_beyond_the_largest_weight_takes_several_equal_rows() -> None:
    """The largest weight is 12: 30 needs ceil(30/12) = 3 rows, 12 fits in one, 12.1 needs two."""
    (block,) = cut(gate([-30, 6, 3]))
    assert block.inputs.tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]
    assert block.weights[6:].tolist() == [[-10, 2, 1]] * 3
    assert np.abs(block.weights).max() == 12
    assert cut(gate([12, 1, 2]))[0].inputs.tolist().count(-1) == 1
    assert cut(gate([1, -12.1, 2]))[0].inputs.tolist().count(-1) == 2


def test_bias_rows_end_at_a_tiles_worth() -> None:
    blocks = cut(gate([1200, 6, 3]), rows=4)
    bias = [
        row for block in blocks for row, place in zip(block.weights.tolist(), block.inputs, strict=True) if place < 0
    ]
    assert bias == [[300, 1.5, 0.75]] * 4


def test_no_weight_at_all_leaves_one_bias_row() -> None:
    (block,) = cut(gate([7, 8, 9], np.zeros((6, 3))))
    assert block.weights.tolist() == [[0, 0, 0]] * 6 + [[7, 8, 9]]


def test_gru_candidates_read_their_own_groups() -> None:
    """n_x reads x and z (inputs 0, 1, 5), n_h reads h (inputs 2, 3, 4)."""
    n_x = GateWeights("n_x", ("x", "z"), WEIGHT[[0, 1, 5]], np.array([1.0, 2, 3]))
    n_h = GateWeights("n_h", ("h",), WEIGHT[[2, 3, 4]], np.array([-1.0, -2, -3]))
    first, second = cut(n_x, n_h)
    assert (first.gate, second.gate) == ("n_x", "n_h")
    assert first.inputs.tolist() == [0, 1, 5, -1]
    assert first.weights.tolist() == [*FOLDED[[0, 1, 5]].tolist(), [1, 2, 3]]
    assert second.inputs.tolist() == [2, 3, 4, -1]
    assert second.weights.tolist() == [*FOLDED[[2, 3, 4]].tolist(), [-1, -2, -3]]


def test_cuts_are_even_and_go_rows_first() -> None:
    """7 rows over tiles of 3 are 3, 2, 2; 3 columns over tiles of 2 are 2, 1."""
    blocks = cut(gate([0.5, -1.5, 2.5]), rows=3, columns=2)
    places = [(b.row_tile, b.column_tile, b.inputs.tolist(), b.column_start, b.weights.shape[1]) for b in blocks]
    assert places == [
        (0, 0, [0, 1, 2], 0, 2),
        (0, 1, [0, 1, 2], 2, 1),
        (1, 0, [3, 4], 0, 2),
        (1, 1, [3, 4], 2, 1),
        (2, 0, [5, -1], 0, 2),
        (2, 1, [5, -1], 2, 1),
    ]
    assert blocks[3].weights.tolist() == [[5], [8]]


def test_tiles_add_up_to_the_gate_sum() -> None:
    values = np.array([[1.0, -2.0, 0.25, 0.5, -0.5, 3.0]])
    fractions = values / [2, 2, 0.5, 0.5, 0.5, 4]
    bias = np.array([-30.0, 6, 3])
    found = np.zeros((1, 3))
    for block in cut(gate(bias.tolist()), rows=4, columns=2):
        stop = block.column_start + block.weights.shape[1]
        found[:, block.column_start : stop] += row_inputs(block.inputs, fractions, bias=1.0) @ block.weights
    np.testing.assert_allclose(found, values @ WEIGHT + bias, rtol=1e-13)
