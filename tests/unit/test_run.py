"""Runs: measures by hand, the same again after loading, and what is said of a damaged one."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from making import inflate_array, make_build

from hvae_mnn.circuit.converters import Converter
from hvae_mnn.engines.base import EngineInfo, Reading, Waveform
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.errors import ArtifactError
from hvae_mnn.simulation.run import LayerTrace, Run, Transcript, is_run, load_run, save_run


def side(words: str) -> Transcript:
    tokens = tuple(words.split())
    numbers = np.array([0.25, -1.5, len(tokens)])
    return Transcript(tokens, words, numbers, numbers - 1 / 3, numbers * np.pi)


class Converters:
    """As much of an engine as a trace asks for: 3 bits on both sides (codes -3..3)."""

    dac = adc = Converter(3)


def trace(name: str, steps: int) -> LayerTrace:
    found = LayerTrace(name)
    for step in range(steps):
        reading = Reading(np.array([[3.0, -step, 1.0]]), np.array([[1.3, -0.3 * step, 0.4]]), clipped=np.array([1]))
        fractions, exact = np.array([[0.1 * step, -1.2]]), np.array([[1.0, 0.1, 0.2]])
        found.record(Converters(), fractions, reading, exact)  # type: ignore[arg-type]
    return found


def make_run(hardware: str = "a b c", software: str = "a b c", **more: object) -> Run:
    values = {
        "sentence": "a b zyx",
        "tokens": ("a", "b", "<unk>"),
        "unknown": ("zyx",),
        "layers": (trace("encoder1", 4), trace("decoder", 2)),
        "engine": EngineInfo("spice", "39.3", True),
        "hardware_preset": "default",
        "model_hash": "0123abcd",
        "seed": 7,
        "seconds": 1.25,
    }
    return Run(hardware=side(hardware), software=side(software), **(values | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hardware", "software", "agreement", "parts_at"),
    [
        ("a b c", "a b c", 1.0, None),
        ("", "", 1.0, None),
        ("a x c d", "a b c d", 0.75, 1),
        ("x b c", "a b c", 2 / 3, 0),
        ("a b", "a b c d", 0.5, 2),
        ("a b c d e", "a b", 0.4, 2),
        ("a x c d e", "a b c", 0.4, 1),
        ("b c d", "a b c d", 0.0, 0),
        ("", "a b", 0.0, 0),
        ("a", "", 0.0, 0),
    ],
)
def test_agreement_and_where_the_sentences_part(
    hardware: str, software: str, agreement: float, parts_at: int | None
) -> None:
    run = make_run(hardware, software)
    assert run.agreement == pytest.approx(agreement, rel=1e-15)
    assert run.parts_at == parts_at


def test_errors_by_hand() -> None:
    """Decoded 1, -step/3, 1/3 less 1, 0.1, 0.2: errors 0, -0.1 - step/3, 2/15."""
    found = trace("encoder1", 3)
    errors = np.array([[0, -0.1 - step / 3, 2 / 15] for step in range(3)])
    np.testing.assert_allclose(np.concatenate(found.error), errors, atol=1e-15)
    assert found.max_error == pytest.approx(0.1 + 2 / 3, rel=1e-14)
    assert found.rms_error == pytest.approx(np.sqrt((errors**2).sum() / 9), rel=1e-14)
    np.testing.assert_allclose(found.rms_by_step(), np.sqrt((errors**2).sum(axis=1) / 3), rtol=1e-13)


def test_clipping_is_counted_over_all_steps() -> None:
    """Past 3.5 codes: -1.2 of every input vector, 1.3 of every reading."""
    found = trace("encoder1", 3)
    assert (found.clipped_inputs, found.clipped_outputs) == (3, 3)


def test_json_values() -> None:
    values = make_run("a x", "a b c").to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["agreement"] == pytest.approx(1 / 3)
    assert values["hardware"]["tokens"] == ["a", "x"]
    assert values["hardware"]["mu"] == [0.25, -1.5, 2]
    assert values["unknown"] == ["zyx"]
    assert values["engine"] == {"name": "spice", "version": "39.3", "klu": True}
    assert [(layer["name"], layer["steps"]) for layer in values["layers"]] == [("encoder1", 4), ("decoder", 2)]


def waveforms() -> dict[str, Waveform]:
    signals = {"adc0": np.array([0.0, 1, 2]), "x1_2": np.array([0.5, 0.25, 0.125])}
    other = Waveform(np.array([0.0, 3e-6]), {"hold4": np.array([-0.1, 0.2])}, 3e-6)
    return {"encoder1.i.r0c0": Waveform(np.array([0.0, 1e-6, 4e-6]), signals, 4e-6), "decoder.n_x.r2c1": other}


def assert_same_side(one: Transcript, other: Transcript) -> None:
    assert (one.tokens, one.text) == (other.tokens, other.text)
    for part in ("mu", "logvar", "z"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_loading_gives_back_what_was_saved(tmp_path: Path) -> None:
    run = make_run("a b", "a b c", waveforms=waveforms())
    save_run(run, tmp_path / "run")
    loaded = load_run(tmp_path / "run")
    assert loaded.to_json() == run.to_json()
    assert_same_side(loaded.hardware, run.hardware)
    assert_same_side(loaded.software, run.software)
    for mine, theirs in zip(run.layers, loaded.layers, strict=True):
        for part in ("inputs", "codes", "analog", "error"):
            found = getattr(theirs, part)
            assert [step.shape for step in found] == [step.shape for step in getattr(mine, part)]
            np.testing.assert_array_equal(np.concatenate(found), np.concatenate(getattr(mine, part)))
    assert set(loaded.waveforms) == set(run.waveforms)
    for tile, waveform in run.waveforms.items():
        found = loaded.waveforms[tile]
        assert found.cycle == waveform.cycle
        np.testing.assert_array_equal(found.time, waveform.time)
        assert set(found.signals) == set(waveform.signals)
        for node, signal in waveform.signals.items():
            np.testing.assert_array_equal(found.signals[node], signal)


def test_without_waveforms_there_is_no_file(tmp_path: Path) -> None:
    save_run(make_run(), tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", "trace.npz"}
    assert load_run(tmp_path / "run").waveforms == {}


def test_a_trace_records_what_an_engine_read() -> None:
    build = make_build(None, "default", ("array.tile_rows=9",))
    engine, layer = NodalEngine(build), build.layer("encoder2")
    fractions = np.linspace(-1, 1, sum(group.size for group in layer.groups))[None]
    reading = engine.step({"encoder2": engine.dac.encode(fractions)})["encoder2"]
    found = LayerTrace("encoder2")
    found.record(engine, fractions, reading, np.clip(reading.analog, -1, 1))
    assert 0 < found.max_error <= 0.5 / 127 * (1 + 1e-9)
    assert found.inputs[0] is fractions


def test_not_a_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    message = re.escape(f"{tmp_path}: not a run (no run.json); make one with: hvae-mnn simulate --out {tmp_path}")
    with pytest.raises(ArtifactError, match=message):
        load_run(tmp_path)


def drop_key(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / "run.json").read_text())
        del values[name]
        (folder / "run.json").write_text(json.dumps(values))

    return damage


def flip(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        for place in range(60, 90):
            content[place] ^= 0xFF
        (folder / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "run.json").write_text("{"),
        lambda folder: (folder / "run.json").write_text("[]"),
        lambda folder: (folder / "run.json").write_bytes(b'"\xff"'),
        drop_key("hardware"),
        drop_key("layers"),
        lambda folder: (folder / "trace.npz").unlink(),
        lambda folder: (folder / "trace.npz").write_bytes(b""),
        lambda folder: (folder / "trace.npz").write_bytes((folder / "trace.npz").read_bytes()[:-50]),
        flip("trace.npz"),
        lambda folder: inflate_array(folder / "trace.npz", "decoder/codes"),
    ],
    ids=range(10),
)
def test_damaged(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save_run(make_run(waveforms=waveforms()), tmp_path)
    damage(tmp_path)
    with pytest.raises(ArtifactError, match=rf"^{re.escape(str(tmp_path))}: the run is damaged \(.+\); simulate again"):
        load_run(tmp_path)


def test_damaged_waveforms_are_told_when_they_are_asked_for(tmp_path: Path) -> None:
    save_run(make_run(waveforms=waveforms()), tmp_path / "run")
    path = tmp_path / "run" / "waveforms" / "encoder1.i.r0c0.raw"
    path.write_bytes(path.read_bytes()[:-8])
    loaded = load_run(tmp_path / "run")
    assert list(loaded.waveforms["decoder.n_x.r2c1"].signals) == ["hold4"]
    with pytest.raises(
        ArtifactError, match=rf"^{re.escape(str(path))}: the waveforms are damaged \(.+\); simulate again"
    ):
        loaded.waveforms["encoder1.i.r0c0"]


def test_a_run_keeps_its_waveforms_when_it_is_saved_again_and_in_its_own_place(tmp_path: Path) -> None:
    save_run(make_run(waveforms=waveforms()), tmp_path / "one")
    save_run(load_run(tmp_path / "one"), tmp_path / "two")
    save_run(load_run(tmp_path / "one"), tmp_path / "one")
    for name in ("one", "two"):
        found = load_run(tmp_path / name).waveforms
        assert sorted(found) == sorted(waveforms())
        np.testing.assert_array_equal(found["encoder1.i.r0c0"].signals["x1_2"], [0.5, 0.25, 0.125])


@pytest.mark.parametrize("name", ["notes.txt", "other.raw"])
def test_a_run_with_something_of_the_users_among_its_waveforms_is_not_replaced(tmp_path: Path, name: str) -> None:
    save_run(make_run(waveforms=waveforms()), tmp_path / "run")
    (tmp_path / "run" / "waveforms" / name).write_text("Title: mine\n")
    with pytest.raises(ArtifactError, match="holds something else"):
        save_run(make_run("b"), tmp_path / "run")


def test_an_older_run_is_replaced_and_something_else_is_not(tmp_path: Path) -> None:
    save_run(make_run("a"), tmp_path / "run")
    save_run(make_run("b"), tmp_path / "run")
    assert load_run(tmp_path / "run").hardware.text == "b"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("dear")
    with pytest.raises(ArtifactError, match="holds something else"):
        save_run(make_run(), tmp_path / "thesis")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_keeps_the_older_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    save_run(make_run("a"), tmp_path / "run")

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "savez_compressed", fails)
    kind = ArtifactError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind):
        save_run(make_run("b"), tmp_path / "run")
    assert load_run(tmp_path / "run").hardware.text == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
