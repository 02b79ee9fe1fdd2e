"""Run: what a simulated sentence leaves behind, in memory and as a folder.

run/
  run.json          what `simulate --json` prints
  trace.npz         for each layer: inputs, codes, analog and exact readings, (steps, ...)
  waveforms/        `<tile>.raw` for each tile read in time, if any (`hvae_mnn.engines.spice.waveforms`)
"""

import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.engines.base import Engine, EngineInfo, Reading, Waveform
from hvae_mnn.engines.spice.waveforms import WaveformFolder, holds_only_waveforms, save_waveforms
from hvae_mnn.errors import ArtifactError
from hvae_mnn.model.text.corpus import Vocabulary
from hvae_mnn.runtime.folders import holds_only, written_whole

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

RUN_FILE = "run.json"
_FILES = (RUN_FILE, "trace.npz", "waveforms")
_TRACE_PARTS = ("inputs", "codes", "analog", "error")


@dataclass(frozen=True, slots=True)
class Transcript:
    """One side of the comparison: hardware or software.

    Attributes:
        tokens: Words said.
        text: The same as one string.
        mu: Posterior mean, (L,) or (T, L).
        logvar: Posterior log variance.
        z: Latent sample.
    """

    tokens: tuple[str, ...]
    text: str
    mu: Array
    logvar: Array
    z: Array

    @classmethod
    def from_tokens(
        cls, vocabulary: Vocabulary, ids: tuple[int, ...], mu: Array, logvar: Array, z: Array
    ) -> "Transcript":
        """Name the words of token numbers."""
        return cls(vocabulary.tokens(ids), vocabulary.decode(ids), mu, logvar, z)

    def to_json(self) -> dict[str, Any]:
        """Return the side as plain values."""
        values = {"mu": self.mu.tolist(), "logvar": self.logvar.tolist(), "z": self.z.tolist()}
        return {"tokens": list(self.tokens), "text": self.text, **values}


@dataclass(slots=True)
class LayerTrace:
    """What a layer read, cycle by cycle; a batch's sentences stand below each other in a step.

    Errors are of the read itself: the decoded reading against the exact sums of the same
    inputs, in units of ADC full scale, so they show what this cycle added and not what
    earlier cycles left.

    Attributes:
        name: Layer.
        inputs: For each step, inputs as fractions of full scale, (batch, inputs).
        codes: For each step, ADC codes, (batch, outputs).
        analog: For each step, fractions of full scale before the ADC, (batch, outputs).
        error: For each step, decoded codes less exact sums, (batch, outputs).
        clipped_inputs: Inputs beyond the DAC's range, counted over all steps.
        clipped_outputs: Column values beyond the ADC's range, counted over all steps.
    """

    name: str
    inputs: list[Array] = field(default_factory=list)
    codes: list[Array] = field(default_factory=list)
    analog: list[Array] = field(default_factory=list)
    error: list[Array] = field(default_factory=list)
    clipped_inputs: int = 0
    clipped_outputs: int = 0

    def record(self, engine: Engine, fractions: Array, reading: Reading, exact: Array) -> None:
        """Add a cycle."""
        self.inputs.append(fractions)
        self.codes.append(reading.codes)
        self.analog.append(reading.analog)
        self.error.append(engine.adc.decode(reading.codes) - exact)
        self.clipped_inputs += int(engine.dac.count_clipped(fractions).sum())
        self.clipped_outputs += int(reading.clipped.sum())

    @property
    def rms_error(self) -> float:
        """Root mean square of all errors, full scale."""
        return float(np.sqrt(np.mean(np.concatenate(self.error) ** 2)))

    @property
    def max_error(self) -> float:
        """Largest error, full scale."""
        return float(max(np.abs(step).max() for step in self.error))

    def rms_by_step(self) -> Array:
        """Return the root mean square error of each step, full scale, (steps,)."""
        return np.array([np.sqrt(np.mean(step**2)) for step in self.error])

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return _summary(self, len(self.error))


@dataclass(frozen=True, slots=True)
class LayerErrors:
    """The errors of a layer in one sentence of many, without the readings themselves.

    Attributes:
        name: Layer.
        steps: Steps read.
        rms_error: Root mean square of all errors, full scale.
        max_error: Largest error, full scale.
        clipped_inputs: Inputs beyond the DAC's range.
        clipped_outputs: Column values beyond the ADC's range.
    """

    name: str
    steps: int
    rms_error: float
    max_error: float
    clipped_inputs: int
    clipped_outputs: int

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return _summary(self, self.steps)


class BatchErrors:
    """The errors of a layer over a batch of sentences; arrays have one entry a sentence, (batch,).

    Attributes:
        name: Layer.
        steps: Steps read.
        inputs: Inputs read.
        values: Column values read.
        squares: Sum of the squares of their errors, full scale.
        largest: Largest error, full scale.
        clipped_inputs: Inputs beyond the DAC's range.
        clipped_outputs: Column values beyond the ADC's range.
    """

    def __init__(self, name: str, batch: int) -> None:
        self.name = name
        self.steps, self.inputs, self.values, self.clipped_inputs, self.clipped_outputs = np.zeros((5, batch), np.int64)
        self.squares, self.largest = np.zeros((2, batch))

    def add(self, sentences: NDArray[np.intp], inputs: int, clipped: tuple[Counts, Counts], error: Array) -> None:
        """Add a step of some sentences.

        Args:
            sentences: Which of the batch, (rows,).
            inputs: How many inputs the layer has.
            clipped: How many of them are beyond the DAC's range, and how many column values beyond the ADC's, (rows,).
            error: Errors of the column values, full scale, (rows, outputs).
        """
        error = np.ascontiguousarray(error)  # a sum's last digits depend on how the rows lie in memory
        self.steps[sentences] += 1
        self.inputs[sentences] += inputs
        self.values[sentences] += error.shape[1]
        self.squares[sentences] += np.einsum("bo,bo->b", error, error)
        self.largest[sentences] = np.maximum(self.largest[sentences], np.maximum(error.max(1), -error.min(1)))
        self.clipped_inputs[sentences] += clipped[0]
        self.clipped_outputs[sentences] += clipped[1]

    def of_sentence(self, i: int) -> LayerErrors:
        """Return the errors of one sentence."""
        rms = math.sqrt(self.squares[i] / self.values[i])
        counts = int(self.clipped_inputs[i]), int(self.clipped_outputs[i])
        return LayerErrors(self.name, int(self.steps[i]), rms, float(self.largest[i]), *counts)


def _summary(layer: LayerTrace | LayerErrors, steps: int) -> dict[str, Any]:
    names = ("rms_error", "max_error", "clipped_inputs", "clipped_outputs")
    return {"name": layer.name, "steps": steps} | {name: getattr(layer, name) for name in names}


@dataclass(frozen=True, slots=True)
class Run:
    """One sentence, simulated.

    Attributes:
        sentence: The text as given.
        tokens: Its words as the model read them.
        unknown: Words that are not in the vocabulary.
        hardware: What the circuit said.
        software: What the trained model said with the same noise, in float64.
        layers: Readings and errors of each layer.
        engine: Which engine.
        hardware_preset: Preset or file of the hardware.
        model_hash: SHA-256 of the model.
        seed: Seed of the noise.
        seconds: Time of the simulation, engine start and what was done before an interruption not counted.
        waveforms: Tiles that were read in time, by name; read from disk when asked for.
        build: Folder of the Build; None where it lay in memory or the run is an older one.
        build_hash: What `hvae_mnn.simulation.sentence.hash_build` said of it; None in older runs.
    """

    sentence: str
    tokens: tuple[str, ...]
    unknown: tuple[str, ...]
    hardware: Transcript
    software: Transcript
    layers: tuple[LayerTrace, ...]
    engine: EngineInfo
    hardware_preset: str
    model_hash: str
    seed: int
    seconds: float
    waveforms: Mapping[str, Waveform] = field(default_factory=dict)
    build: str | None = None
    build_hash: str | None = None

    @property
    def agreement(self) -> float:
        """Equal tokens at equal places, over the longer of the two sentences."""
        return share_equal(self.hardware.tokens, self.software.tokens)

    @property
    def parts_at(self) -> int | None:
        """Place of the first word that differs; None where the sentences are equal."""
        hardware, software = self.hardware.tokens, self.software.tokens
        if hardware == software:
            return None
        pairs = enumerate(zip(hardware, software, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(hardware), len(software)))

    def to_json(self) -> dict[str, Any]:
        """Return what `simulate --json` prints, as plain values."""
        return {
            "sentence": self.sentence,
            "tokens": list(self.tokens),
            "unknown": list(self.unknown),
            "hardware": self.hardware.to_json(),
            "software": self.software.to_json(),
            "agreement": self.agreement,
            "layers": [layer.to_json() for layer in self.layers],
            "engine": {"name": self.engine.name, "version": self.engine.version, "klu": self.engine.klu},
            "hardware_preset": self.hardware_preset,
            "model_hash": self.model_hash,
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "build": self.build,
            "build_hash": self.build_hash,
        }


def share_equal(first: Sequence[object], second: Sequence[object]) -> float:
    """Return equal tokens at equal places, over the longer of two sentences; 1 where both are empty."""
    longer = max(len(first), len(second))
    return sum(a == b for a, b in zip(first, second, strict=False)) / longer if longer else 1.0


def save_run(run: Run, folder: str | Path) -> None:
    """Write a Run whole or not at all; an older Run in the folder is replaced.

    Raises:
        ArtifactError: The folder holds something that is not a Run, or cannot be written.
    """
    folder = Path(folder)
    with written_whole(folder, may_replace_run) as draft:
        (draft / RUN_FILE).write_text(json.dumps(run.to_json(), indent=1) + "\n", encoding="utf-8")
        traces = {
            f"{layer.name}/{part}": np.concatenate(getattr(layer, part))
            for layer in run.layers
            for part in _TRACE_PARTS
        }
        np.savez_compressed(draft / "trace.npz", **traces)  # type: ignore[arg-type]
        if run.waveforms:
            save_waveforms(run.waveforms, draft / "waveforms")


def load_run(folder: str | Path) -> Run:
    """Open a Run.

    Raises:
        ArtifactError: Not a Run, or damaged.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise ArtifactError(f"{folder}: not a run (no {RUN_FILE}); make one with: hvae-mnn simulate --out {folder}")
    try:
        values = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        layers = _load_layers(folder, values["layers"])
        return Run(
            sentence=values["sentence"],
            tokens=tuple(values["tokens"]),
            unknown=tuple(values["unknown"]),
            hardware=_load_side(values["hardware"]),
            software=_load_side(values["software"]),
            layers=layers,
            engine=EngineInfo(**values["engine"]),
            hardware_preset=values["hardware_preset"],
            model_hash=values["model_hash"],
            seed=values["seed"],
            seconds=values["seconds"],
            waveforms=WaveformFolder(folder / "waveforms"),
            build=_text_or_none(values.get("build")),
            build_hash=_text_or_none(values.get("build_hash")),
        )
    except (OSError, EOFError, KeyError, TypeError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{folder}: the run is damaged ({error}); simulate again") from None


def may_replace_run(folder: Path) -> bool:
    """Say whether a folder is a Run and holds nothing besides."""
    return is_run(folder) and holds_only(folder, _FILES) and holds_only_waveforms(folder / "waveforms")


def is_run(folder: Path) -> bool:
    """Say whether a folder is a Run."""
    return (folder / RUN_FILE).is_file()


def _text_or_none(value: Any) -> str | None:
    """Return what a key that older runs have not holds."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _load_side(values: Mapping[str, Any]) -> Transcript:
    mu, logvar, z = (np.array(values[name]) for name in ("mu", "logvar", "z"))
    return Transcript(tuple(values["tokens"]), values["text"], mu, logvar, z)


def _load_layers(folder: Path, summaries: list[dict[str, Any]]) -> tuple[LayerTrace, ...]:
    with (folder / "trace.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        traces = []
        for summary in summaries:
            trace = LayerTrace(summary["name"])
            for part in _TRACE_PARTS:
                setattr(trace, part, [row[None] for row in arrays[f"{summary['name']}/{part}"]])
            trace.clipped_inputs, trace.clipped_outputs = summary["clipped_inputs"], summary["clipped_outputs"]
            traces.append(trace)
    return tuple(traces)
