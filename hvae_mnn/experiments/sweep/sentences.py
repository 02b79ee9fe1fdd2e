"""The sentences that every trial of a sweep reads."""

import hashlib
from dataclasses import dataclass

from hvae_mnn.errors import SweepError
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.text.corpus import UNK, Sentence, choose, load_text


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
