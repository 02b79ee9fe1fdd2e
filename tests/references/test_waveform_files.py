"""What the engine leaves of a sentence on disk, against the worker's own values and a stock `ngspice -b`."""

import os
import re

import numpy as np
import pytest
from making import make_build
from support import run_ngspice

from hvae_mnn.circuit.spice.tile_deck import saved_nodes
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.engines.spice.recording import Recording, choose_tiles, estimate_waveforms, points_per_cycle
from hvae_mnn.engines.spice.waveforms import WaveformFiles
from hvae_mnn.errors import ArtifactError
from hvae_mnn.simulation.run import load_run, save_run
from hvae_mnn.simulation.sentence import simulate_sentence

pytestmark = pytest.mark.ngspice

TINY = {"cells": ("rnn", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 2, "latent": 1}
TILE = "encoder1.h.r0c0"
CODES = [np.array([[120.0, -110, 90, -100, 125]]), np.array([[-3.0, 7, 0, 55, -127]]), np.array([[1.0, 2, 3, 4, 5]])]


def read(build, recording=Recording(), codes=CODES):  # noqa: B008 (immutable)
    """Read the first layer some times; return what the worker sent, the readings, and the waveform."""
    sent, found = [], []
    with SpiceEngine(build, workers=1, transient=[TILE], recording=recording) as engine:
        append = engine.files.append
        engine.files.append = lambda tile, signals: (sent.append(signals), append(tile, signals))
        for row in codes:
            found.append(engine.step({"encoder1": row})["encoder1"])
        return sent, found, engine.waveforms()[TILE]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return make_build(tmp_path_factory.mktemp("waveforms") / "build", "default", **TINY)


def test_the_file_holds_what_the_worker_gave(build):
    sent, _, found = read(build)
    assert len(sent) == len(CODES)
    plan = build.tiles[TILE].plan
    assert list(found.signals) == saved_nodes(plan.rows, plan.columns, build.manifest.hardware)
    for name, signal in found.signals.items():
        assert signal.tobytes() == np.concatenate([cycle[name] for cycle in sent]).tobytes()
    expected = np.concatenate([cycle["time"] + i * found.cycle for i, cycle in enumerate(sent)])
    assert found.time.tobytes() == np.maximum.accumulate(expected).tobytes()


def test_a_stock_ngspice_loads_and_prints_it(build, tmp_path):
    _, _, found = read(build, Recording(folder=tmp_path))
    control = "load encoder1.h.r0c0.raw\nset width=200\nset numdgt=12\nprint col time v(hold1) adc0\n"
    (tmp_path / "show.cir").write_text(f"* show\n.control\n{control}quit\n.endc\n.end\n")
    printed = run_ngspice(["show.cir"], tmp_path)
    rows = re.findall(r"^\d+\s+(\S+)\s+(\S+)\s+(\S+)\s*$", printed, re.MULTILINE)
    time, hold, adc = np.array(rows, dtype=float).T
    np.testing.assert_allclose(time, found.time, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(hold, found.signals["hold1"], rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(adc, found.signals["adc0"], rtol=1e-9, atol=1e-12)
    assert np.ptp(hold) > 0.01
    assert "error" not in printed.lower()


def test_the_same_seed_gives_the_same_bytes_and_a_run_keeps_them(build, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        how = Recording(folder=tmp_path / f"{name}-files")
        run = simulate_sentence(build, "a b c", seed=3, workers=workers, transient=["all"], recording=how)
        save_run(run, tmp_path / name)
    one, two = (load_run(tmp_path / name).waveforms for name in ("one", "two"))
    assert list(one) == sorted(build.tiles) == list(two)
    for path in sorted((tmp_path / "one" / "waveforms").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "waveforms" / path.name).read_bytes()
    assert one[TILE].time[-1] == pytest.approx(5 * one[TILE].cycle, rel=1e-6)  # <sos> a b c <eos>


def test_a_run_taken_up_again_leaves_the_same_bytes(build, tmp_path):
    read(build, Recording(folder=tmp_path / "whole"))
    read(build, Recording(folder=tmp_path / "cut"), CODES[:2])
    WaveformFiles(tmp_path / "cut", build.manifest.hardware.timing.cycle).truncate(1)
    read(build, Recording(folder=tmp_path / "cut"), CODES[1:])
    whole, cut = ((tmp_path / name / f"{TILE}.raw").read_bytes() for name in ("whole", "cut"))
    assert cut == whole


@pytest.mark.parametrize("every", [2, 7, 10**6])
def test_each_nth_point_with_the_ends_of_cycles_and_the_same_readings(build, every):
    all_sent, all_read, _ = read(build)
    sent, found, waveform = read(build, Recording(signals=("out*", "hold1"), every=every))
    assert list(waveform.signals) == ["out0", "out1", "hold1"]
    for whole, part, mine, theirs in zip(all_sent, sent, found, all_read, strict=True):
        last = len(whole["time"]) - 1
        kept = [*range(0, last, every), last]
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][kept])
        np.testing.assert_array_equal(mine.codes, theirs.codes)
        np.testing.assert_array_equal(mine.analog, theirs.analog)


def test_states_of_memristors_do_not_depend_on_what_is_kept(tmp_path):
    """With a threshold lowered in the deck a read moves the cells, and each cycle starts where the last one ended."""
    build = make_build(tmp_path / "build", "default", ("array.memristor=dynamic",), **TINY)
    device = build.folder / "lib" / "device.lib"
    device.write_text(re.sub(r"v_set=\S+\n\+ v_reset=\S+", "v_set=0.01 v_reset=-0.01", device.read_text()))
    readings = []
    for transient in ((), (TILE,), ("decoder*",)):
        recording = Recording(signals=("en",)) if transient else Recording()
        with SpiceEngine(build, workers=1, transient=transient, recording=recording) as engine:
            readings.append([engine.step({"encoder1": row})["encoder1"].analog for row in CODES])
            kept = dict(engine.waveforms())
        assert set(kept) == {(): {TILE}, (TILE,): {TILE}, ("decoder*",): set()}[transient]
    for other in readings[1:]:
        np.testing.assert_array_equal(other, readings[0])
    with SpiceEngine(build, workers=1) as engine:
        assert np.abs(engine.step({"encoder1": CODES[2]})["encoder1"].analog - readings[0][2]).max() > 1e-6


def test_the_limit_stops_waveforms_and_not_the_run(build, tmp_path):
    whole = simulate_sentence(build, "a b c d", workers=1, transient=["all"])
    limit = 1e5
    cut = simulate_sentence(build, "a b c d", workers=1, transient=["all"], recording=Recording(limit=limit))
    assert cut.hardware.tokens == whole.hardware.tokens
    assert cut.waveforms.left_out > 0
    assert whole.waveforms.left_out == 0
    save_run(cut, tmp_path / "run")
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "run" / "waveforms").iterdir()) < 1.1 * limit


@pytest.mark.parametrize("preset", ["default", "ideal", "pulse-width", "bit-serial", "realistic"])
def test_the_estimate_is_about_what_is_written(tmp_path, preset):
    build = make_build(tmp_path / "build", preset, **TINY)
    recording = Recording(every=3, signals=("out*", "hold1"), folder=tmp_path / "files") if preset == "ideal" else None
    recording = recording or Recording(folder=tmp_path / "files")
    run = simulate_sentence(build, "a b c", workers=1, transient=["encoder*"], recording=recording)
    written = sum(os.stat(path).st_size for path in (tmp_path / "files").iterdir())  # noqa: PTH116
    estimate = estimate_waveforms(build, ["encoder*"], recording, 3)
    assert estimate.tiles == len(run.waveforms) == 2
    assert estimate.size == pytest.approx(written, rel=0.25)


def test_patterns_choose_tiles_and_nodes(build):
    layers, hardware = build.manifest.layers, build.manifest.hardware
    names = [tile.name for layer in layers for tile in layer.tiles]
    timed, kept = choose_tiles(layers, hardware, ["*coder2*", "decoder.h.r0c0"], ["hold?", "en"])
    assert timed == set(kept) == {"encoder2.h.r0c0", "decoder.h.r0c0"}
    assert set(kept.values()) == {3}
    assert choose_tiles(layers, hardware, ["all"])[0] == set(names)
    assert choose_tiles(layers, hardware, []) == (frozenset(), {})
    with pytest.raises(ArtifactError, match=r"--waveforms encoder9\.\*: no such tile"):
        choose_tiles(layers, hardware, ["all", "encoder9.*"])
    with pytest.raises(ArtifactError, match=r"--signals x0_0: no such node of these tiles"):
        choose_tiles(layers, hardware, ["all"], ["en", "x0_0"])
    assert points_per_cycle(hardware) > 100
