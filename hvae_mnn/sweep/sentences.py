"""The sentences that every trial of a sweep reads."""

import hashlib
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hvae_mnn.errors import SweepError
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.corpus import UNK, Sentence, choose, load_text
from hvae_mnn.model.grammar import ENGLISH

MOST_UNKNOWN = 0.1
"""Share of a corpus's words that a model may not know without a word about it."""


@dataclass(frozen=True, slots=True)
class SweepSentences:
    """Sentences of a corpus's test split.

    Attributes:
        corpus: Name of the corpus.
        places: Their places in the split, from 0, rising.
        ids: Their word numbers.
        left_out: Sentences that were not drawn from: too long for the model, or no word of them known.
        unknown: Share of the drawn sentences' words that the model does not know.
    """

    corpus: str
    places: tuple[int, ...]
    ids: tuple[Sentence, ...]
    left_out: int
    unknown: float

    def content_hash(self) -> str:
        """Return a SHA-256 over the word numbers, hexadecimal."""
        return hashlib.sha256(repr(self.ids).encode()).hexdigest()


def choose_corpus(checkpoint: Checkpoint) -> str:
    """Return where there are test sentences in a model's words: `grammar`, or the folder that it was trained on.

    Raises:
        SweepError: It does not know the grammar's words, and that folder is not here.
    """
    words = ENGLISH.words()
    if len(checkpoint.vocabulary.encode(" ".join(words))[1]) <= MOST_UNKNOWN * len(words):
        return "grammar"
    folder = next((each for each in _trained_on(checkpoint) if any(Path(each).glob("*test.txt"))), None)
    if folder is None:
        corpus = checkpoint.provenance.get("corpus", "a corpus of its own")
        raise SweepError(
            f"the model was trained on {corpus}, whose test sentences are not here; give the folder with their "
            "NAME.test.txt as --corpus FOLDER"
        )
    return folder


def _trained_on(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield the folders that a model's corpus may lie in: as its training named it, and its name here."""
    with suppress(ValueError):  # quotes that are not closed
        words = shlex.split(checkpoint.provenance.get("command", ""))
        yield from (value for option, value in pairwise(words) if option == "--corpus")
    if "corpus" in checkpoint.provenance:
        yield checkpoint.provenance["corpus"]


def draw_sentences(checkpoint: Checkpoint, corpus: str, count: int, seed: int) -> SweepSentences:
    """Draw sentences of a corpus's test split that a model can read; all, where there are no more.

    Args:
        checkpoint: The model.
        corpus: `grammar`, or a folder.
        count: How many.
        seed: Seed of the draw.

    Raises:
        CorpusError: The corpus cannot be read.
        SweepError: The model can read none of it.
    """
    name, text = load_text(corpus, "test")
    encoded = [checkpoint.vocabulary.encode(" ".join(words))[0] for words in text]
    longest = checkpoint.config.max_length
    readable = [i for i, ids in enumerate(encoded) if 0 < len(ids) <= longest and set(ids) != {UNK}]
    if not readable:
        raise SweepError(
            f"corpus {name}: none of its {len(text)} test sentences has at most {longest} words of which the model "
            "knows any; give the --corpus that the model was trained on"
        )
    places = tuple(choose(readable, count, seed))
    ids = tuple(encoded[place] for place in places)
    words = [word for sentence in ids for word in sentence]
    return SweepSentences(name, places, ids, len(text) - len(readable), words.count(UNK) / len(words))
