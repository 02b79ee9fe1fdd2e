"""What wires cost: nothing without them, more with larger tiles, and what Kirchhoff's laws say for one row."""

import numpy as np
import pytest
from making import make_checkpoint

from hvae_mnn.circuit.crossbar import effective_conductance
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.compiler.blocks import WeightBlock
from hvae_mnn.compiler.ir_drop import measure_ir_drop
from hvae_mnn.compiler.mapping import map_block
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

SCHEMES = pytest.mark.parametrize("scheme", ["paired", "reference-column", "differential"])


def make_tile(scheme: str) -> tuple[Tile, HardwareConfig]:
    config = load_hardware("ideal", [f"array.scheme={scheme}"])
    block = WeightBlock("encoder2", "g", 0, 0, np.array([0]), 0, np.array([[0.7]]))
    return map_block(block, np.array([[1.0], [0.5]]), config), config


def test_without_wires_nothing_is_lost() -> None:
    for row in measure_ir_drop(make_checkpoint(), load_hardware("default"), sizes=(4, 8)):
        assert (row.random, row.calibration, row.weakest) == (0.0, 0.0, 1.0)


@SCHEMES
def test_larger_tiles_and_more_wire_lose_more(scheme: str) -> None:
    errors = {}
    for r_wire in (1.0, 10.0):
        config = load_hardware("default", [f"array.scheme={scheme}", f"array.r_wire={r_wire}"])
        for row in measure_ir_drop(make_checkpoint(), config, sizes=(4, 16)):
            errors[r_wire, row.tile_size, row.layer] = row.random, row.calibration
            assert row.tiles == {4: 40, 16: 8}.get(row.tile_size, 0) or row.layer != "encoder1"
    for layer in ("encoder1", "encoder2", "decoder"):
        for kind in (0, 1):
            found = [errors[r, size, layer][kind] for r in (1.0, 10.0) for size in (4, 16)]
            assert 0 < found[0] < found[1]
            assert found[0] < found[2] and found[1] < found[3]


@SCHEMES
def test_one_crosspoint_by_hand(scheme: str) -> None:
    """A drive of 1 V through driver and segments: i = sum over the lines of +-1 / (R + 2 segments + driver).

    The reference column's crosspoint hangs on the same line, one segment further; both columns' currents
    follow from the node between them.
    """
    tile, _ = make_tile(scheme)
    wire, driver = 40.0, 70.0
    found = effective_conductance(tile, wire, driver)[0, 0]
    g = tile.g[:, 0]
    if scheme == "reference-column":
        r_s, r_m, start = tile.plan.r_s, 1 / g[0], driver + wire
        assert r_s is not None
        beside, further = r_m + wire, wire + r_s + wire
        node = 1 / (1 + start / beside + start / further)
        expected = node / further - node / beside
    else:
        fixed = 1 / g[0] if tile.plan.r_s is None else tile.plan.r_s
        # Two lines meet at the bit line's node, whose segment both share: superposition of conductances there.
        lines = np.array([1 / (fixed + wire + driver), 1 / (1 / g[-1] + wire + driver)])
        expected = (lines[0] - lines[1]) / (1 + wire * lines.sum())
    assert found == pytest.approx(expected, rel=1e-12)
