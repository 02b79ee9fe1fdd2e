"""The options of a training run, and the presets they start from."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hvae_mnn.errors import TrainingError
from hvae_mnn.model.config import ADDED as ADDED_TO_MODELS
from hvae_mnn.model.config import PRECISIONS, ModelConfig
from hvae_mnn.model.training.objectives import Objective, complete_options, find_objective

ARITHMETICS = ("float32", "bfloat16")
_NEW: Mapping[str, Any] = {"objective": "hsr", "objective_options": (), "arithmetic": "float32"}
ADDED: Mapping[str, Any] = {"peepholes": ADDED_TO_MODELS["peepholes"], **_NEW}
"""Values that states of the first training runs do not have, and what they stand for there."""
_WITHOUT_WARMUP = {"cyclical": "has its own schedule", "short-run": "charges no KL in training"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the outcome of a training run, besides the corpus.

    Attributes:
        preset: Name of the preset these values started from.
        encoder: Cells of encoder 1 and encoder 2, or one cell.
        decoder: Cell of the decoder.
        latent_mode: `last`, `per-step` or `none`; see `ModelConfig`.
        embedding: Width of the word embeddings.
        hidden: Width of the recurrent layers, or of each encoder layer and the decoder.
        latent: Width of the latent.
        embedding_dropout: Share of embedding entries dropped.
        word_dropout: Share of decoder input words replaced by `<unk>`, which makes the decoder lean
            on z.
        max_length: Longest sentence, words.
        learning_rate: Adam's step size at the start; it falls to a twentieth along a cosine.
        weight_decay: L2 penalty.
        adam_eps: Adam's epsilon.
        clip: Largest norm of the gradient.
        kl_warmup: Epochs over which the weight of the KL rises from 0 to 1; 0 for none, as the paper. `cyclical`
            and `short-run` have none.
        batch: Sentences a step.
        epochs: Passes over the training split.
        seed: Seed of initial weights, order, dropout and sampling.
        peepholes: Whether `lstm` layers have peepholes; see `ModelConfig`.
        precision: How the final weights are rounded, measured and stored: `float32`, `float16` or `bfloat16`.
        arithmetic: What the output layer is computed in while training, `float32` or `bfloat16`; see
            `hvae_mnn.model.network.output`. Validation and measurement are in float32.
        objective: What is minimised and how; see `hvae_mnn.model.training.objectives`.
        objective_options: Names and numbers that it takes; those not given are added at their defaults.
    """

    preset: str = "tiny"
    encoder: tuple[str, ...] = ("lstm", "lstm")
    decoder: str = "lstm"
    latent_mode: str = "last"
    embedding: int = 64
    hidden: int | tuple[int, ...] = 64
    latent: int = 32
    embedding_dropout: float = 0.0
    word_dropout: float = 0.0
    max_length: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    adam_eps: float = 1e-8
    clip: float = 5.0
    kl_warmup: float = 0.0
    batch: int = 64
    epochs: int = 20
    seed: int = 0
    peepholes: bool = False
    precision: str = "float32"
    arithmetic: str = "float32"
    objective: str = "hsr"
    objective_options: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adam_eps", "clip", "batch", "epochs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise TrainingError(f"training option {name} is {value}; expected more than 0. Change it.")
        for name in ("weight_decay", "kl_warmup"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise TrainingError(f"training option {name} is {value}; expected 0 or more. Change it.")
        for name, known in (("precision", PRECISIONS), ("arithmetic", ARITHMETICS)):
            if (choice := getattr(self, name)) not in known:
                raise TrainingError(
                    f"training option {name} is {choice!r}; expected one of {', '.join(known)}. Change it."
                )
        options = complete_options(self.objective, self.objective_options)
        object.__setattr__(self, "objective_options", options)
        self._check_objective()
        object.__setattr__(self, "hidden", self.model_config(vocabulary_size=5).hidden)

    def model_config(self, vocabulary_size: int) -> ModelConfig:
        """Return the sizes and wiring for a vocabulary."""
        wiring = find_objective(self.objective).wiring(dict(self.objective_options))
        names = {entry.name for entry in fields(ModelConfig)} & {entry.name for entry in fields(self)}
        return ModelConfig(vocabulary_size=vocabulary_size, **{name: getattr(self, name) for name in names}, **wiring)

    def make_objective(self) -> Objective:
        """Return the objective of one training run."""
        return find_objective(self.objective)(dict(self.objective_options), self.kl_warmup)

    def stored(self) -> dict[str, Any]:
        """Return the values by name as files hold them; what the first files do not have is left out at its default."""
        return {name: value for name, value in asdict(self).items() if name not in _NEW or _NEW[name] != value}

    def _check_objective(self) -> None:
        kind = find_objective(self.objective)
        if self.latent_mode not in kind.latent_modes:
            raise TrainingError(
                f"training option latent_mode is {self.latent_mode!r} with objective {self.objective}; expected "
                f"{' or '.join(kind.latent_modes)}. Change it or choose another objective."
            )
        if len(self.encoder) not in kind.encoder_layers:
            wanted = " or ".join(("one cell", "two cells")[count - 1] for count in kind.encoder_layers)
            raise TrainingError(
                f"training option encoder is {'+'.join(self.encoder)} with objective {self.objective}; expected "
                f"{wanted}. Change it{' or choose objective twr' if self.objective == 'hsr' else ''}."
            )
        if self.kl_warmup and self.objective in _WITHOUT_WARMUP:
            raise TrainingError(
                f"training option kl_warmup is {self.kl_warmup:g} with objective {self.objective}, which "
                f"{_WITHOUT_WARMUP[self.objective]}; expected 0. Set it to 0."
            )


PRESETS: Mapping[str, TrainConfig] = {
    # The shipped Penn Treebank model: the whole vocabulary in less than 5 MB of 16-bit weights.
    "tiny": TrainConfig(
        preset="tiny",
        embedding=64,
        hidden=64,
        latent=32,
        learning_rate=2e-3,
        word_dropout=0.25,
        kl_warmup=12.0,
        batch=32,
        epochs=24,
        precision="float16",
    ),
    # The shipped model of the generated grammar. Small steps on small batches: at 5e-3 and 64 the
    # latent learns the words several times more slowly.
    "grammar": TrainConfig(
        preset="grammar",
        embedding=32,
        hidden=64,
        latent=32,
        max_length=20,
        learning_rate=2e-3,
        word_dropout=0.1,
        kl_warmup=30.0,
        batch=16,
        epochs=80,
    ),
    # The paper's sizes. TWR-VAE trains with Adam at 1e-4 on batches in order of length; a step of
    # 1e-3 and shuffled batches of similar length, as here, reach the same place far sooner. 16 epochs
    # are one and a half hours on one core.
    "paper": TrainConfig(
        preset="paper",
        embedding=512,
        hidden=256,
        latent=32,
        embedding_dropout=0.5,
        weight_decay=1e-5,
        adam_eps=1e-6,
        epochs=16,
        precision="bfloat16",
    ),
}


def make_config(preset: str, changes: Mapping[str, Any]) -> TrainConfig:
    """Return a preset with some values changed, and with what their objective sets where it is not among them.

    Raises:
        TrainingError: There is no such objective, or the values make no sense together.
    """
    usual = find_objective(changes.get("objective", PRESETS[preset].objective)).defaults
    return replace(PRESETS[preset], **{**usual, **changes})
