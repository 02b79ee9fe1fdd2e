"""One network, four ways: every segment in a deck, its port admittance in a deck, the nodal engine, badcrossbar.

A `reference-column` tile is one line a row, which is what badcrossbar solves. All are compared at the
amplifiers' outputs, in units of the largest.
"""

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import run_ngspice_batch

from hvae_mnn.circuit.crossbar import solve_transfer
from hvae_mnn.circuit.plan import GroupPlan, LayerPlan, Tile, TilePlan
from hvae_mnn.circuit.spice import tile_deck as decks
from hvae_mnn.circuit.spice.device_library import format_device_library
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.runtime.resources import netlists_folder

with warnings.catch_warnings(record=True):  # it says that its plots cannot be had
    import badcrossbar
logging.getLogger("badcrossbar").setLevel(logging.WARNING)

pytestmark = pytest.mark.ngspice

Array = NDArray[np.float64]

RANGES = {"usual": (10e-6, 200e-6), "any": (1e-9, 1e-2)}  # of conductances, siemens
SHAPES = ((2, 3), (7, 5), (16, 9), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((64, 64), (128, 64))))
TIGHT = ".options reltol=1e-9 abstol=1e-18 vntol=1e-15 gmin=1e-18 itl1=500"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("r_wire", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("limits", RANGES.values(), ids=RANGES.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_are_equal(tmp_path, monkeypatch, shape, limits, r_wire):
    monkeypatch.setattr(decks, "emit_options", lambda config: iter([TIGHT]))
    tile, fractions = random_tile(shape, limits), np.random.default_rng(5).uniform(-1, 1, shape[0])
    found = {}
    for parasitics in ("full", "reduced"):
        config = hardware(limits, r_wire, parasitics)
        found[parasitics] = run_deck(tmp_path / parasitics, tile, config, fractions)
    found["nodal"] = solve_transfer(tile, config).read(fractions[None])[0]
    found["badcrossbar"] = run_badcrossbar(tile, config, fractions)
    largest = np.abs(found["badcrossbar"]).max()
    without = solve_transfer(tile, hardware(limits, 0.0, "none")).read(fractions[None])[0]
    assert np.abs(without - found["nodal"]).max() > (1e-7 if r_wire < 1 else 1e-4) * largest  # wires are seen
    for one in found:
        for other in found:
            tolerance = 1e-10 if {one, other} == {"nodal", "badcrossbar"} else 1e-6
            np.testing.assert_allclose(
                found[one], found[other], rtol=0, atol=tolerance * largest, err_msg=f"{one} and {other}"
            )


def hardware(limits: tuple[float, float], r_wire: float, parasitics: str) -> HardwareConfig:
    low, high = limits
    return load_hardware(
        "ideal",
        (
            "array.scheme=reference-column",
            f"array.r_wire={r_wire}",
            f"array.parasitics={parasitics}",
            f"memristor.r_on={1 / high}",
            f"memristor.r_off={1 / low}",
            f"memristor.i_0={1e-3 * low}",
            f"array.g_min={low}",
            f"array.g_max={high}",
        ),
    )


def random_tile(shape: tuple[int, int], limits: tuple[float, float]) -> Tile:
    """Return a tile of log-uniform conductances."""
    rows, columns = shape
    g = np.exp(np.random.default_rng([rows, columns]).uniform(*np.log(limits), shape))
    r_s = 2 / sum(limits)
    plan = TilePlan(
        name="encoder1.f.r0c0",
        gate="f",
        deck="decks/encoder1/f/r0c0.cir",
        inputs=tuple(range(rows)),
        column_start=0,
        column_stop=columns,
        weight_per_siemens=1.0,
        r_s=r_s,
        r_f=1 / (limits[1] * rows),
        r_reference=r_s / rows,
        full_scale=1.0,
        scale=1.0,
        clipped_weights=0,
    )
    return Tile(plan, g, g)


def run_deck(folder: Path, tile: Tile, config: HardwareConfig, fractions: Array) -> Array:
    """Return the amplifiers' outputs of a tile's deck in stock ngspice, volt."""
    layer = LayerPlan(
        name="encoder1",
        cell="lstm",
        hidden=tile.plan.columns,
        groups=(GroupPlan(name="x", size=tile.plan.rows, x_max=1.0),),
        gates=("f",),
        tiles=(tile.plan,),
    )
    deck = folder / tile.plan.deck
    deck.parent.mkdir(parents=True)
    shutil.copytree(netlists_folder(), folder / "lib")
    device = format_device_library(config.memristor, dynamic=False)
    (folder / "lib" / "device.lib").write_text(device, encoding="utf-8")
    deck.write_text(decks.format_deck(tile, layer, config, fractions))
    answer = run_ngspice_batch(deck)
    return np.array([answer[f"v(out{k})"][0] for k in range(tile.plan.columns)])


def run_badcrossbar(tile: Tile, config: HardwareConfig, fractions: Array) -> Array:
    """Return -r_f times what each column carries above the reference column, volt."""
    fixed = np.full((tile.plan.rows, 1), tile.plan.r_s)
    volts = config.drive.v_read * fractions[:, None]
    answer = badcrossbar.compute(
        volts, np.hstack([1 / tile.g, fixed]), config.array.r_wire, node_voltages=False, all_currents=False
    )
    currents = answer.currents.output[0]
    return tile.plan.r_f * (currents[-1] - currents[:-1])
