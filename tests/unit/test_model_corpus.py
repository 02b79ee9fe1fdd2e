from pathlib import Path

import pytest

from hvae_mnn.errors import CheckpointError, CorpusError
from hvae_mnn.model.text.corpus import EOS, PAD, SOS, SPECIALS, UNK, Vocabulary, load_corpus

TEXT = {
    "train": " the <unk> rose N points \n the price fell N points\n",
    "valid": "the price rose\n",
    "test": "a price fell\n\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, text in TEXT.items():
        (tmp_path / f"small.{split}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_folder_becomes_token_numbers_without_splitting_anything_again(folder: Path) -> None:
    corpus = load_corpus(folder)

    assert corpus.name == folder.name
    assert corpus.vocabulary.words == (*SPECIALS, "N", "points", "the", "fell", "price", "rose")
    assert [corpus.vocabulary.decode(ids) for ids in corpus.train] == [
        "the <unk> rose N points",
        "the price fell N points",
    ]
    assert corpus.test == ((UNK, *corpus.vocabulary.encode("price fell")[0]),)


def test_plain_file_names_do_as_well(folder: Path) -> None:
    expected = load_corpus(folder)
    for split in TEXT:
        (folder / f"small.{split}.txt").rename(folder / f"{split}.txt")

    assert load_corpus(folder) == expected


def test_a_trained_vocabulary_can_be_given(folder: Path) -> None:
    vocabulary = Vocabulary((*SPECIALS, "price", "the"))

    corpus = load_corpus(folder, vocabulary=vocabulary)

    assert corpus.vocabulary is vocabulary
    assert corpus.valid == ((5, 4, UNK),)


def test_the_fingerprint_tells_corpora_apart(folder: Path) -> None:
    before = load_corpus(folder).fingerprint()
    assert load_corpus(folder).fingerprint() == before

    (folder / "small.valid.txt").write_text("the price fell\n", encoding="utf-8")

    assert load_corpus(folder).fingerprint() != before


def test_encoding_tries_the_word_then_lower_case_then_a_number(folder: Path) -> None:
    vocabulary = load_corpus(folder).vocabulary

    ids, unknown = vocabulary.encode("The PRICE rose 12,345.6 zlotys <unk> -3 1st")

    assert vocabulary.decode(ids) == "the price rose N <unk> <unk> N <unk>"
    assert unknown == ("zlotys", "1st")


def test_a_number_is_unknown_where_the_vocabulary_has_no_token_for_it() -> None:
    ids, unknown = Vocabulary((*SPECIALS, "a")).encode("a 12")

    assert (ids, unknown) == ((4, UNK), ("12",))


@pytest.mark.parametrize("place", [PAD, SOS, EOS])
def test_control_tokens_cannot_be_typed(place: int) -> None:
    ids, unknown = Vocabulary((*SPECIALS, "a")).encode(f"a {SPECIALS[place]}")

    assert (ids, unknown) == ((4, UNK), (SPECIALS[place],))


def test_a_vocabulary_must_begin_with_the_specials() -> None:
    with pytest.raises(CheckpointError, match=r"vocabulary begins with \('a', 'b'\); expected \('<pad>'"):
        Vocabulary(("a", "b"))


def test_a_vocabulary_holds_each_word_once() -> None:
    with pytest.raises(CheckpointError, match="holds 'a' twice; expected each word once"):
        Vocabulary((*SPECIALS, "a", "b", "a"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere' is not a folder and not a known name; .*'grammar'"):
        load_corpus(tmp_path / "nowhere")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_missing_split_is_named(folder: Path, split: str) -> None:
    (folder / f"small.{split}.txt").unlink()

    with pytest.raises(CorpusError, match=rf"has no {split} split; expected {split}\.txt"):
        load_corpus(folder)


def test_two_files_for_a_split_are_refused(folder: Path) -> None:
    (folder / "train.txt").write_text("a\n", encoding="utf-8")

    with pytest.raises(CorpusError, match=r"has 2 train splits \(small.train.txt, train.txt\); expected one"):
        load_corpus(folder)


def test_an_empty_split_is_named(folder: Path) -> None:
    (folder / "small.valid.txt").write_text("\n \n", encoding="utf-8")

    with pytest.raises(CorpusError, match=r"small.valid.txt' holds no sentence; expected one a line"):
        load_corpus(folder)


def test_a_file_that_is_not_utf8_is_named_with_the_place(folder: Path) -> None:
    (folder / "small.test.txt").write_bytes(b"caf\xe9 au lait\n")

    with pytest.raises(CorpusError, match=r"small.test.txt' is not UTF-8 at byte 3; expected UTF-8"):
        load_corpus(folder)


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "small.test.txt").unlink()
    (folder / "small.test.txt").mkdir()

    with pytest.raises(CorpusError, match=r"small.test.txt' could not be read \(Is a directory\)"):
        load_corpus(folder)
