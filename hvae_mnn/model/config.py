"""Sizes and wiring of the text model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.errors import CheckpointError

CELLS = ("lstm", "gru", "rnn")
PRECISIONS = ("float32", "float16", "bfloat16")
LATENT_MODES = ("last", "per-step", "none")
ADDED: Mapping[str, Any] = {"peepholes": False}
"""Values that files of the first models do not have, and what they stand for there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes and wiring of a `TextVae`.

    Attributes:
        vocabulary_size: Number of words with the four specials, V.
        embedding: Width of both word embeddings, E.
        hidden: Width H of all three recurrent layers, or of encoder 1, encoder 2 and decoder; three
            equal numbers are stored as one.
        latent: Width of the latent, L; not used for `none`.
        encoder: Cells of encoder 1 and encoder 2, each `lstm`, `gru` or `rnn`.
        decoder: Cell of the decoder.
        latent_mode: `last`: z of the last token drives every decoder step. `per-step`: z of
            token t drives the step that reads token t (eq. 4 of the paper read literally). `none`:
            no encoder and no z, a plain language model to compare with.
        embedding_dropout: Share of embedding entries dropped in training.
        word_dropout: Share of decoder input words replaced by `<unk>` in training.
        max_length: Longest sentence in words, without `<sos>` and `<eos>`.
        peepholes: Whether each unit of an `lstm` layer lets its gates see its cell state; see
            `hvae_mnn.model.recurrent.PeepholeLstm`.
    """

    vocabulary_size: int
    embedding: int
    hidden: int | tuple[int, int, int]
    latent: int
    encoder: tuple[str, str] = ("lstm", "lstm")
    decoder: str = "lstm"
    latent_mode: str = "last"
    embedding_dropout: float = 0.0
    word_dropout: float = 0.0
    max_length: int = 100
    peepholes: bool = False

    def __post_init__(self) -> None:
        self._check_sizes()
        if len(set(self.hidden_sizes)) == 1:
            object.__setattr__(self, "hidden", self.hidden_sizes[0])
        self._check_names()
        self._check_peepholes()
        for name in ("embedding_dropout", "word_dropout"):
            value = getattr(self, name)
            if not (isinstance(value, float | int) and 0 <= value < 1):
                raise CheckpointError(f"model.{name} is {value!r}; expected 0 <= {name} < 1. Change it.")

    @property
    def hidden_sizes(self) -> tuple[int, int, int]:
        """Width of encoder 1, encoder 2 and decoder."""
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,) * 3

    def stored(self) -> dict[str, Any]:
        """Return the values by name as files and hashes hold them.

        What was added after the first models is left out at its default: their hashes stay.
        """
        return {name: value for name, value in asdict(self).items() if name not in ADDED or ADDED[name] != value}

    @property
    def has_latent(self) -> bool:
        """Whether there are an encoder and a latent; a plain language model has none."""
        return self.latent_mode != "none"

    def draw_noise(self, words: int, seed: int) -> NDArray[np.float64]:
        """Return standard normal numbers for the reparameterisation of a sentence, (L,), or (words + 2, L)."""
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

    def _check_sizes(self) -> None:
        if isinstance(self.hidden, tuple) and len(self.hidden) != 3:
            raise CheckpointError(
                f"model.hidden is {self.hidden!r}; expected one whole number, or three for encoder 1, encoder 2 and "
                "decoder. Change it."
            )
        sizes = [(name, getattr(self, name)) for name in ("vocabulary_size", "embedding", "latent", "max_length")]
        for name, value in (*sizes, *(("hidden", each) for each in self.hidden_sizes)):
            least = 5 if name == "vocabulary_size" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise CheckpointError(
                    f"model.{name} is {value!r}; expected a whole number of at least {least}. Change it."
                )

    def _check_names(self) -> None:
        if not isinstance(self.encoder, tuple) or len(self.encoder) != 2:
            raise CheckpointError(
                f"model.encoder is {self.encoder!r}; expected two cells, such as ('lstm', 'lstm'). Change it."
            )
        for name, value in (
            ("encoder", self.encoder[0]),
            ("encoder", self.encoder[1]),
            ("decoder", self.decoder),
        ):
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
        cells = (*self.encoder, self.decoder) if self.has_latent else (self.decoder,)
        if self.peepholes and "lstm" not in cells:
            raise CheckpointError(
                f"model.peepholes is true but the layers are {', '.join(cells)}; expected an lstm among them, the "
                "only cell that has peepholes. Change a cell or leave peepholes off."
            )
