"""Calibrating a Build: new ranges from a corpus, in place, whole or not at all."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import make_checkpoint, random_sentences

import hvae_mnn.compiler.build
from hvae_mnn.compiler.build import Build, load_build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.errors import ArtifactError, CorpusError, HardwareError
from hvae_mnn.experiments.calibrate import calibrate_build, measure_reads
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.calibration import calibrate
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.text.corpus import EOS, SOS, load_corpus

LOUD = 8
"""Number of the word e, the one whose embedding is made large."""


def write_corpus(folder: Path, words: str = "abcde", count: int = 60, longest: int = 8) -> Path:
    """Write random sentences over some words: 60 to train, 30 each to validate and test."""
    folder.mkdir()
    for seed, (split, size) in enumerate((("train", count), ("valid", 30), ("test", 30))):
        sentences = random_sentences(size, seed, 4 + len(words), longest)
        lines = [" ".join(words[place - 4] for place in ids) for ids in sentences]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def calibrated(checkpoint: Checkpoint, corpus: Path, seed: int) -> Checkpoint:
    train = load_corpus(corpus, vocabulary=checkpoint.vocabulary).train
    found = calibrate(checkpoint.build_model(), train, seed=seed, sentence_count=40)
    samples = {layer: values.astype(np.float16).astype(np.float32) for layer, values in found.samples.items()}
    return replace(checkpoint, calibration=samples, ranges=found.ranges)


def loud_checkpoint() -> Checkpoint:
    """A model that reads e eight times as large as other words."""
    plain = make_checkpoint()
    weights = {name: value.copy() for name, value in plain.weights.items()}
    for name in ("encoder_embedding.weight", "decoder_embedding.weight"):
        weights[name][LOUD] *= 8
    return replace(plain, weights=weights)


def compiled(checkpoint: Checkpoint, folder: Path, *overrides: str) -> Build:
    return save_build(compile_model(checkpoint, load_hardware("default", overrides), "default"), folder)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def same_conductances(one: Build, other: Build) -> bool:
    return one.tiles.keys() == other.tiles.keys() and all(
        np.array_equal(tile.g, other.tiles[name].g) for name, tile in one.tiles.items()
    )


def test_the_same_sentences_and_seed_give_the_same_build(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    old = compiled(calibrated(make_checkpoint(), corpus, seed=4), tmp_path / "build")
    report = calibrate_build(tmp_path / "build", corpus, sentences=40, seed=4)
    new = load_build(tmp_path / "build")
    assert new.manifest == old.manifest
    assert same_conductances(new, old)
    assert new.checkpoint.ranges == old.checkpoint.ranges
    for layer, samples in old.checkpoint.calibration.items():
        np.testing.assert_array_equal(new.checkpoint.calibration[layer], samples)
    for layer in report.layers:
        assert (layer.before, layer.x_max_before) == (layer.after, layer.x_max_after)
    assert (report.corpus, report.sentences, report.held_out, report.seed) == ("corpus", 40, 30, 4)
    assert report.unknown == 0


def test_the_file_s_calibration_compiles_to_the_same_build(tmp_path: Path) -> None:
    compiled(make_checkpoint(), tmp_path / "build")
    calibrate_build(tmp_path / "build", write_corpus(tmp_path / "corpus"), sentences=40)
    new = load_build(tmp_path / "build")
    again = compile_model(new.checkpoint, new.manifest.hardware, "default")
    assert again.manifest == new.manifest
    assert same_conductances(again, new)


def test_larger_activations_widen_the_ranges(tmp_path: Path) -> None:
    """Ranges without e, then with it; x of encoder 1 is e's embedding, by hand."""
    quiet, loud = write_corpus(tmp_path / "quiet", "abcd"), write_corpus(tmp_path / "loud")
    largest = ("dac.range_percentile=100", "adc.range_percentile=100")
    compiled(calibrated(loud_checkpoint(), quiet, seed=0), tmp_path / "build", *largest)
    report = calibrate_build(tmp_path / "build", loud, sentences=60)
    encoder = report.layers[0]
    embedding = np.abs(loud_checkpoint().weights["encoder_embedding.weight"])
    assert encoder.x_max_before["x"] == pytest.approx(embedding[[SOS, EOS, 4, 5, 6, 7]].max(), rel=1e-6)
    assert encoder.x_max_after["x"] == pytest.approx(embedding[LOUD].max(), rel=1e-6)
    assert encoder.before.clipped_inputs > 0.01
    assert encoder.after.clipped_inputs == 0
    assert encoder.after.clipped_sums < encoder.before.clipped_sums
    assert encoder.after.gate_rms_error < encoder.before.gate_rms_error / 3
    new = load_build(tmp_path / "build")
    assert new.layer("encoder1").groups[0].x_max == encoder.x_max_after["x"]
    assert new.checkpoint.provenance["calibration"] == "loud, 60 sentences, seed 0"
    assert new.checkpoint.content_hash() == loud_checkpoint().content_hash()


def test_overrides_change_the_hardware(tmp_path: Path) -> None:
    compiled(make_checkpoint(), tmp_path / "build")
    overrides = ["adc.bits=5", "array.tile_rows=9", "dac.range_percentile=auto"]
    report = calibrate_build(tmp_path / "build", write_corpus(tmp_path / "c"), sentences=20, overrides=overrides)
    new = load_build(tmp_path / "build")
    assert (new.manifest.hardware.adc.bits, new.manifest.hardware.dac.range_percentile) == (5, "auto")
    assert new.manifest.hardware_name == report.hardware_name == "default " + " ".join(overrides)
    assert max(tile.rows for layer in new.manifest.layers for tile in layer.tiles) == 9


def test_errors_by_hand() -> None:
    """Converters of 6 bits at the columns alone, one tile a gate: rounding and clipping of x W + b."""
    checkpoint = make_checkpoint()
    hardware = load_hardware("ideal", ["adc.bits=6", "adc.range_percentile=80"])
    build = compile_model(checkpoint, hardware, "ideal")
    inputs = checkpoint.calibration["encoder1"]
    errors, clipped = [], 0
    for gate, plan in zip(checkpoint.layer_weights()[0].gates, build.layer("encoder1").tiles, strict=True):
        sums = (inputs @ gate.weight + gate.bias) / plan.full_scale
        errors.append(plan.full_scale * (np.clip(np.round(31 * sums), -31, 31) / 31 - sums))
        clipped += np.count_nonzero(np.abs(sums) > 31.5 / 31)
    found = measure_reads(build, {"encoder1": inputs})["encoder1"]
    scales = np.array([plan.full_scale for plan in build.layer("encoder1").tiles])[:, None, None]
    assert found.gate_rms_error == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-4)
    assert found.rms_error == pytest.approx(np.sqrt(np.mean(np.square(errors / scales))), rel=1e-4)
    assert found.clipped_sums == clipped / np.size(errors) > 0.1
    assert found.clipped_inputs == 0


def test_inputs_beyond_full_scale_are_counted() -> None:
    build = compile_model(make_checkpoint(), load_hardware("default"), "default")
    inputs = np.zeros((300, 16))
    inputs[:, :4] = 2 * build.layer("encoder1").groups[0].x_max
    assert measure_reads(build, {"encoder1": inputs})["encoder1"].clipped_inputs == 4 / 16


@pytest.mark.parametrize("place", ["deck", "measure"])
def test_a_failure_midway_leaves_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    compiled(make_checkpoint(), tmp_path / "build")
    before, decks = contents(tmp_path / "build"), []

    def fail_at_the_fifth(*arguments: object) -> str:
        decks.append(arguments)
        if len(decks) == 5:
            raise OSError(28, "No space left on device")
        return "* deck\n"

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    if place == "deck":
        monkeypatch.setattr(hvae_mnn.compiler.build, "format_deck", fail_at_the_fifth)
    else:
        monkeypatch.setattr("hvae_mnn.experiments.calibrate.measure_reads", stop)
    with pytest.raises(ArtifactError if place == "deck" else KeyboardInterrupt):
        calibrate_build(tmp_path / "build", corpus, sentences=40)
    assert contents(tmp_path / "build") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "corpus"]


def test_progress_is_told(tmp_path: Path) -> None:
    compiled(make_checkpoint(), tmp_path / "build")
    told: list[tuple[str, int, int | None]] = []
    calibrate_build(
        tmp_path / "build",
        write_corpus(tmp_path / "corpus", count=90),
        sentences=70,
        progress=lambda *each: told.append(each),
    )
    assert told[:2] == [("calibration", 64, 70), ("calibration", 70, 70)]
    assert told[2:] == [("held-out sentences", done, 3) for done in (1, 2, 3)]


def test_sentences_longer_than_the_model_reads_are_left_out(tmp_path: Path) -> None:
    """Of 60 sentences of 1 to 40 words about half fit into 20."""
    compiled(make_checkpoint(), tmp_path / "build")
    corpus = write_corpus(tmp_path / "corpus", longest=40)
    fitting = sum(len(line.split()) <= 20 for line in (corpus / "train.txt").read_text().splitlines())
    assert 10 < fitting < 50
    with pytest.raises(CorpusError, match=f"'corpus' has {fitting} training sentences of at most 20 words; .* 60"):
        calibrate_build(tmp_path / "build", corpus, sentences=60)
    assert calibrate_build(tmp_path / "build", corpus, sentences=fitting).held_out < 30


def test_a_corpus_in_other_words_is_refused(tmp_path: Path) -> None:
    compiled(make_checkpoint(), tmp_path / "build")
    foreign = write_corpus(tmp_path / "foreign", "vwxyz")
    with pytest.raises(CorpusError, match="'foreign': 100% of its words are not among the 9 that the model knows"):
        calibrate_build(tmp_path / "build", foreign, sentences=10)
    mixed = write_corpus(tmp_path / "mixed", "axyz")
    assert 0.6 < calibrate_build(tmp_path / "build", mixed, sentences=10).unknown < 0.9


def test_bad_input_is_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    with pytest.raises(ArtifactError, match="not a build"):
        calibrate_build(tmp_path, corpus)
    compiled(make_checkpoint(), tmp_path / "build")
    with pytest.raises(CorpusError, match="is not a folder and not a known name"):
        calibrate_build(tmp_path / "build", tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="sentences is 0; expected at least 1"):
        calibrate_build(tmp_path / "build", corpus, sentences=0)
    with pytest.raises(HardwareError, match=r"adc.range_percentile is 'best'; expected a percentile"):
        calibrate_build(tmp_path / "build", corpus, overrides=["adc.range_percentile=best"])
    (corpus / "valid.txt").write_text(" ".join("a" * 30) + "\n")
    with pytest.raises(CorpusError, match="'corpus' has 0 validation sentences of at most 20 words; expected at least"):
        calibrate_build(tmp_path / "build", corpus, sentences=10)
