"""Read noise of cells: what wires leave of it, what it depends on, and that engines draw it as it is written down."""

from dataclasses import replace

import numpy as np
import pytest
from making import layer_inputs, make_build
from numpy.typing import NDArray

from hvae_mnn.circuit.cell_noise import CellNoise
from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.crossbar import array_lines, cell_reach, solve_transfer
from hvae_mnn.circuit.integrator import solve_tile
from hvae_mnn.circuit.plan import Tile, TilePlan, row_inputs
from hvae_mnn.circuit.wires import solve_ports
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.noise import DeckNoise
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.hardware.timing import LONGEST_PULSE

Array = NDArray[np.float64]

SCHEMES = ("paired", "reference-column", "differential")
TILED = ("array.tile_rows=7", "array.tile_columns=4")
NOISE = "device.read_sigma=0.02"


def make_tile(scheme: str, rows: int, columns: int, lowest: float = 1e-6, highest: float = 17e-6) -> Tile:
    """Return a tile of random conductances, siemens."""
    memristor_rows = rows * (1 + (scheme == "differential"))
    g = np.random.default_rng(rows).uniform(lowest, highest, (memristor_rows, columns))
    plan = TilePlan(
        name="encoder1.i.r0c0",
        gate="i",
        deck="decks/encoder1/i/r0c0.cir",
        inputs=tuple(range(rows)),
        column_start=0,
        column_stop=columns,
        weight_per_siemens=1e5,
        r_s=None if scheme == "differential" else 2 / (lowest + highest),
        r_f=40e3,
        r_reference=9e3 if scheme == "reference-column" else None,
        full_scale=1.0,
        scale=1.0,
        clipped_weights=0,
    )
    return Tile(plan, g, g)


def cell_noise(tile: Tile, *overrides: str) -> CellNoise:
    config = load_hardware("aist-low-g", [NOISE, *overrides])
    noise = CellNoise.of_tile(tile, config, solve_tile(tile, config))
    assert noise is not None
    return noise


# --- wires -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_wires_a_change_of_a_cell_arrives_whole(scheme: str) -> None:
    tile = make_tile(scheme, 5, 3)
    assert (cell_reach(tile, 0.0, 0.0) == np.ones_like(tile.g)).all()
    np.testing.assert_allclose(cell_reach(tile, 1e-6, 1e-6), 1, rtol=1e-8)


@pytest.mark.parametrize(("r_wire", "r_driver"), [(1.0, 10.0), (0.0, 30.0)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_behind_wires_it_is_the_slope_of_the_columns_current(scheme: str, r_wire: float, r_driver: float) -> None:
    """Kirchhoff's network with one conductance changed a little, only that row driven; 32 x 32 cells of 1 to 17 uS.

    The first order is within 0.2 % here, where wires leave 0.98 of a change at the far corner.
    """
    rows = columns = 32
    tile, rng = make_tile(scheme, rows, columns), np.random.default_rng(5)
    reach = cell_reach(tile, r_wire, r_driver)
    assert reach.shape == tile.g.shape
    for cell in [(0, columns - 1), (len(tile.g) - 1, 0), *rng.integers((len(tile.g), columns), size=(10, 2))]:
        j, k = int(cell[0]), int(cell[1])
        change, currents = 1e-3 * tile.g[j, k], []
        for sign in (1, -1):
            g = tile.g.copy()
            g[j, k] += sign * change
            ports = solve_ports(array_lines(replace(tile, g=g)), r_wire, r_driver)
            currents.append(ports.transfer[j % rows, k])
        drive = {"paired": -1, "reference-column": 1, "differential": 1 if j < rows else -1}[scheme]
        assert drive * reach[j, k] == pytest.approx((currents[0] - currents[1]) / (2 * change), rel=2e-3)
    if r_wire:
        assert 0.975 < reach[0, -1] < 0.99  # first row, last column: the longest way


# --- what it depends on ----------------------------------------------------------------------


def test_there_is_none_without() -> None:
    config, tile = load_hardware("default"), make_tile("paired", 4, 3, 20e-6, 150e-6)
    assert CellNoise.of_tile(tile, config, solve_transfer(tile, config)) is None
    noise = DeckNoise.of_tile(tile, config)
    assert noise.sources == ()
    assert noise.draw(np.ones((2, 4))) is None


def test_it_grows_with_drives_and_is_none_at_rest() -> None:
    tile = make_tile("paired", 6, 4)
    rows = np.array([np.zeros(6), np.full(6, 0.3), np.full(6, -0.6)])
    small, large = (np.abs(cell_noise(tile, f"device.read_sigma={s}").draw(rows)) for s in (0.01, 0.03))
    np.testing.assert_allclose(large, 3 * small, rtol=1e-12)
    assert (small[0] == 0).all() and (small[1:] > 0).all()
    noise = cell_noise(tile)
    deviates = cell_noise(tile).source.draw(3)
    np.testing.assert_allclose(
        noise.draw(rows)[1:] / deviates[1:], [[s] * 4 for s in spread(tile, rows[1:])], rtol=1e-5
    )


def spread(tile: Tile, rows: Array) -> Array:
    """Return r_f v_read sigma g_max |x| of the preset, volt, (reads,)."""
    config = load_hardware("aist-low-g")
    full = tile.plan.r_f * config.drive.v_read * 0.02 * config.array.g_max
    return np.asarray(full * np.sqrt((rows**2).sum(axis=1)))


def test_a_pulse_that_the_driver_ends_makes_no_more() -> None:
    tile, pulsed = make_tile("paired", 6, 4), ("drive.encoding=pulse-width", "dac.bits=none")
    far, end = (cell_noise(tile, *pulsed).draw(np.full((1, 6), x)) for x in (1.5, LONGEST_PULSE))
    np.testing.assert_array_equal(far, end)


def test_tiles_seeds_and_batches_draw_others_and_amplifiers_are_left_alone() -> None:
    tile, rows = make_tile("paired", 6, 4), np.ones((50, 6))
    drawn = cell_noise(tile).draw(rows)
    np.testing.assert_array_equal(cell_noise(tile).draw(rows), drawn)
    other = replace(tile, plan=tile.plan.model_copy(update={"name": "another"}))
    assert np.all(cell_noise(other).draw(rows) != drawn)
    assert np.all(cell_noise(tile, "device.seed=1").draw(rows) != drawn)
    noise = cell_noise(tile)
    noise.source.begin(2)
    assert np.all(noise.draw(rows) != drawn)
    noise.source.begin(0)
    np.testing.assert_array_equal(np.concatenate([noise.draw(rows[:7]), noise.draw(rows[7:])]), drawn)

    both = load_hardware("default", [NOISE, "amplifier.noise=1e-7"])
    alone = load_hardware("default", ["amplifier.noise=1e-7"])
    two, one = (DeckNoise.of_tile(tile, config) for config in (both, alone))
    assert two.sources == (*one.sources, "vread_0", "vread_1", "vread_2", "vread_3")
    codes = np.full((3, 6), 127.0)
    found, expected = two.draw(codes), one.draw(codes)
    assert found is not None and expected is not None
    np.testing.assert_array_equal(found[:, :4], expected)
    two.begin(0)
    two.skip(1)
    rest = two.draw(codes[1:])
    assert rest is not None
    np.testing.assert_array_equal(rest, found[1:])


# --- the nodal engine ------------------------------------------------------------------------

CASES = {
    "paired": (),
    "differential, wires": ("array.scheme=differential", "array.r_wire=5"),
    "reference column, wires": ("array.scheme=reference-column", "array.r_driver=20"),
    "errors of DACs": ("dac.inl=0.7", "dac.gain_error=0.05"),
    "amplifiers' noise": ("amplifier.noise=1e-7",),
    "pulses": ("drive.encoding=pulse-width",),
    "bit planes": ("drive.encoding=bit-serial",),
    "amplifiers' noise, saturation": (
        "array.scheme=reference-column",
        "amplifier.noise=1e-7",
        "amplifier.v_saturation=0.5",
        "adc.range_percentile=80",
        "array.r_wire=5",
    ),
    "saturation, wires": ("amplifier.v_saturation=0.5", "adc.range_percentile=80", "array.r_wire=5"),
}


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_a_layer_is_its_tiles_without_noise_and_their_noise(overrides: tuple[str, ...], device: str | None) -> None:
    """Against an engine without read noise, and each tile's noise drawn by itself, begun again for a batch."""
    ends = ("adc.bits=none", "amplifier.v_saturation=3") if "saturation" not in str(overrides) else ("adc.bits=none",)
    build, quiet = (make_build(None, "default", (*TILED, *ends, *overrides, *more)) for more in ((NOISE,), ()))
    config, engine, silent = build.manifest.hardware, NodalEngine(build, device), NodalEngine(quiet)
    layer = build.layer("encoder2")
    inputs = layer_inputs(build, "encoder2")
    codes = engine.dac.encode(inputs)
    for number in (0, 3):
        engine.begin(number)
        silent.begin(number)
        found = engine.step({"encoder2": codes})["encoder2"].analog
        added = found - silent.step({"encoder2": codes})["encoder2"].analog
        for tile, outputs in layer.tile_outputs():
            noise = DeckNoise.of_tile(build.tiles[tile.name], config)
            noise.begin(number)
            expected = noise_of_reads(noise, row_inputs(tile.inputs, codes, engine.dac.code_max))
            np.testing.assert_allclose(added[:, outputs] * config.adc.v_full_scale, expected, rtol=0, atol=1e-12)
            assert np.abs(expected).max() > 1e-3


def noise_of_reads(noise: DeckNoise, rows: Array) -> Array:
    """Return a tile's noise, volt, (reads, columns): of a bit-serial read the planes', shifted and added by hand."""
    planes = 7 if noise.driver == Converter(2) else 1
    cells = noise.noise.cells
    assert cells is not None
    found = []
    for row in rows:
        if planes == 1:
            drives = noise.driver.drive(row[None], noise.errors.dac, noise.lsb)
            found.append(cells.draw(drives)[0])
        else:
            bit_planes = np.array([np.sign(row) * (np.abs(row).astype(int) // 2**b % 2) for b in range(planes)])
            found.append(2.0 ** np.arange(planes) / 127 @ cells.draw(bit_planes))
    return np.array(found)
