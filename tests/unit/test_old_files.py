"""What the first version wrote still opens, reads and says the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import hvae_mnn as hm

OLD = Path(__file__).parents[1] / "old_files"
SENTENCE = "a c b"


def test_a_checkpoint() -> None:
    model = hm.load_checkpoint(OLD / "model.pt")
    assert model.config.hidden_sizes == (2, 2, 2)
    assert model.provenance == hm.load_build(OLD / "build").checkpoint.provenance


@pytest.mark.parametrize("backend", [pytest.param("spice", marks=pytest.mark.ngspice), "nodal"])
def test_a_build_reads_what_its_run_says(tmp_path: Path, backend: str) -> None:
    shutil.copytree(OLD / "build", tmp_path / "build")
    build, old = hm.load_build(tmp_path / "build"), hm.load_run(OLD / "run")
    run = hm.simulate(build, SENTENCE, backend=backend, seed=4)
    assert run.hardware.tokens == old.hardware.tokens
    assert run.build_hash == old.build_hash
    for ours, theirs in zip(run.layers, old.layers, strict=True):
        np.testing.assert_array_equal(ours.codes[0], theirs.codes[0])
    np.testing.assert_allclose(run.software.mu, old.software.mu, rtol=0, atol=1e-12)


def test_a_build_that_is_written_again_is_of_the_present_version(tmp_path: Path) -> None:
    hm.save_build(hm.load_build(OLD / "build"), tmp_path / "build")
    assert json.loads((tmp_path / "build" / "manifest.json").read_text())["schema_version"] == 2
    assert hm.simulate(hm.load_build(tmp_path / "build"), SENTENCE, backend="nodal", seed=4).agreement == pytest.approx(
        hm.load_run(OLD / "run").agreement
    )


def test_a_run_and_its_figure(tmp_path: Path) -> None:
    run = hm.load_run(OLD / "run")
    assert list(run.waveforms) == ["encoder1.h.r0c0"]
    hm.plot(run).savefig(tmp_path / "run.png")
    assert hm.explain(run, hm.load_build(OLD / "build")).check is not None


def test_a_sweep() -> None:
    found = hm.load_sweep(OLD / "sweep")
    assert len(found.rows) == 4
    assert set(found.rows["device.sigma"]) == {0, 0.1}
