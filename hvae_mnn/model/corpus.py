"""Text in, token numbers out: vocabularies and corpora.

A corpus is a folder in the published layout of the Penn Treebank language-model text (one
sentence a line, words separated by spaces, three files whose names end in `train.txt`,
`valid.txt` and `test.txt`), or the name `grammar` for the project's own generated English
(`hvae_mnn.model.grammar`). Nothing is split or lower-cased again: the file counts as it is.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from hvae_mnn.errors import CheckpointError, CorpusError
from hvae_mnn.model.grammar import ENGLISH, generate_sentences

PAD, UNK, SOS, EOS = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<sos>", "<eos>")
SPLITS = ("train", "valid", "test")
GENERATED_SIZES = {"train": 20_000, "valid": 1_000, "test": 1_000}

_NUMBER = re.compile(r"[-+]?[0-9][0-9.,]*")

Sentence = tuple[int, ...]
Text = tuple[str, ...]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words a model knows, each at the place that is its token number.

    Attributes:
        words: All words; the first four are `<pad>`, `<unk>`, `<sos>`, `<eos>`.
    """

    words: tuple[str, ...]
    _places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[: len(SPECIALS)] != SPECIALS:
            raise CheckpointError(
                f"vocabulary begins with {self.words[: len(SPECIALS)]}; expected {SPECIALS}. "
                "Train the model again or restore the file."
            )
        places = {word: place for place, word in enumerate(self.words)}
        if len(places) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise CheckpointError(
                f"vocabulary holds {twice!r} twice; expected each word once. Remove the double entry."
            )
        object.__setattr__(self, "_places", places)

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def from_sentences(cls, sentences: Iterable[Sequence[str]]) -> "Vocabulary":
        """Collect every word, the most frequent first, equal counts in alphabetical order."""
        counts = Counter(word for sentence in sentences for word in sentence)
        for special in SPECIALS:
            counts.pop(special, None)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(SPECIALS + tuple(ranked))

    def encode(self, text: str) -> tuple[Sentence, tuple[str, ...]]:
        """Turn text into token numbers, without `<sos>` and `<eos>`.

        A word is tried as written, then in lower case, then (if it is a number) as `N`, the
        token that stands for every number in the Penn Treebank text.

        Returns:
            The token numbers, and the words that became `<unk>` because they are not known.
        """
        found = [(word, self._place(word)) for word in text.split()]
        unknown = tuple(word for word, place in found if place is None)
        return tuple(UNK if place is None else place for _, place in found), unknown

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of `ids` as text, separated by spaces."""
        return " ".join(self.tokens(ids))

    def tokens(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the words of `ids`."""
        return tuple(self.words[place] for place in ids)

    def _place(self, word: str) -> int | None:
        number = ("N",) if _NUMBER.fullmatch(word) else ()
        for form in (word, word.lower(), *number):
            place = self._places.get(form)
            if place is not None and place not in (PAD, SOS, EOS):
                return place
        return None


@dataclass(frozen=True, slots=True)
class Corpus:
    """Three splits of sentences as token numbers, without `<sos>` and `<eos>`.

    Attributes:
        name: Name of the folder, or `grammar`.
        vocabulary: Every word of the training split (or the one it was loaded with).
        train: Sentences to fit.
        valid: Sentences that choose the epoch.
        test: Sentences that are measured.
    """

    name: str
    vocabulary: Vocabulary
    train: tuple[Sentence, ...]
    valid: tuple[Sentence, ...]
    test: tuple[Sentence, ...]

    def fingerprint(self) -> str:
        """Return a SHA-256 over the words and all sentences, hexadecimal."""
        digest = hashlib.sha256("\n".join(self.vocabulary.words).encode())
        for split in (self.train, self.valid, self.test):
            digest.update(repr(split).encode())
        return digest.hexdigest()


def load_corpus(name_or_folder: str | Path, *, seed: int = 0, vocabulary: Vocabulary | None = None) -> Corpus:
    """Load a corpus by name or from a folder.

    Args:
        name_or_folder: `grammar`, or a folder that holds the three splits.
        seed: Seed of the generated sentences; files do not depend on it.
        vocabulary: A trained model's words. Without it the training split gives them.

    Raises:
        CorpusError: The folder or a split is missing, empty or not UTF-8.
    """
    name, splits = _load_texts(name_or_folder, SPLITS, seed)
    words = vocabulary or Vocabulary.from_sentences(splits["train"])
    train, valid, test = (_encode_all(words, splits[split]) for split in SPLITS)
    return Corpus(name, words, train, valid, test)


def load_text(name_or_folder: str | Path, split: str, *, seed: int = 0) -> tuple[str, tuple[Text, ...]]:
    """Load one split as words; the others need not be there.

    Args:
        name_or_folder: `grammar`, or a folder that holds the split.
        split: `train`, `valid` or `test`.
        seed: Seed of the generated sentences; files do not depend on it.

    Returns:
        The corpus's name, and the words of each sentence as they are in the file.

    Raises:
        CorpusError: The folder or the split is missing, empty or not UTF-8.
    """
    name, splits = _load_texts(name_or_folder, (split,), seed)
    return name, tuple(splits[split])


def choose(items: Sequence[_Item], limit: int, seed: int) -> list[_Item]:
    """Return up to `limit` items (sentences, places) drawn without repetition, in their own order."""
    if len(items) <= limit:
        return list(items)
    places = np.random.default_rng(seed).choice(len(items), limit, replace=False)
    return [items[place] for place in sorted(places)]


def _load_texts(name_or_folder: str | Path, wanted: Sequence[str], seed: int) -> tuple[str, dict[str, list[Text]]]:
    if str(name_or_folder) == "grammar":
        generated = generate_sentences(ENGLISH, GENERATED_SIZES, seed)
        return "grammar", {split: list(generated[split]) for split in wanted}
    folder = Path(name_or_folder)
    _check_folder(folder)
    return folder.resolve().name, {split: _load_lines(_find_split(folder, split)) for split in wanted}


def _encode_all(vocabulary: Vocabulary, sentences: Iterable[Sequence[str]]) -> tuple[Sentence, ...]:
    return tuple(vocabulary.encode(" ".join(sentence))[0] for sentence in sentences)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CorpusError(
            f"corpus {str(folder)!r} is not a folder and not a known name; expected 'grammar' or a folder "
            "with *.train.txt, *.valid.txt and *.test.txt. Check the path."
        )


def _find_split(folder: Path, split: str) -> Path:
    found = sorted({*folder.glob(f"*.{split}.txt"), *folder.glob(f"{split}.txt")})
    if not found:
        raise CorpusError(
            f"corpus folder {str(folder)!r} has no {split} split; expected {split}.txt or one file named "
            f"*.{split}.txt. Add the file."
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CorpusError(
            f"corpus folder {str(folder)!r} has {len(found)} {split} splits ({names}); expected one. "
            "Move the others away."
        )
    return found[0]


def _load_lines(path: Path) -> list[Text]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"corpus file {str(path)!r} is not UTF-8 at byte {error.start}; expected UTF-8 text, one "
            "sentence a line. Convert it."
        ) from error
    except OSError as error:
        raise CorpusError(
            f"corpus file {str(path)!r} could not be read ({error.strerror}); expected a readable text file. "
            "Check its permissions."
        ) from error
    sentences = [tuple(line.split()) for line in text.splitlines() if line.strip()]
    if not sentences:
        raise CorpusError(f"corpus file {str(path)!r} holds no sentence; expected one a line. Restore the file.")
    return sentences
