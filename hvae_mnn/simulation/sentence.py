"""One sentence through the circuit, beside what the trained model says of it with the same noise."""

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.open import open_engine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.engines.spice.recording import Recording
from hvae_mnn.errors import SentenceError
from hvae_mnn.model.config import check_sentence
from hvae_mnn.runtime.folders import unfinished_folder
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.simulation.journal import Journal
from hvae_mnn.simulation.orchestrator import DigitalHalf, Ids, Outcome, Simulation
from hvae_mnn.simulation.run import Run, Transcript

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence as the model reads it.

    Attributes:
        text: As it was given.
        ids: Word numbers.
        unknown: Words that are not in the vocabulary.
    """

    text: str
    ids: Ids
    unknown: tuple[str, ...]


def read_sentence(build: Build, text: str) -> Words:
    """Turn text into word numbers.

    Raises:
        SentenceError: No words, too many, or only unknown ones.
    """
    ids, unknown = build.checkpoint.vocabulary.encode(text)
    check_sentence(ids, build.checkpoint.config)
    if len(unknown) == len(ids):
        raise SentenceError(
            f"none of the sentence's words is in the model's vocabulary of {len(build.checkpoint.vocabulary)} "
            f"words ({', '.join(unknown[:5])}); use words of the text the model was trained on"
        )
    return Words(text, ids, unknown)


def simulate_sentence(
    build: Build,
    text: str,
    *,
    backend: str = "spice",
    seed: int = 0,
    workers: int | None = None,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run one sentence on an engine and on the software model, with the same noise.

    Args:
        build: A compiled model.
        text: Words separated by spaces.
        backend: `spice`, `nodal` or `software`.
        seed: Seed of the reparameterisation noise.
        workers: Processes of the spice backend; as many as cores if not given.
        transient: Tiles read in time, whose waveforms are kept, by name or pattern; `all` for every tile.
        recording: What is kept of their waveforms, and where.
        journal: What an interrupted spice simulation of the same has read already; what is read now is added.
        progress: Called with stage, steps done and steps in all.

    Raises:
        SentenceError: The sentence cannot be read by the model.
        EngineError: The engine is missing, failed or died.
        ArtifactError: A pattern fits nothing, or waveforms or the journal cannot be written.
    """
    words = read_sentence(build, text)
    noise, digital = draw_noise(build, words.ids, seed), DigitalHalf.of_build(build)
    with open_engine(build, backend, workers, transient, recording, progress, resident=False) as engine:
        if journal is not None and isinstance(engine, SpiceEngine):
            engine.keep_cycles(journal.reads())
        began = time.perf_counter()
        simulation = Simulation(build, engine, progress, journal if backend == "spice" else None, digital=digital)
        (outcome,) = simulation.run([words.ids], [noise])
        seconds = time.perf_counter() - began
        waveforms = engine.waveforms() if isinstance(engine, SpiceEngine) else {}
    (software,) = reference_sides(build, digital, [words.ids], [noise])
    run = make_run(build, words, outcome, software, engine, seed, seconds, hash_build(build))
    return replace(run, layers=tuple(simulation.traces.values()), waveforms=waveforms)


def open_journal(
    out: Path,
    build: Build,
    text: str,
    *,
    backend: str,
    seed: int,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
) -> Journal:
    """Open the journal of a simulation whose Run shall lie at `out`; an interrupted one of the same goes on.

    The other arguments are those of `simulate_sentence`: all that decides what is read, and what is kept of it.

    Raises:
        ArtifactError: As `Journal`.
    """
    kept = {"signals": recording.signals, "every": recording.every, "limit": recording.limit}
    read = {"build": hash_build(build), "sentence": text, "backend": backend, "seed": seed}
    return Journal(unfinished_folder(out), read | {"waveforms": tuple(transient)} | kept)


def make_run(
    build: Build,
    words: Words,
    outcome: Outcome,
    software: Transcript,
    engine: Engine,
    seed: int,
    seconds: float,
    build_hash: str,
) -> Run:
    """Return a Run without readings and waveforms: what went in, what came out, and from what."""
    vocabulary = build.checkpoint.vocabulary
    return Run(
        sentence=words.text,
        tokens=vocabulary.tokens(words.ids),
        unknown=words.unknown,
        hardware=Transcript.from_tokens(vocabulary, outcome.tokens, outcome.mu, outcome.logvar, outcome.z),
        software=software,
        layers=(),
        engine=engine.info,
        hardware_preset=build.manifest.hardware_name,
        model_hash=build.manifest.model_hash,
        seed=seed,
        seconds=seconds,
        build=None if build.folder is None else str(build.folder.resolve()),
        build_hash=build_hash,
    )


def hash_build(build: Build) -> str:
    """Return a SHA-256 of the model, the hardware and the calibration: what decides how a Build reads.

    Calibration counts as files hold it, in 16 bits. Left out are tiles, which differ in their last digits from
    machine to machine, and values of the hardware that are not set.
    """
    checkpoint = build.checkpoint
    digest = hashlib.sha256(build.manifest.model_hash.encode())
    digest.update(build.manifest.hardware.model_dump_json(exclude_defaults=True).encode())
    digest.update(json.dumps(checkpoint.ranges, sort_keys=True).encode())
    for layer in sorted(checkpoint.calibration):
        digest.update(checkpoint.calibration[layer].astype(np.float16).tobytes())
    return digest.hexdigest()


def draw_noise(build: Build, ids: Ids, seed: int) -> Array:
    """Return the standard normal numbers of the reparameterisation, (L,) or (T, L)."""
    return build.checkpoint.config.draw_noise(len(ids), seed)


def reference_sides(
    build: Build, digital: DigitalHalf, sentences: Sequence[Ids], noises: Sequence[Array]
) -> list[Transcript]:
    """Return what the trained model itself says, in float64, with the same noise."""
    found = digital.software(build).run(sentences, noises)
    return [
        Transcript.from_tokens(build.checkpoint.vocabulary, each.tokens, each.mu, each.logvar, each.z) for each in found
    ]
