"""A study from file to table: one row after another, each trained, measured and written before the next begins.

OUT/
  study.json          what makes the folder a study's: seconds of training by row
  NAME.pt             the model of a row; NAME.pt.training beside it while it is under way
  NAME.json           its settings and its evaluation
  results.md, .csv    the table so far
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvae_mnn.errors import ArtifactError, StudyError, UserError
from hvae_mnn.experiments.model_table.plan import ModelStudy, Row
from hvae_mnn.experiments.model_table.results import (
    CHANGED,
    OTHERWISE,
    Record,
    format_table,
    make_records,
    measured,
    without_language_model,
    write_results,
)
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint
from hvae_mnn.model.evaluation.evaluate import Extent, evaluate
from hvae_mnn.model.evaluation.evaluate import Progress as EvaluationProgress
from hvae_mnn.model.network.threads import torch_threads
from hvae_mnn.model.text.corpus import Corpus, load_corpus
from hvae_mnn.model.training.settings import ADDED
from hvae_mnn.model.training.train import (
    Progress,
    TrainingEvent,
    check_lengths,
    check_state,
    run_settings,
    state_path,
    train,
)
from hvae_mnn.runtime.folders import LOCK, disk_failures, holds_only, lock_folder, write_file

IMPORTANCE_SENTENCES = 50

_FOLDER_FORMAT, _ROW_FORMAT = "hvae-mnn study", "hvae-mnn study row"
_MARK = "study.json"


def _say_nothing(*told: Any) -> None:
    """Stand in for whatever shows how far a study is."""


@dataclass(frozen=True, slots=True)
class Screen:
    """How a study says how far it is.

    Attributes:
        tell: Takes a line for each row that begins or is there already.
        training: Opens what takes the events of one training run.
        evaluation: Opens what takes the progress of one evaluation.
    """

    tell: Callable[[str], None] = _say_nothing
    training: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(_say_nothing)
    evaluation: Callable[[], AbstractContextManager[EvaluationProgress]] = lambda: nullcontext(_say_nothing)


def run_study(
    study: ModelStudy,
    corpus: str | Path,
    out: Path,
    *,
    only: Collection[str] = (),
    importance_sentences: int = IMPORTANCE_SENTENCES,
    threads: int | None = None,
    provenance: Mapping[str, str] | None = None,
    screen: Screen = Screen(),
) -> list[Record]:
    """Train and measure the rows of a study that are not finished, and write its table after each.

    Args:
        study: The rows.
        corpus: `grammar`, or a folder with the three splits.
        out: Folder to write. The same call goes on with what is there.
        only: Names of the rows to run; all of them if empty.
        importance_sentences: Test sentences that importance weighting is computed on.
        threads: Threads torch may use, in place of the study's.
        provenance: More lines for the provenance of the checkpoints, such as the command.
        screen: Says how far it is.

    Returns:
        The lines of the table; see `hvae_mnn.experiments.model_table.results`.

    Raises:
        StudyError: A row was trained with other settings or on another corpus, or cannot be trained.
        ArtifactError: The folder holds something else, is in use, or cannot be written.
        CorpusError: The corpus cannot be read.
    """
    rows, words = study.chosen(only), load_corpus(corpus)
    with _held(out), torch_threads(threads or study.threads):
        run = _StudyRun(study, words, corpus, out, importance_sentences, dict(provenance or {}), screen)
        for row in rows:
            with _named(row):
                run.check(row)
        run.records()  # so that a damaged file of any row is said before hours of training
        for number, row in enumerate(rows, start=1):
            with _named(row):
                run.run(row, f"row {row.name} ({number} of {len(rows)})")
            run.write()
        return run.records()


@contextmanager
def _named(row: Row) -> Iterator[None]:
    """Say of which row an error is."""
    try:
        yield
    except UserError as error:
        raise StudyError(f"row {row.name}: {error}") from None


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Hold the folder of a study; make it where it is not there.

    Raises:
        ArtifactError: It holds something else, another process writes there, or the disk fails.
    """
    if out.exists() and not out.is_dir():
        raise ArtifactError(f"{out}: is a file; expected a folder or a new name. Choose another --out")
    if out.is_dir() and not (out / _MARK).exists() and not holds_only(out, (LOCK,)):
        raise ArtifactError(f"{out}: the folder holds something else than a study; choose another --out or empty it")
    with disk_failures(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(out, "study")
    with lock:
        yield


@dataclass(slots=True)
class _StudyRun:
    """A study under way; `finished` holds what each finished row's file does."""

    study: ModelStudy
    words: Corpus
    corpus: str | Path
    out: Path
    importance_sentences: int
    provenance: dict[str, str]
    screen: Screen
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mark = self.out / _MARK
        if mark.exists():
            self.seconds = _load_seconds(mark)
        else:
            self._write_mark()

    def check(self, row: Row) -> None:
        """Refuse a row that cannot be trained, or whose files are of something else.

        Raises:
            StudyError: They are, or are damaged.
            TrainingError: A sentence is too long, or the state of the row's training is of something else.
            CheckpointError: The row's model cannot be opened.
        """
        model = self._model(row)
        check_lengths(self.words, row.config)
        check_state(self.words, row.config, model)
        if self._figures(row).exists():
            _load_figures(self._figures(row), row)
        if model.exists() and (changes := self._changes(row, load_checkpoint(model))):
            raise StudyError(
                f"{model} is not what the row trains: {', '.join(changes)}; expected the same. Delete {model} to "
                "train it again, give the row another name, or name the rows to run with --only"
            )

    def run(self, row: Row, label: str) -> None:
        """Train a row and measure it, as far as that has not been done."""
        checkpoint = load_checkpoint(self._model(row)) if self._model(row).exists() else self._train(row, label)
        plain = None if row.plain else self._plain()
        identity, path = self._identity(checkpoint, plain), self._figures(row)
        if path.exists() and _load_figures(path, row)["identity"] == identity:
            self.screen.tell(f"{label}: finished before")
            return
        self.screen.tell(f"{label}: measuring")
        with self.screen.evaluation() as progress:
            found = evaluate(
                checkpoint,
                self.corpus,
                name=row.name,
                language_model=plain,
                seed=self.study.seed,
                extent=Extent(importance=self.importance_sentences),
                progress=progress,
            )
        figures = {
            "format": _ROW_FORMAT,
            "row": row.name,
            "settings": row.config.stored(),
            "identity": identity,
            "best_epoch": int(checkpoint.metrics["best_epoch"]),
            "seconds": self.seconds.get(row.name),
            "evaluation": found.to_json(),
        }
        write_file(path, json.dumps(figures, indent=1) + "\n")

    def records(self) -> list[Record]:
        """Return the lines of the table so far; figures that this study would not measure again are left out."""
        found: dict[str, Mapping[str, Any]] = {}
        hidden: dict[str, str] = {}
        plain = self._plain()
        for row in self.study.rows:
            path, model = self._figures(row), self._model(row)
            if not (path.exists() and model.exists()):
                continue
            checkpoint = load_checkpoint(model)
            if self._changes(row, checkpoint):
                hidden[row.name] = CHANGED
                continue
            figures, identity = _load_figures(path, row), self._identity(checkpoint, None if row.plain else plain)
            odd = {name for name, value in identity.items() if figures["identity"].get(name) != value}
            if not odd:
                found[row.name] = figures
            elif odd == {"language_model"}:
                found[row.name] = without_language_model(figures)
            elif "model" not in odd:
                hidden[row.name] = OTHERWISE
        return make_records(self.study, found, hidden)

    def write(self) -> None:
        """Write the table so far."""
        plain = self.study.language_model
        write_results(self.out, self.records(), None if plain is None else plain.name)

    def _train(self, row: Row, label: str) -> Checkpoint:
        self.screen.tell(f"{label}: training")
        began, spent = time.monotonic(), 0.0
        if state_path(self._model(row)).exists():
            spent = self.seconds.get(row.name, 0.0)

        def keep_seconds() -> None:
            self.seconds[row.name] = spent + time.monotonic() - began
            self._write_mark()

        try:
            with self.screen.training() as progress:

                def report(event: TrainingEvent) -> None:
                    progress(event)
                    if event.valid_loss is not None:  # a process that is killed runs no `finally`
                        keep_seconds()

                return train(self.words, row.config, self._model(row), progress=report, provenance=self.provenance)
        finally:
            keep_seconds()

    def _identity(self, checkpoint: Checkpoint, plain: Checkpoint | None) -> dict[str, Any]:
        """Return what decides the figures of a model that is held against a language model."""
        return {
            "model": checkpoint.content_hash(),
            "language_model": None if plain is None else plain.content_hash(),
            "importance_sentences": self.importance_sentences,
            "seed": self.study.seed,
        }

    def _plain(self) -> Checkpoint | None:
        """Return the language model that other rows are held against, once it is trained."""
        plain = self.study.language_model
        if plain is None or not self._model(plain).exists():
            return None
        found = load_checkpoint(self._model(plain))
        return None if self._changes(plain, found) else found

    def _changes(self, row: Row, checkpoint: Checkpoint) -> list[str]:
        """Return what a checkpoint was trained with that the row does not say, and what became of it since."""
        usual = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in ADDED.items()}
        wanted = usual | run_settings(self.words, row.config)
        found = {name: checkpoint.provenance.get(name, usual.get(name)) for name in wanted if name != "corpus"}
        odd = [name for name, value in found.items() if value != wanted[name]]
        changes = [
            "another corpus" if name == "corpus_sha256" else f"{name} {found[name]} (now {wanted[name]})"
            for name in odd
        ]
        if "pruned" in checkpoint.provenance:
            changes.append("it was pruned")
        elif not changes and checkpoint.config != row.config.model_config(len(self.words.vocabulary)):
            changes.append("other sizes than those in its provenance")
        return changes

    def _model(self, row: Row) -> Path:
        return self.out / f"{row.name}.pt"

    def _figures(self, row: Row) -> Path:
        return self.out / f"{row.name}.json"

    def _write_mark(self) -> None:
        write_file(self.out / _MARK, json.dumps({"format": _FOLDER_FORMAT, "seconds": self.seconds}, indent=1) + "\n")


def _load_seconds(path: Path) -> dict[str, float]:
    """Read the seconds of training by row.

    Raises:
        StudyError: The file is not what a study wrote.
    """
    found = _load_json(path, _FOLDER_FORMAT).get("seconds")
    if not isinstance(found, dict) or not all(isinstance(value, int | float) for value in found.values()):
        raise _damaged(path)
    return found


def _load_figures(path: Path, row: Row) -> dict[str, Any]:
    """Read the file of a finished row.

    Raises:
        StudyError: It is not what a study wrote; something that the table needs may be missing in it.
    """
    found = _load_json(path, _ROW_FORMAT)
    try:
        format_table(measured(row, found))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(found.get("identity"), dict):
        raise _damaged(path)
    return found


def _load_json(path: Path, kind: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != kind:
        raise _damaged(path)
    return found


def _damaged(path: Path) -> StudyError:
    return StudyError(f"{path}: is not a file of a study or is damaged; expected one that it wrote. Move it away")
