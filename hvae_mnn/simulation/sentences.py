"""Many sentences through the circuit, in batches, with the decks loaded once."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.open import open_engine
from hvae_mnn.errors import ArtifactError, SentenceError
from hvae_mnn.runtime.folders import unfinished_folder, write_file
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.simulation.journal import Journal
from hvae_mnn.simulation.orchestrator import DigitalHalf, Simulation
from hvae_mnn.simulation.sentence import Words, draw_noise, hash_build, make_run, read_sentence, reference_sides

DEFAULT_BATCH = {"spice": 1, "nodal": 64, "software": 64}
"""Sentences at once by backend: ngspice gains nothing from more."""


def read_lines(build: Build, path: Path, limit: int | None = None) -> list[Words]:
    """Read a file with a sentence a line; empty lines are left out.

    Args:
        build: Whose vocabulary names the words.
        path: Text in UTF-8.
        limit: Most sentences to take, from the first; all if not given.

    Raises:
        SentenceError: The file cannot be read, holds no sentence, or one that the model cannot read.
    """
    lines: list[Words] = []
    for number, text in enumerate(_read_text(path).removeprefix("\ufeff").split("\n"), 1):
        if not text.strip():
            continue
        if limit is not None and len(lines) == limit:
            break
        try:
            lines.append(read_sentence(build, text.strip()))
        except SentenceError as error:
            raise SentenceError(f"{path}, line {number}: {error}") from None
    if not lines:
        raise SentenceError(f"{path}: no sentence in the file; expected one a line")
    return lines


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SentenceError(f"{path}: not UTF-8 at byte {error.start}; expected text, a sentence a line") from None
    except OSError as error:
        raise SentenceError(f"{path}: cannot be read: {error.strerror}; expected text, a sentence a line") from None


def open_lines_journal(
    out: Path, build: Build, lines: Sequence[Words], *, backend: str, seed: int, batch: int
) -> Journal:
    """Open the journal of a simulation whose results shall lie at `out`; an interrupted one of the same goes on.

    The other arguments are those of `simulate_lines`.

    Raises:
        ArtifactError: As `Journal`.
    """
    texts = [line.text for line in lines]
    read = {"build": hash_build(build), "sentences": texts, "count": len(texts), "batch": batch}
    return Journal(unfinished_folder(out), read | {"backend": backend, "seed": seed})


def simulate_lines(
    build: Build,
    lines: Sequence[Words],
    journal: Journal,
    *,
    backend: str = "spice",
    seed: int = 0,
    workers: int | None = None,
    batch: int = 1,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Run sentences, and yield for each what `simulate --json` prints of one, in their order.

    Sentence i has the seed `seed + i`. What an interrupted simulation of the same has done is not done again.

    Args:
        build: A compiled model.
        lines: The sentences.
        journal: Keeps what is done; its identity holds `batch`.
        backend: `spice`, `nodal` or `software`.
        seed: Seed of the first sentence's reparameterisation noise.
        workers: Processes of the spice backend; as many as cores if not given.
        batch: Sentences at once.
        progress: Called with stage, how much is done and how much there is.

    Raises:
        EngineError: The engine is missing, failed or died.
        ArtifactError: The journal cannot be written.
    """
    done = journal.results()
    yield from done
    if len(done) == len(lines):
        return
    with open_engine(build, backend, workers, progress=progress) as engine:
        engine.restore(journal.states())
        digital = DigitalHalf.of_build(build)
        for start in range(len(done), len(lines), batch):
            if progress is not None:
                progress("sentences", start, len(lines))
            engine.begin(journal.batch)
            seeds = range(seed + start, seed + min(start + batch, len(lines)))
            results = _simulate_batch(build, engine, digital, lines[start : start + batch], seeds, journal, progress)
            journal.end_batch(results, engine.states())
            yield from results
    if progress is not None:
        progress("sentences", len(lines), len(lines))


def _simulate_batch(
    build: Build,
    engine: Engine,
    digital: DigitalHalf,
    lines: Sequence[Words],
    seeds: range,
    journal: Journal,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    sentences = [line.ids for line in lines]
    noises = [draw_noise(build, ids, seed) for ids, seed in zip(sentences, seeds, strict=True)]
    spice = engine.info.name == "spice"  # of the others a batch is a matter of seconds
    began = time.perf_counter()
    shown, kept = (progress, journal) if spice else (None, None)
    simulation = Simulation(build, engine, shown, kept, whole=False, digital=digital)
    outcomes = simulation.run(sentences, noises)
    seconds = (time.perf_counter() - began) / len(lines)
    results = []
    sides, build_hash = reference_sides(build, digital, sentences, noises), hash_build(build)
    for i, (line, outcome, side, seed) in enumerate(zip(lines, outcomes, sides, seeds, strict=True)):
        run = make_run(build, line, outcome, side, engine, seed, seconds, build_hash)
        results.append(
            run.to_json() | {"layers": [layer.of_sentence(i).to_json() for layer in simulation.errors.values()]}
        )
    return results


def check_results_file(path: Path) -> None:
    """Refuse to overwrite what is not a file of results.

    Raises:
        ArtifactError: It is a folder, or holds something else.
    """
    if path.is_dir():
        raise ArtifactError(f"{path}: is a folder; expected the name of a file of JSON lines. Choose another --out")
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with path.open(encoding="utf-8") as file:
            ours = "hardware_preset" in json.loads(file.readline())
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise ArtifactError(f"{path}: the file holds something else, which would be lost; choose another --out")


def save_results(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write results whole or not at all, one JSON object a line.

    Raises:
        ArtifactError: The file cannot be written.
    """
    write_file(path, "".join(json.dumps(result) + "\n" for result in results))
