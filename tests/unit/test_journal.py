"""Interrupted simulations go on from the last finished time step, and end as if nothing had happened."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_build, random_sentences

from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import Reading
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.engines.spice.recording import Recording
from hvae_mnn.errors import ArtifactError, EngineError, SentenceError
from hvae_mnn.runtime.folders import unfinished_folder
from hvae_mnn.simulation import sentence as simulate
from hvae_mnn.simulation import sentences as many
from hvae_mnn.simulation.journal import Journal
from hvae_mnn.simulation.run import Run, load_run, save_run
from hvae_mnn.simulation.sentence import hash_build, simulate_sentence
from hvae_mnn.simulation.sentences import read_lines, simulate_lines

NOISY = ("amplifier.noise=1e-7", "device.read_sigma=0.02", "amplifier.offset_sigma=1e-4", "array.memristor=dynamic")
TINY: dict[str, Any] = {"cells": ("gru", "rnn"), "decoder": "rnn", "embedding": 3, "hidden": 2, "latent": 1}


def reading(value: float) -> dict[str, Reading]:
    return {"encoder1": Reading(np.array([[value, 1.0]]), np.array([[value / 3, 0.2]]), np.array([1]))}


def test_steps_come_back_in_order_and_end(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {"seed": 1}) as journal:
        assert journal.replay() is None
        journal.add(reading(1.0), {})
        journal.add(reading(2.0) | {"encoder2": reading(5.0)["encoder1"]}, {"tile": {"0_1": 0.25}})
    with Journal(tmp_path / "j", {"seed": 1}) as journal:
        assert journal.steps == 2
        assert journal.reads() == {"encoder1": 2, "encoder2": 1}
        first, second = journal.replay(), journal.replay()
        assert first is not None and second is not None and journal.replay() is None
        np.testing.assert_array_equal(first[0]["encoder1"].codes, [[1.0, 1.0]])
        np.testing.assert_array_equal(second[0]["encoder2"].analog, [[5 / 3, 0.2]])
        assert second[1] == {"tile": {"0_1": 0.25}}
        journal.add(reading(3.0), {})
        assert journal.steps == 3


def test_another_simulation_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {"seed": 1}) as journal:
        journal.add(reading(1.0), {})
    with pytest.raises(ArtifactError, match="holds an interrupted simulation of something else; repeat its command"):
        Journal(tmp_path / "j", {"seed": 2})
    with Journal(tmp_path / "j", {"seed": 1}) as journal:
        assert journal.steps == 1
        journal.remove()
    assert not (tmp_path / "j").exists()
    with Journal(tmp_path / "j", {"seed": 2}) as journal:
        assert journal.steps == 0
    assert not (tmp_path / "j").exists()  # nothing was in it


def test_a_journal_that_is_done_is_not_removed_twice(tmp_path: Path) -> None:
    """The next simulation may have begun in the same folder meanwhile."""
    with Journal(tmp_path / "j", {"seed": 1}) as journal:
        journal.remove()
        with Journal(tmp_path / "j", {"seed": 2}) as other:
            other.add(reading(1.0), {})
    assert (tmp_path / "j" / "identity.json").exists()


@pytest.mark.parametrize("hole", [True, False])
def test_a_damaged_step_and_those_after_it_are_read_again(tmp_path: Path, hole: bool) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        for value in range(4):
            journal.add(reading(float(value)), {})
    steps = sorted((tmp_path / "j" / "steps").iterdir())
    whole = steps[2].read_bytes()
    steps[2].write_bytes(whole.replace(b"NUMPY", b"NUMPX", 1) if hole else whole[:100])
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.steps == 2
    assert len(list((tmp_path / "j" / "steps").iterdir())) == 2


def test_a_batch_whose_results_were_half_written_is_read_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {"batch": 2, "count": 5}) as journal:
        journal.end_batch([{"line": 0}, {"line": 1}], {"tile": {"0_0": 0.5}})
        journal.end_batch([{"line": 2}, {"line": 3}], {})
    path = tmp_path / "j" / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with Journal(tmp_path / "j", {"batch": 2, "count": 5}) as journal:
        assert (journal.batch, journal.results()) == (1, [{"line": 0}, {"line": 1}])
        assert journal.states() == {"tile": {"0_0": 0.5}}
        journal.end_batch([{"line": 2}, {"line": 3}], {})
        journal.end_batch([{"line": 4}], {})
    with Journal(tmp_path / "j", {"batch": 2, "count": 5}) as journal:
        assert (journal.batch, len(journal.results())) == (3, 5)


def test_two_at_once_and_folders_of_the_users_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        journal.add(reading(1.0), {})
        with pytest.raises(ArtifactError, match="another simulation is writing there; choose another --out or wait"):
            Journal(tmp_path / "j", {})
        assert journal.steps == 1
    (tmp_path / "j" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="holds something else, which would be lost"):
        Journal(tmp_path / "j", {"other": 1})
    assert (tmp_path / "j" / "thesis.txt").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path / "j", {}) as journal:
        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(ArtifactError, match=r"j: cannot be written: No space left on device; free space or"):
            journal.add(reading(1.0), {})
        assert journal.steps == 0


class _Stopper:
    """Stops a simulation when it has reported a number of steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage in ("encoder", "decoder"):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def simulate_with_stops(build: Build, out: Path, every: int, **options: Any) -> tuple[Run, int]:
    """Simulate "a b c", stopped after each `every` further steps; return the run and how many stops there were."""
    for stops in range(100):
        with Journal(unfinished_folder(out), {"build": hash_build(build)}) as journal:
            recording = Recording(folder=journal.waveforms)
            stop = _Stopper(journal.steps + every)
            try:
                run = simulate_sentence(build, "a b c", recording=recording, journal=journal, progress=stop, **options)
            except KeyboardInterrupt:
                continue
            save_run(run, out)
            journal.remove()
            return run, stops
    raise AssertionError("never ends")


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("preset", "overrides", "transient"),
    [("default", (), ()), ("default", NOISY, ("encoder1.*", "decoder.h.r0c0")), ("bit-serial", ("dac.bits=3",), ())],
)
def test_stopped_again_and_again_the_result_is_the_same(
    tmp_path: Path, preset: str, overrides: tuple[str, ...], transient: tuple[str, ...]
) -> None:
    build = make_build(tmp_path / "build", preset, overrides, **TINY)
    options = {"workers": 1, "transient": transient}
    whole, none = simulate_with_stops(build, tmp_path / "whole", 1000, **options)
    parts, stops = simulate_with_stops(build, tmp_path / "parts", 3, **options)
    assert none == 0
    assert stops >= 3
    first, second = load_run(tmp_path / "whole"), load_run(tmp_path / "parts")
    assert {**first.to_json(), "seconds": 0} == {**second.to_json(), "seconds": 0}
    for one, other in zip(whole.layers, parts.layers, strict=True):
        np.testing.assert_array_equal(np.concatenate(one.codes), np.concatenate(other.codes))
        np.testing.assert_allclose(np.concatenate(one.analog), np.concatenate(other.analog), rtol=0, atol=1e-12)
    assert set(first.waveforms) == set(second.waveforms)
    for tile, waveform in first.waveforms.items():
        np.testing.assert_allclose(waveform.time, second.waveforms[tile].time, rtol=1e-12)
        for node, values in waveform.signals.items():
            np.testing.assert_allclose(values, second.waveforms[tile].signals[node], rtol=0, atol=1e-9)
    assert not unfinished_folder(tmp_path / "parts").exists()


@pytest.fixture
def build() -> Build:
    return make_build(None, "default", NOISY[:3])


def text_of(build: Build, count: int) -> str:
    vocabulary = build.checkpoint.vocabulary
    return "".join(vocabulary.decode(ids) + "\n\n" for ids in random_sentences(count, 5, len(vocabulary)))


def results(build: Build, path: Path, folder: Path, batch: int, stop_after: int = 1000) -> Iterator[dict[str, Any]]:
    lines = read_lines(build, path)
    with Journal(folder, {"build": hash_build(build), "batch": batch, "count": len(lines)}) as journal:
        for count, line in enumerate(simulate_lines(build, lines, journal, backend="nodal", seed=3, batch=batch)):
            if count == stop_after:
                return
            yield {**line, "seconds": 0}


def test_many_sentences_equal_each_alone(tmp_path: Path) -> None:
    build = make_build(None)
    (tmp_path / "text").write_text(text_of(build, 11))
    found = list(results(build, tmp_path / "text", tmp_path / "j", 4))
    assert len(found) == 11
    for i, line in enumerate(found):
        alone = simulate_sentence(build, line["sentence"], backend="nodal", seed=3 + i).to_json()
        assert line["seed"] == 3 + i
        for part in ("tokens", "unknown", "agreement", "hardware_preset", "model_hash", "build_hash", "engine"):
            assert line[part] == alone[part]
        for side in ("hardware", "software"):
            assert line[side]["tokens"] == alone[side]["tokens"]
            np.testing.assert_allclose(line[side]["z"], alone[side]["z"], rtol=1e-5)
        for layer, other in zip(line["layers"], alone["layers"], strict=True):
            assert {**layer, "rms_error": 0, "max_error": 0} == {**other, "rms_error": 0, "max_error": 0}
            assert layer["rms_error"] == pytest.approx(other["rms_error"], rel=1e-9)
            assert layer["max_error"] == pytest.approx(other["max_error"], rel=1e-9)


def test_many_sentences_go_on_after_the_last_batch(build: Build, tmp_path: Path) -> None:
    """Noise of a batch depends on its number alone, so that an interruption changes nothing."""
    (tmp_path / "text").write_text(text_of(build, 11))
    whole = list(results(build, tmp_path / "text", tmp_path / "a", 4))
    list(results(build, tmp_path / "text", tmp_path / "b", 4, stop_after=9))
    with Journal(tmp_path / "b", {"build": hash_build(build), "batch": 4, "count": 11}) as journal:
        assert (journal.batch, len(journal.results())) == (3, 11)
    list(results(build, tmp_path / "text", tmp_path / "c", 4, stop_after=5))
    kept = (tmp_path / "c" / "results.jsonl").read_text()
    assert len(kept.splitlines()) == 8
    assert list(results(build, tmp_path / "text", tmp_path / "c", 4)) == whole
    assert (tmp_path / "c" / "results.jsonl").read_text().startswith(kept)


@pytest.mark.ngspice
def test_many_sentences_in_spice_keep_their_decks_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = make_build(tmp_path / "build", "default", NOISY[:3], **TINY)
    (tmp_path / "text").write_text("a b\nc\nd e a\n")
    lines = read_lines(build, tmp_path / "text")
    opened: list[SpiceEngine] = []
    make = many.open_engine
    monkeypatch.setattr(many, "open_engine", lambda *a, **k: opened.append(make(*a, **k)) or opened[-1])
    with Journal(tmp_path / "a", {"batch": 1}) as journal:
        whole = list(simulate_lines(build, lines, journal, workers=1))
    assert len(opened) == 1
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "b", {"batch": 1}) as journal:
        list(
            simulate_lines(build, lines, journal, workers=1, progress=_Stopper(len(whole[0]["hardware"]["tokens"]) + 8))
        )
    with Journal(tmp_path / "b", {"batch": 1}) as journal:
        assert journal.batch == 1  # the first sentence is done, the second under way
        assert journal.steps >= 1
        again = list(simulate_lines(build, lines, journal, workers=1))
    assert [{**line, "seconds": 0} for line in again] == [{**line, "seconds": 0} for line in whole]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    build, path = make_build(None), tmp_path / "text"

    def fails(said: str) -> None:
        with pytest.raises(SentenceError, match=said):
            read_lines(build, path)

    fails("text: cannot be read: No such file")
    path.write_bytes(b"a b\n\xff\n")
    fails("text: not UTF-8 at byte 4")
    path.write_text("\n  \n")
    fails("text: no sentence in the file; expected one a line")
    path.write_text("a b\n\nxyz zyx\n")
    fails("text, line 3: none of the sentence's words is in the model's vocabulary")
    assert [words.ids for words in read_lines(build, path, limit=1)] == [read_lines(build, path, limit=1)[0].ids]


def test_a_worker_that_dies_leaves_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = make_build(None)

    class Dies(NodalEngine):
        steps = 0

        def step(self, codes: Any) -> dict[str, Reading]:
            Dies.steps += 1
            if Dies.steps == 4:
                raise EngineError("engine worker was killed")
            return super().step(codes)

    whole = simulate_sentence(build, "a b c", backend="nodal")
    monkeypatch.setattr(simulate, "open_engine", lambda *_, **__: Dies(build))
    with Journal(tmp_path / "j", {}) as journal, pytest.raises(EngineError, match="encoder1 step 3, encoder2 step 2"):
        simulate_sentence(build, "a b c", backend="spice", journal=journal)
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.steps == 3
        run = simulate_sentence(build, "a b c", backend="spice", journal=journal)
    assert json.dumps(run.hardware.to_json()) == json.dumps(whole.hardware.to_json())
