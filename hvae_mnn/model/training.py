"""Training: a corpus and a configuration in, a checkpoint out, resumable at any moment.

Beside the target lies `<out>.training` while a run is under way: weights, optimiser, random state,
place in the epoch and the best weights so far. The same call picks it up, and the result is that
of a run that was never interrupted, bit for bit.
"""

import math
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvae_mnn.errors import TrainingError
from hvae_mnn.model.calibration import calibrate
from hvae_mnn.model.checkpoint import Checkpoint, save_checkpoint, save_torch
from hvae_mnn.model.corpus import Corpus, Sentence
from hvae_mnn.model.measures import evaluate_likelihood, measure_all
from hvae_mnn.model.objectives.base import parameters_of
from hvae_mnn.model.settings import ADDED, PRESETS, TrainConfig
from hvae_mnn.model.threads import torch_threads
from hvae_mnn.model.vae import TextVae, pad_batch

__all__ = [
    "PRESETS",
    "Progress",
    "TrainConfig",
    "TrainingEvent",
    "check_lengths",
    "check_state",
    "epoch_batches",
    "run_settings",
    "state_path",
    "train",
]

STATE_FORMAT = "hvae-mnn training state"
STATE_VERSION = 1
SECONDS_BETWEEN_SAVES = 120.0
_POOL = 50  # batches that are sorted by length together; chosen


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """How far a training run is; reported after every batch and after every epoch.

    Attributes:
        epoch: Epoch under way, from 1.
        epochs: All epochs.
        batch: Batches done in this epoch.
        batches: All batches of an epoch.
        train_loss: Mean loss of this epoch so far, nats a sentence.
        valid_loss: Loss on the validation split; only in the report that ends an epoch.
        best_epoch: Epoch of the lowest validation loss so far, 0 before there is one.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    train_loss: float
    valid_loss: float | None
    best_epoch: int


Progress = Callable[[TrainingEvent], None]


def train(
    corpus: Corpus,
    config: TrainConfig,
    out: str | Path,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
    provenance: Mapping[str, str] | None = None,
    seconds_between_saves: float = SECONDS_BETWEEN_SAVES,
) -> Checkpoint:
    """Train a model, measure it on the test split and save it.

    Args:
        corpus: Sentences to fit, to choose by and to measure on.
        config: Sizes, optimiser, seed.
        out: Where the checkpoint goes. `<out>.training` beside it holds the state of an
            unfinished run; the same call continues it.
        progress: Called with a `TrainingEvent` after every batch and every epoch.
        threads: Threads torch may use during the call; as they are if not given.
        provenance: More lines for the checkpoint's provenance, such as the command.
        seconds_between_saves: How often the state is saved inside an epoch, seconds.

    Raises:
        TrainingError: A loss or a figure is not finite, a sentence is too long, or the state beside `out`
            belongs to another run.
        CheckpointError: Something could not be written.
    """
    if Path(out).is_dir():
        raise TrainingError(
            f"{out} is a folder; expected the name of a checkpoint file to write. Choose another --out."
        )
    check_lengths(corpus, config)
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        run = _Run(corpus, config, Path(out), progress, seconds_between_saves)
        run.resume_or_start()
        run.fit()
        return run.finish(provenance or {})


def state_path(out: str | Path) -> Path:
    """Return where the state of an unfinished run to `out` lies."""
    path = Path(out)
    return path.with_name(path.name + ".training")


def check_state(corpus: Corpus, config: TrainConfig, out: str | Path) -> None:
    """Refuse to go on with a run that was started with something else; nothing is done without a state.

    Raises:
        TrainingError: The state beside `out` belongs to another run, or is none.
    """
    path = state_path(out)
    if not path.exists():
        return
    state = _load_state(path)
    try:
        _check_identity(_identity(corpus, config), state["identity"], path)
    except (KeyError, TypeError) as error:
        raise _foreign_state(path) from error


def check_lengths(corpus: Corpus, config: TrainConfig) -> None:
    """Refuse a corpus with sentences that the model cannot read.

    Raises:
        TrainingError: A split has one.
    """
    for split in ("train", "valid", "test"):
        longest = max(len(sentence) for sentence in getattr(corpus, split))
        if longest > config.max_length:
            raise TrainingError(
                f"corpus {corpus.name!r} has a sentence of {longest} words in its {split} split; the model "
                f"reads at most {config.max_length}. Raise max_length or cut the corpus."
            )


def epoch_batches(sentences: tuple[Sentence, ...], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of an epoch as places in `sentences`: shuffled, similar lengths together."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(sentences))
    batches: list[list[int]] = []
    for start in range(0, len(order), batch * _POOL):
        pool = sorted(order[start : start + batch * _POOL].tolist(), key=lambda place: len(sentences[place]))
        batches.extend(pool[first : first + batch] for first in range(0, len(pool), batch))
    return [batches[place] for place in rng.permutation(len(batches))]


class _Run:
    """One training run: the mutable state between `resume_or_start` and `finish`."""

    def __init__(
        self, corpus: Corpus, config: TrainConfig, out: Path, progress: Progress | None, interval: float
    ) -> None:
        self.corpus, self.config, self.out = corpus, config, out
        self.progress, self.interval = progress, interval
        torch.manual_seed(config.seed)
        self.model = TextVae(config.model_config(len(corpus.vocabulary)))
        self.model.output.training_dtype = getattr(torch, config.arithmetic)
        self.objective = config.make_objective()
        self.objective.prepare(self.model)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(),
            lr=config.learning_rate,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
        )
        self.epoch = 0
        self.batch = 0
        self.batches: list[list[int]] = []
        self.kl_weight = 1.0
        self.loss_sum = 0.0
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best = self._weights()
        self.saved_at = time.monotonic()

    def resume_or_start(self) -> None:
        """Continue from the state beside the target, if there is one."""
        path = state_path(self.out)
        if path.exists():
            self._restore(_load_state(path), path)
        self._save()

    def fit(self) -> None:
        """Run the epochs that are left."""
        while self.epoch < self.config.epochs:
            self._run_epoch()
            judged = self.corpus.valid[: self.objective.judged]
            valid = self.objective.judge(evaluate_likelihood(self.model, judged, seed=self.config.seed))
            if not math.isfinite(valid):
                raise self._diverged(f"validation loss is {valid} in epoch {self.epoch + 1}")
            if valid < self.best_loss:
                self.best_loss, self.best_epoch, self.best = valid, self.epoch + 1, self._weights()
            self.objective.end_epoch(self.model, self.corpus.valid, self.config.seed)
            self._report(valid)
            self.epoch, self.batch, self.loss_sum = self.epoch + 1, 0, 0.0
            self._save()

    def finish(self, provenance: Mapping[str, str]) -> Checkpoint:
        """Calibrate, measure and save the best weights; remove the state.

        A model that crossbars are not compiled for is not calibrated.
        """
        weights = {name: value.numpy() for name, value in self.objective.exported(self.best).items()}
        checkpoint = Checkpoint(self.model.config, self.corpus.vocabulary, weights)
        checkpoint = checkpoint.rounded(self.config.precision)
        model = checkpoint.build_model()
        if model.config.on_circuit:
            calibration = calibrate(model, self.corpus.train, seed=self.config.seed)
            checkpoint = replace(checkpoint, calibration=calibration.samples, ranges=calibration.ranges)
        checkpoint = replace(
            checkpoint,
            metrics=self._measured(model) | {"best_epoch": float(self.best_epoch), "valid_loss": self.best_loss},
            provenance=run_settings(self.corpus, self.config) | dict(provenance),
        )
        save_checkpoint(checkpoint, self.out, precision=self.config.precision)
        state_path(self.out).unlink(missing_ok=True)
        return checkpoint

    def update(self, sentences: Sequence[Sentence], parts: str = "all") -> float:
        """Take one optimiser step on a batch; see `hvae_mnn.model.objectives.base.Trainer`."""
        moved = parameters_of(self.model, parts)
        self.optimiser.zero_grad()
        with _only(moved, self.model):  # Adam leaves out what has no gradient
            loss = self.objective.loss(self.model, pad_batch(sentences), self.kl_weight)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._diverged(f"training loss is {value} in epoch {self.epoch + 1}, batch {self.batch + 1}")
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(moved, self.config.clip)
        self.optimiser.step()
        return value

    def draw_batch(self) -> list[Sentence]:
        """Return a batch of this epoch at random."""
        return self._sentences(int(torch.randint(len(self.batches), ())))

    def _run_epoch(self) -> None:
        self.batches = epoch_batches(self.corpus.train, self.config.batch, self.config.seed, self.epoch)
        self.model.train()
        while self.batch < len(self.batches):
            done = self.epoch + self.batch / len(self.batches)
            self._set_learning_rate(done / self.config.epochs)
            self.kl_weight = self.objective.kl_weight(done, self.config.epochs)
            self.loss_sum += self.objective.step(self, self._sentences(self.batch))
            self.batch += 1
            self._report(None)
            if time.monotonic() - self.saved_at > self.interval:
                self._save()

    def _sentences(self, batch: int) -> list[Sentence]:
        return [self.corpus.train[place] for place in self.batches[batch]]

    def _set_learning_rate(self, done: float) -> None:
        share = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * share

    def _report(self, valid_loss: float | None) -> None:
        if self.progress is None:
            return
        batches = math.ceil(len(self.corpus.train) / self.config.batch)
        mean = self.loss_sum / max(self.batch, 1)
        self.progress(
            TrainingEvent(self.epoch + 1, self.config.epochs, self.batch, batches, mean, valid_loss, self.best_epoch)
        )

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _save(self) -> None:
        state = {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "identity": _identity(self.corpus, self.config),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "place": (self.epoch, self.batch, self.loss_sum),
            "best": (self.best_loss, self.best_epoch, self.best),
            "objective": self.objective.state(),
        }
        save_torch(state, state_path(self.out))
        self.saved_at = time.monotonic()

    def _restore(self, state: Mapping[str, Any], path: Path) -> None:
        try:
            _check_identity(_identity(self.corpus, self.config), state["identity"], path)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            torch.set_rng_state(state["random"])
            self.epoch, self.batch, self.loss_sum = state["place"]
            self.best_loss, self.best_epoch, self.best = state["best"]
            self.objective.restore(state.get("objective", {}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _foreign_state(path) from error

    def _measured(self, model: TextVae) -> dict[str, float]:
        figures = measure_all(model, self.corpus.test, seed=self.config.seed)
        for name, value in figures.items():
            if not math.isfinite(value) and name != "elbo_nll_standard_error":  # of one sentence there is none
                raise self._diverged(f"{name} is {value} on the test split")
        return figures

    def _diverged(self, found: str) -> TrainingError:
        options = dict(self.config.objective_options)
        too_large = f"the training option learning_rate (now {self.config.learning_rate:g})"
        if "rate" in options:
            too_large += f" or the option rate of objective {self.config.objective} (now {options['rate']:g})"
        return TrainingError(
            f"{found}; expected a finite number. Lower {too_large} and delete {str(state_path(self.out))!r}."
        )


@contextmanager
def _only(moved: Sequence[nn.Parameter], model: TextVae) -> Iterator[None]:
    """Take gradients of some parameters of a model alone: those of the others are not worked out."""
    wanted = {id(parameter) for parameter in moved}
    others = [each for each in model.parameters() if each.requires_grad and id(each) not in wanted]
    try:
        for parameter in others:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _load_state(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickle protocols before it refuses the file
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError) as error:
        raise _foreign_state(path) from error
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise _foreign_state(path)
    if state.get("version") != STATE_VERSION:
        raise TrainingError(
            f"training state {str(path)!r} has version {state.get('version')!r}; this program reads "
            f"{STATE_VERSION}. Delete it to start again."
        )
    return state


def _foreign_state(path: Path) -> TrainingError:
    return TrainingError(
        f"{str(path)!r} is not the state of a training run or is damaged; expected one written by "
        "`hvae-mnn train`. Delete it to start again."
    )


def _identity(corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    """What decides the weights; precision only rounds them at the end, so a run may finish at another."""
    settings = {name: value for name, value in config.stored().items() if name != "precision"}
    return settings | {"corpus": corpus.fingerprint()}


def _check_identity(expected: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    expected, found = {**ADDED, **expected}, {**ADDED, **found}
    names = [name for name in expected if _plain(expected[name]) != _plain(found.get(name))]
    if names:
        pairs = ", ".join(
            "another corpus" if name == "corpus" else f"{name} {found.get(name)} (now {expected[name]})"
            for name in names
        )
        raise TrainingError(
            f"training state {str(path)!r} belongs to another run: {pairs}; expected the same options and "
            "corpus. Repeat the first command, choose another --out, or delete the state."
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def run_settings(corpus: Corpus, config: TrainConfig) -> dict[str, str]:
    """Return the corpus and all settings of a run, as checkpoints have them in their provenance."""
    settings = {name: str(_plain(value)) for name, value in config.stored().items()}
    return {"corpus": corpus.name, "corpus_sha256": corpus.fingerprint(), **settings}
