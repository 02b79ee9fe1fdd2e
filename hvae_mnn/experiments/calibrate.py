"""Calibrate a Build: converter ranges and weight scales from sentences of a corpus, and what they then clip."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.plan import LayerPlan
from hvae_mnn.compiler.build import Build, check_only_build, load_build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.errors import CorpusError
from hvae_mnn.hardware.files import override_hardware
from hvae_mnn.hardware.timing import cycles_per_read
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.text.corpus import UNK, Corpus, Sentence, load_corpus
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.simulation.run import LayerTrace

Array = NDArray[np.float64]

_HELD_OUT = 200
_MOST_UNKNOWN = 0.9
_STEPS = 256


@dataclass(frozen=True, slots=True)
class ReadErrors:
    """What converters and circuit do to a layer's sums on held-out sentences.

    Attributes:
        clipped_inputs: Share of inputs beyond the DAC's range.
        clipped_sums: Share of column sums beyond the ADC's range.
        rms_error: Decoded column sums less exact ones, in units of each tile's full scale.
        gate_rms_error: The same of the gate sums, in their own unit, which no choice of full scale changes.
    """

    clipped_inputs: float
    clipped_sums: float
    rms_error: float
    gate_rms_error: float


@dataclass(frozen=True, slots=True)
class LayerCalibration:
    """One layer before and after.

    Attributes:
        name: `encoder1`, `encoder2` or `decoder`.
        x_max_before: For each group of inputs, the number that full scale stood for.
        x_max_after: What it stands for now.
        before: Errors of the Build as it was.
        after: Errors of the Build as it is now.
    """

    name: str
    x_max_before: Mapping[str, float]
    x_max_after: Mapping[str, float]
    before: ReadErrors
    after: ReadErrors


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What a calibration changed.

    Attributes:
        corpus: Name of the corpus.
        sentences: Training sentences that ranges come from.
        held_out: Validation sentences that errors are measured on.
        unknown: Share of the corpus's words that the model does not know.
        seed: Seed of the draw and of the latents.
        hardware_name: Preset or file of the hardware, with what was changed.
        layers: encoder1, encoder2, decoder.
    """

    corpus: str
    sentences: int
    held_out: int
    unknown: float
    seed: int
    hardware_name: str
    layers: tuple[LayerCalibration, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def calibrate_build(
    folder: str | Path,
    corpus: str | Path,
    *,
    sentences: int = 2000,
    seed: int = 0,
    overrides: Iterable[str] = (),
    progress: Progress | None = None,
) -> CalibrationReport:
    """Set a Build's ranges by sentences of a corpus and compile it again, in its own folder.

    The Build's checkpoint gets the new calibration; its weights and words stay. Until the new Build is
    whole, the folder is untouched.

    Args:
        folder: The Build.
        corpus: `grammar`, or a folder with three splits.
        sentences: Training sentences to draw.
        seed: Seed of the draw and of the latents.
        overrides: `section.key=value`, changes of the Build's hardware.
        progress: Called with a stage, the sentences or layers done and all.

    Raises:
        ArtifactError: The folder is no Build, or cannot be written.
        CorpusError: The corpus is missing, too small, or in other words than the model's.
        HardwareError: A key or a value is not acceptable.
    """
    folder = Path(folder)
    if sentences < 1:
        raise CorpusError(f"sentences is {sentences}; expected at least 1")
    build = load_build(folder)
    check_only_build(folder)
    given = tuple(overrides)
    hardware = override_hardware(build.manifest.hardware, given)
    name = " ".join((build.manifest.hardware_name, *given))
    text = load_corpus(corpus, vocabulary=build.checkpoint.vocabulary)
    unknown = check_words(text)
    train, held_out = choose_sentences(text, build.checkpoint.config.max_length, sentences, seed)
    checkpoint = calibrated(build.checkpoint, text.name, train, sentences, seed, progress)
    new = compile_model(checkpoint, hardware, name)
    layers = _compare(build, new, held_out, seed, progress)
    save_build(new, folder, force=True)
    return CalibrationReport(text.name, sentences, len(held_out), unknown, seed, name, layers)


def measure_reads(build: Build, inputs: Mapping[str, NDArray[np.floating]]) -> dict[str, ReadErrors]:
    """Read layers with the nodal engine and compare with the software model's sums of the same inputs.

    Args:
        build: A compiled model.
        inputs: For each layer to read, its inputs as the model's numbers, (steps, inputs).
    """
    cycles = cycles_per_read(build.manifest.hardware)
    with NodalEngine(build) as engine, SoftwareEngine(build) as exact:
        return {name: _measure(build.layer(name), values, engine, exact, cycles) for name, values in inputs.items()}


def check_words(corpus: Corpus) -> float:
    """Return the share of words that the model does not know; refuse a text that is not its own.

    Raises:
        CorpusError: Nearly all are unknown.
    """
    words = [word for split in (corpus.train, corpus.valid) for ids in split for word in ids]
    unknown = words.count(UNK) / len(words)
    if unknown > _MOST_UNKNOWN:
        raise CorpusError(
            f"corpus {corpus.name!r}: {unknown:.0%} of its words are not among the {len(corpus.vocabulary)} that the "
            f"model knows; expected at most {_MOST_UNKNOWN:.0%}. Use text like that the model was trained on."
        )
    return unknown


def choose_sentences(
    corpus: Corpus, longest: int, count: int, seed: int
) -> tuple[tuple[Sentence, ...], list[Sentence]]:
    """Return the training sentences that the model can read, and up to 200 of the validation split's.

    Raises:
        CorpusError: There are fewer than `count` training sentences, or no validation sentences.
    """
    train, valid = (tuple(ids for ids in split if len(ids) <= longest) for split in (corpus.train, corpus.valid))
    for split, found, least in (("training", train, count), ("validation", valid, 1)):
        if len(found) < least:
            raise CorpusError(
                f"corpus {corpus.name!r} has {len(found)} {split} sentences of at most {longest} words; expected "
                f"at least {least}. " + ("Give fewer --sentences." if split == "training" else "Add some.")
            )
    places = np.random.default_rng(seed).choice(len(valid), min(_HELD_OUT, len(valid)), replace=False)
    return train, sorted((valid[place] for place in places), key=len)


def calibrated(
    checkpoint: Checkpoint, corpus: str, train: tuple[Sentence, ...], count: int, seed: int, progress: Progress | None
) -> Checkpoint:
    """Return a checkpoint with ranges and samples from training sentences."""
    from hvae_mnn.model.calibration import calibrate  # a Build that is refused is refused without loading torch

    found = calibrate(checkpoint.build_model(), train, seed=seed, sentence_count=count, progress=progress)
    return replace(
        checkpoint,
        # As the file holds them, so that compiling the Build's model gives this Build again.
        calibration={layer: v.astype(np.float16).astype(np.float32) for layer, v in found.samples.items()},
        ranges=found.ranges,
        provenance={**checkpoint.provenance, "calibration": f"{corpus}, {count} sentences, seed {seed}"},
    )


def _compare(
    old: Build, new: Build, held_out: list[Sentence], seed: int, progress: Progress | None
) -> tuple[LayerCalibration, ...]:
    from hvae_mnn.model.calibration import collect_inputs

    inputs = collect_inputs(old.checkpoint.build_model(), held_out, seed=seed)
    found = []
    for done, layer in enumerate(new.manifest.layers):
        before, after = (measure_reads(build, {layer.name: inputs[layer.name]})[layer.name] for build in (old, new))
        found.append(LayerCalibration(layer.name, _x_max(old.layer(layer.name)), _x_max(layer), before, after))
        if progress is not None:
            progress("held-out sentences", done + 1, len(new.manifest.layers))
    return tuple(found)


def _x_max(layer: LayerPlan) -> dict[str, float]:
    return {group.name: group.x_max for group in layer.groups}


def _measure(layer: LayerPlan, values: NDArray[np.floating], engine: Engine, exact: Engine, cycles: int) -> ReadErrors:
    x_max = np.repeat([group.x_max for group in layer.groups], [group.size for group in layer.groups])
    clipped, squares, counts = np.zeros(2), np.zeros(2), np.zeros(2)
    for start in range(0, len(values), _STEPS):
        fractions = values[start : start + _STEPS].astype(np.float64) / x_max
        reading = engine.step({layer.name: engine.dac.encode(fractions)})[layer.name]
        wanted = exact.step({layer.name: fractions})[layer.name].analog
        trace = LayerTrace(layer.name)
        trace.record(engine, fractions, reading, wanted)
        off = np.concatenate([*layer.gate_sums(trace.error[0]).values()], axis=1)
        clipped += trace.clipped_inputs, trace.clipped_outputs
        squares += np.sum(trace.error[0] ** 2), np.sum(off**2)
        counts += trace.error[0].size, off.size
    rms = np.sqrt(squares / counts)
    shares = clipped / (values.size, counts[0] * cycles)  # of bit planes, every one counts
    return ReadErrors(*(float(each) for each in (*shares, *rms)))
