"""Sizes and wiring of the text model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.errors import CheckpointError, SentenceError
from hvae_mnn.model.text.corpus import EOS, PAD, SOS

CELLS = ("lstm", "gru", "rnn")
PRECISIONS = ("float32", "float16", "bfloat16")
LATENT_MODES = ("last", "per-step", "none")
POSTERIORS = ("encoder", "flow", "svi", "langevin")
PRIORS = ("normal", "learned")
ADDED: Mapping[str, Any] = {
    "peepholes": False,
    "posterior": "encoder",
    "posterior_steps": 0,
    "posterior_rate": 0.0,
    "prior": "normal",
}
"""Values that files of the first models do not have, and what they stand for there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes and wiring of a `TextVae`.

    Attributes:
        vocabulary_size: Number of words with the four specials, V.
        embedding: Width of both word embeddings, E.
        hidden: Width H of all recurrent layers, or of each encoder layer and the decoder; equal numbers
            are stored as one.
        latent: Width of the latent, L; not used for `none`.
        encoder: Cells of encoder 1 and encoder 2, each `lstm`, `gru` or `rnn`; or one cell, where
            encoder 1 is the only layer.
        decoder: Cell of the decoder.
        latent_mode: `last`: z of the last token drives every decoder step. `per-step`: z of
            token t drives the step that reads token t (eq. 4 of the paper read literally). `none`:
            no encoder and no z, a plain language model to compare with.
        embedding_dropout: Share of embedding entries dropped in training.
        word_dropout: Share of decoder input words replaced by `<unk>` in training.
        max_length: Longest sentence in words, without `<sos>` and `<eos>`.
        peepholes: Whether each unit of an `lstm` layer lets its gates see its cell state; see
            `hvae_mnn.model.network.recurrent.PeepholeLstm`.
        posterior: How q(z|x) comes about. `encoder`: the Gaussian that the encoder gives. `flow`: that one
            moved by planar flows. `svi`: that one refined by gradient steps for each sentence. `langevin`:
            there is no encoder; z is found by Langevin steps from the prior.
        posterior_steps: How many flows, gradient steps or Langevin steps; 0 for `encoder`.
        posterior_rate: Step size of `svi` and `langevin`, else 0.
        prior: `normal`: N(0, 1). `learned`: each step's from the decoder's state before it.
    """

    vocabulary_size: int
    embedding: int
    hidden: int | tuple[int, ...]
    latent: int
    encoder: tuple[str, ...] = ("lstm", "lstm")
    decoder: str = "lstm"
    latent_mode: str = "last"
    embedding_dropout: float = 0.0
    word_dropout: float = 0.0
    max_length: int = 100
    peepholes: bool = False
    posterior: str = "encoder"
    posterior_steps: int = 0
    posterior_rate: float = 0.0
    prior: str = "normal"

    def __post_init__(self) -> None:
        self._check_encoder()
        self._check_sizes()
        if len(set(self.hidden_sizes)) == 1:
            object.__setattr__(self, "hidden", self.hidden_sizes[0])
        self._check_names()
        self._check_peepholes()
        self._check_posterior()
        for name in ("embedding_dropout", "word_dropout"):
            value = getattr(self, name)
            if not (isinstance(value, float | int) and 0 <= value < 1):
                raise CheckpointError(f"model.{name} is {value!r}; expected 0 <= {name} < 1. Change it.")

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Width of each encoder layer and, last, of the decoder."""
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,) * (len(self.encoder) + 1)

    def stored(self) -> dict[str, Any]:
        """Return the values by name as files and hashes hold them.

        What was added after the first models is left out at its default: their hashes stay.
        """
        return {name: value for name, value in asdict(self).items() if name not in ADDED or ADDED[name] != value}

    @property
    def has_latent(self) -> bool:
        """Whether there is a latent; a plain language model has none."""
        return self.latent_mode != "none"

    @property
    def has_encoder(self) -> bool:
        """Whether there is an encoder."""
        return self.has_latent and self.posterior != "langevin"

    @property
    def on_circuit(self) -> bool:
        """Whether the simulated hardware can make this model's latent: see `check_circuit`."""
        return (
            self.has_latent
            and len(self.encoder) == 2
            and self.posterior in ("encoder", "svi")
            and self.prior == "normal"
        )

    def draw_noise(self, words: int, seed: int) -> NDArray[np.float64]:
        """Return standard normal numbers for the reparameterisation of a sentence, (L,), or (words + 2, L)."""
        if not isinstance(seed, int) or seed < 0:
            raise SentenceError(f"seed is {seed!r}; expected a whole number of at least 0")
        shape = (self.latent,) if self.latent_mode == "last" else (words + 2, self.latent)
        return np.random.default_rng(seed).standard_normal(shape)

    def check_has_latent(self) -> None:
        """Refuse a plain language model where an encoder is needed.

        Raises:
            CheckpointError: latent_mode is `none`.
        """
        if not self.has_latent:
            raise CheckpointError(
                "the model is a plain language model (latent_mode none) without encoder and latent; expected "
                "latent_mode last or per-step. Use another model, or train one with: hvae-mnn train --latent-mode last"
            )

    def check_circuit(self) -> None:
        """Refuse a model that the simulated hardware, and what belongs to it, cannot run.

        It makes Gaussian latents from the outputs of two encoder layers; of an `svi` posterior it runs the encoder
        alone.

        Raises:
            CheckpointError: As said.
        """
        self.check_has_latent()
        if self.on_circuit:
            return
        found = (
            "one encoder layer"
            if len(self.encoder) == 1
            else f"posterior {self.posterior!r}"
            if self.prior == "normal"
            else f"prior {self.prior!r}"
        )
        raise CheckpointError(
            f"the model has {found}, which crossbars are not compiled for; expected two encoder layers, posterior "
            "encoder or svi, and prior normal. `hvae-mnn evaluate` takes this model; to compile one, train it with "
            "--objective hsr, vae, cyclical, lagging, bn or sa and two encoder cells."
        )

    def _check_encoder(self) -> None:
        if not isinstance(self.encoder, tuple) or len(self.encoder) not in (1, 2):
            raise CheckpointError(
                f"model.encoder is {self.encoder!r}; expected one or two cells, such as ('lstm', 'lstm'). Change it."
            )

    def _check_sizes(self) -> None:
        if isinstance(self.hidden, tuple) and len(self.hidden) != len(self.encoder) + 1:
            layers = "encoder 1, encoder 2" if len(self.encoder) == 2 else "the encoder"
            raise CheckpointError(
                f"model.hidden is {self.hidden!r}; expected one whole number, or "
                f"{'three' if len(self.encoder) == 2 else 'two'} for {layers} and decoder. Change it."
            )
        sizes = [(name, getattr(self, name)) for name in ("vocabulary_size", "embedding", "latent", "max_length")]
        for name, value in (*sizes, *(("hidden", each) for each in self.hidden_sizes)):
            least = 5 if name == "vocabulary_size" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise CheckpointError(
                    f"model.{name} is {value!r}; expected a whole number of at least {least}. Change it."
                )

    def _check_names(self) -> None:
        for name, value in (*(("encoder", cell) for cell in self.encoder), ("decoder", self.decoder)):
            if value not in CELLS:
                raise CheckpointError(
                    f"model.{name} has the cell {value!r}; expected one of {', '.join(CELLS)}. Change it."
                )
        if self.latent_mode not in LATENT_MODES:
            raise CheckpointError(
                f"model.latent_mode is {self.latent_mode!r}; expected one of {', '.join(LATENT_MODES)}. Change it."
            )

    def _check_peepholes(self) -> None:
        if not isinstance(self.peepholes, bool):
            raise CheckpointError(f"model.peepholes is {self.peepholes!r}; expected true or false. Change it.")
        cells = (*self.encoder, self.decoder) if self.has_encoder else (self.decoder,)
        if self.peepholes and "lstm" not in cells:
            raise CheckpointError(
                f"model.peepholes is true but the layers are {', '.join(cells)}; expected an lstm among them, the "
                "only cell that has peepholes. Change a cell or leave peepholes off."
            )

    def _check_posterior(self) -> None:
        for name, value, known in (("posterior", self.posterior, POSTERIORS), ("prior", self.prior, PRIORS)):
            if value not in known:
                raise CheckpointError(f"model.{name} is {value!r}; expected one of {', '.join(known)}. Change it.")
        extended = self.posterior != "encoder"
        modes = ("last",) if extended else ("per-step",) if self.prior == "learned" else LATENT_MODES
        if self.latent_mode not in modes or (extended and self.prior == "learned"):
            raise CheckpointError(
                f"model.latent_mode is {self.latent_mode!r} with posterior {self.posterior!r} and prior "
                f"{self.prior!r}; expected last for a posterior other than encoder, and per-step with posterior "
                "encoder for a learned prior. Change one."
            )
        steps, rate = self.posterior_steps, self.posterior_rate
        if not isinstance(steps, int) or isinstance(steps, bool) or not (steps >= 1 if extended else steps == 0):
            raise CheckpointError(
                f"model.posterior_steps is {steps!r} with posterior {self.posterior!r}; expected a whole number "
                f"{'of at least 1' if extended else 'of 0'}. Change it."
            )
        stepped = self.posterior in ("svi", "langevin")
        if not isinstance(rate, float | int) or not (0 < rate < math.inf if stepped else rate == 0):
            raise CheckpointError(
                f"model.posterior_rate is {rate!r} with posterior {self.posterior!r}; expected "
                f"{'more than 0' if stepped else '0'}. Change it."
            )


def check_sentence(ids: Sequence[int], config: ModelConfig) -> None:
    """Refuse a sentence that a model cannot read.

    Raises:
        SentenceError: It has no words, too many, or a number that is no word's.
    """
    if len(ids) == 0:
        raise SentenceError("the sentence has no words; expected at least one. Give some text.")
    if len(ids) > config.max_length:
        raise SentenceError(
            f"the sentence has {len(ids)} words; the model reads at most {config.max_length}. Shorten it."
        )
    for place in ids:
        if not 0 <= place < config.vocabulary_size or place in (PAD, SOS, EOS):
            raise SentenceError(
                f"the sentence holds token number {place}; expected a word's number below "
                f"{config.vocabulary_size}. Encode the text with the model's own vocabulary."
            )
