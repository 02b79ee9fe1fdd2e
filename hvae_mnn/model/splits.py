"""What a model is evaluated on: a test split as it reads it, and a plain language model beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hvae_mnn.errors import CheckpointError, CorpusError
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.corpus import Sentence, Text, Vocabulary, choose, load_text
from hvae_mnn.model.protocols import split_again, unknown_share

PLAIN = "none"
"""The latent mode of a plain language model: it has no encoder, and its NLL is exact."""


@dataclass(frozen=True, slots=True)
class ReadSplit:
    """A test split as a model reads it.

    Attributes:
        corpus: Name of the corpus.
        texts: The words of each sentence.
        sentences: Their numbers, the file as it is.
        unknown: Share of words that the model does not know.
        again: Numbers of the words after splitting again.
        again_unknown: Share of those that the model does not know.
    """

    corpus: str
    texts: Sequence[Text]
    sentences: Sequence[Sentence]
    unknown: float
    again: Sequence[Sentence]
    again_unknown: float


def read_split(vocabulary: Vocabulary, corpus: str | Path, limit: int | None, seed: int) -> ReadSplit:
    """Read a corpus's test split, or `limit` sentences of it drawn by the seed.

    Raises:
        CorpusError: The split cannot be read, has fewer than two sentences, or none of its words is known.
    """
    name, texts = load_text(corpus, "test")
    chosen = texts if limit is None else choose(texts, limit, seed)
    again = [split_again(text) for text in chosen]
    return ReadSplit(name, chosen, *_encode(vocabulary, chosen, name), *_encode(vocabulary, again, name))


def _encode(vocabulary: Vocabulary, texts: Sequence[Text], corpus: str) -> tuple[list[Sentence], float]:
    encoded = [vocabulary.encode(" ".join(text)) for text in texts]
    if len(encoded) < 2:
        raise CorpusError(
            f"corpus {corpus!r} has 1 sentence in its test split; expected at least 2, for a standard error. Add some."
        )
    share = unknown_share(encoded)
    if share == 1:
        raise CorpusError(
            f"none of the words in corpus {corpus!r}'s test split is among the {len(vocabulary)} that the model "
            "knows; expected text of the kind it was trained on. Choose another corpus or model."
        )
    return [ids for ids, _ in encoded], share


def check_plain(checkpoint: Checkpoint, language_model: Checkpoint) -> None:
    """Refuse a language model that cannot stand beside a model.

    Raises:
        CheckpointError: It is none, or knows other words, or the model is one itself.
    """
    if checkpoint.config.latent_mode == PLAIN:
        raise CheckpointError(
            "the model is a plain language model itself; expected one with a latent to compare. "
            "Leave --language-model out."
        )
    if language_model.config.latent_mode != PLAIN:
        raise CheckpointError(
            f"the language model has latent mode {language_model.config.latent_mode!r}; expected {PLAIN!r}. "
            f"Train one with `hvae-mnn train --latent-mode {PLAIN}`."
        )
    if language_model.vocabulary.words != checkpoint.vocabulary.words:
        raise CheckpointError(
            f"the language model knows {len(language_model.vocabulary)} words and the model "
            f"{len(checkpoint.vocabulary)}, not the same ones; expected equal vocabularies, without which likelihoods "
            "do not compare. Train it on the model's corpus."
        )
