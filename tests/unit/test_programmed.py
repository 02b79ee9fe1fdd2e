"""What `program` leaves behind: it comes back as it was, and damage is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from making import inflate_array, make_build

from hvae_mnn.circuit.programming import GAVE_UP, REACHED, STUCK, Written
from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.program import program_build
from hvae_mnn.experiments.programmed import Programmed, Sample, load_programmed, save_programmed
from hvae_mnn.reports.plot import plot_artifact, plot_programmed

SHAPES = {"encoder1.h.r0c0": (3, 4), "decoder.h.r0c0": (2, 4)}
CELLS, PICKED = 20, np.array([1, 5, 13])


def make_written(cells: np.ndarray, reads: int, seed: int) -> Written:
    rng = np.random.default_rng(seed)
    targets = np.linspace(20e-6, 150e-6, CELLS)[cells]
    history = tuple(targets * rng.uniform(0.9, 1.1, len(cells)) for _ in range(reads))
    status = np.where(cells == 5, STUCK, np.where(cells == 7, GAVE_UP, REACHED)).astype(np.int8)
    g = targets + rng.normal(0, 0.3e-6, len(cells))
    return Written(targets, g, rng.integers(1, 5, len(cells)), rng.uniform(0, 1e-7, len(cells)), status, history)


def make_programmed(with_sample: bool = True) -> Programmed:
    build = make_build(None, "aist")
    model = build.manifest.hardware.device.error_model
    assert model is not None
    tiles = ("encoder1.h.r0c0", "encoder1.h.r0c0", "decoder.h.r0c0")
    places = (np.array([0, 1, 0]), np.array([1, 1, 1]))
    sample = Sample(tiles, *places, make_written(PICKED, 5, 1), make_written(PICKED, 6, 2))
    return Programmed(
        hardware_name="aist",
        model_hash="0" * 64,
        seed=3,
        span=158e-6,
        tolerance=0.005,
        shapes=SHAPES,
        cells=make_written(np.arange(CELLS), 0, 0),
        sample=sample if with_sample else None,
        error_model=model,
    )


def same(a: Written, b: Written) -> None:
    for name in ("g_target", "g", "pulses", "energy", "status"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.history, b.history)


@pytest.mark.parametrize("with_sample", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, with_sample: bool) -> None:
    programmed = make_programmed(with_sample)
    save_programmed(programmed, tmp_path)
    found = load_programmed(tmp_path)
    same(found.cells, programmed.cells)
    assert found.shapes == SHAPES
    assert found.error_model == programmed.error_model
    assert found.to_json() == programmed.to_json()
    assert (found.sample is None) == (not with_sample)
    if found.sample is not None and programmed.sample is not None:
        assert found.sample.tiles == programmed.sample.tiles
        np.testing.assert_array_equal(found.sample.rows, programmed.sample.rows)
        np.testing.assert_array_equal(found.sample.columns, programmed.sample.columns)
        same(found.sample.spice, programmed.sample.spice)
        same(found.sample.twin, programmed.sample.twin)


def test_the_summary_counts_what_there_is() -> None:
    programmed = make_programmed()
    found = programmed.to_json()["numpy"]
    free = np.arange(CELLS) != 5
    error = (programmed.cells.g - programmed.cells.g_target)[free] / 158e-6
    assert (found["cells"], found["stuck"], found["given_up"], found["reached"]) == (20, 1, 1, 18)
    assert found["rms_error"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert found["within_1_percent"] == pytest.approx(np.mean(np.abs(error) < 0.01))
    assert found["mean_pulses"] == pytest.approx(programmed.cells.pulses[free].mean())
    assert found["energy"] == pytest.approx(programmed.cells.energy.sum())


def test_cells_are_saved_tile_by_tile_row_by_row(tmp_path: Path) -> None:
    programmed = make_programmed()
    save_programmed(programmed, tmp_path)
    with np.load(tmp_path / "cells.npz") as arrays:
        assert arrays["encoder1.h.r0c0/g"].shape == (3, 4)
        assert arrays["encoder1.h.r0c0/g"][2, 1] == programmed.cells.g[9]
        assert arrays["decoder.h.r0c0/pulses"][1, 3] == programmed.cells.pulses[19]


@pytest.mark.parametrize("name", ["cells.npz", "sample.csv", "history.npz"])
def test_a_missing_or_damaged_part_is_damage(tmp_path: Path, name: str) -> None:
    save_programmed(make_programmed(), tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    with pytest.raises(ArtifactError, match=r"damaged .*program the build again"):
        load_programmed(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=r"damaged .*program the build again"):
        load_programmed(tmp_path)


def test_other_damage_is_named(tmp_path: Path) -> None:
    save_programmed(make_programmed(), tmp_path)
    inflate_array(tmp_path / "cells.npz", "decoder.h.r0c0/g")
    with pytest.raises(ArtifactError, match="damaged"):
        load_programmed(tmp_path)
    values = json.loads((tmp_path / "programming.json").read_text())
    (tmp_path / "programming.json").write_text(json.dumps(values | {"tiles": 3}))
    with pytest.raises(ArtifactError, match="damaged"):
        load_programmed(tmp_path)
    with pytest.raises(ArtifactError, match=r"no programming\.json in it; make one with: hvae-mnn program BUILD"):
        load_programmed(tmp_path / "nowhere")


def test_the_figure_shows_the_cells_themselves() -> None:
    programmed = make_programmed()
    assert programmed.sample is not None
    axes = plot_programmed(programmed).axes
    trajectories = [line for line in axes[0].lines if len(line.get_xdata()) > 1]
    assert len(trajectories) == 2  # the third cell of the sample is stuck
    first = trajectories[0].get_ydata()
    np.testing.assert_allclose(first, 1e6 * np.array(programmed.sample.spice.history)[: len(first), 0])
    assert len(axes[1].lines[0].get_xdata()) == CELLS - 1
    assert "20 cells by numpy, 3 of them in SPICE too" in axes[0].figure.get_suptitle()
    assert len(plot_programmed(make_programmed(with_sample=False)).axes) == 2


def test_a_programming_has_no_signals(tmp_path: Path) -> None:
    save_programmed(make_programmed(), tmp_path)
    with pytest.raises(ArtifactError, match="--signal x: a programming has no signals"):
        plot_artifact(tmp_path, ["x"], tmp_path / "a.png")


def test_all_cells_stuck_still_gives_a_result(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", "default", cells=("rnn", "rnn"), decoder="rnn", hidden=3)
    programmed = program_build(build, tmp_path / "p", cells_per_tile=0, overrides=["stuck.p_lrs=1"])
    found = load_programmed(tmp_path / "p").to_json()
    assert found == programmed.to_json()
    assert found["numpy"]["stuck"] == found["numpy"]["cells"] - found["numpy"]["reached"]
    assert plot_artifact(tmp_path / "p", [], tmp_path / "a.png") == [tmp_path / "a.png"]


def test_stuck_cells_are_those_that_compile_drew(tmp_path: Path) -> None:
    """Found stuck by programming: the very cells that hold the ends of the range in the compiled build."""
    build = make_build(tmp_path / "build", "default", ("stuck.p_hrs=0.1", "device.seed=7"))
    programmed = program_build(build, tmp_path / "p", cells_per_tile=0)
    for name, part in programmed.tile_cells():
        found = programmed.cells.status[part].reshape(programmed.shapes[name]) == STUCK
        reached = np.abs(build.tiles[name].g_target - 1 / 100e3) < 0.006 * programmed.span
        np.testing.assert_array_equal(found | reached, (build.tiles[name].g == 1 / 100e3) | reached)
