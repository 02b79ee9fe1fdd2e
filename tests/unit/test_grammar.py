import itertools
import math
from collections import Counter

import numpy as np
import pytest

from hvae_mnn.errors import CorpusError
from hvae_mnn.model.text.corpus import load_corpus
from hvae_mnn.model.text.grammar import ENGLISH, Grammar, generate_sentences, word_class

SMALL = Grammar(
    {
        "S": ((0.5, ("A", "B")), (0.5, ("B",))),
        "A": ((0.25, ("x",)), (0.75, ("y",))),
        "B": ((0.5, ("u",)), (0.5, ("v", "A"))),
    }
)


def restricted(grammar: Grammar, alternatives: int) -> Grammar:
    """Return the grammar with at most so many words a class, each class drawn evenly.

    A class is a nonterminal all of whose rules are single words. The structure is kept, so an
    ambiguity of the structure is one of the small grammar too, which can be enumerated.
    """
    small = {}
    for name, rules in grammar.rules.items():
        is_class = all(len(right) == 1 and right[0] not in grammar.rules for _, right in rules)
        kept = rules[:alternatives] if is_class else rules
        small[name] = tuple((1 / len(kept) if is_class else p, right) for p, right in kept)
    return Grammar(small, grammar.start)


def test_no_sentence_has_two_derivations_and_probabilities_sum_to_one() -> None:
    """With two words a class every structure of the grammar is enumerated whole."""
    small = restricted(ENGLISH, 2)
    sentences = list(small.sentences())
    counts = Counter(words for words, _ in sentences)

    assert len(sentences) > 5_000
    assert counts.most_common(1)[0][1] == 1
    assert math.fsum(p for _, p in sentences) == pytest.approx(1, abs=1e-12)
    assert math.fsum(-p * math.log(p) for _, p in sentences) == pytest.approx(small.entropy(), abs=1e-9)


def test_every_word_is_told_apart_by_its_class_so_the_small_grammar_speaks_for_the_whole() -> None:
    """An overlap of classes beyond the first two words would be an ambiguity that the small one hides."""
    classes = {
        name: {right[0] for _, right in rules}
        for name, rules in ENGLISH.rules.items()
        if all(len(right) == 1 and right[0] not in ENGLISH.rules for _, right in rules)
    }
    shared = {word for one, other in itertools.combinations(classes.values(), 2) for word in one & other}

    assert shared == {"the"}


def test_the_probability_of_a_sentence_by_hand() -> None:
    assert SMALL.log_probability(("y", "v", "x")) == pytest.approx(math.log(0.5 * 0.75 * 0.5 * 0.25))
    assert SMALL.log_probability(("u",)) == pytest.approx(math.log(0.5 * 0.5))


@pytest.mark.parametrize("words", [(), ("x",), ("u", "u"), ("nonsense",), ("v", "x", "u")])
def test_what_the_grammar_cannot_say_has_no_probability(words: tuple[str, ...]) -> None:
    assert SMALL.log_probability(words) == -math.inf


def test_the_entropy_by_hand() -> None:
    a = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    b = math.log(2) + 0.5 * a

    assert SMALL.entropy() == pytest.approx(math.log(2) + 0.5 * (a + b) + 0.5 * b)


def test_the_entropy_of_a_recursive_grammar() -> None:
    """S -> a S (p) | a (1 - p): the length is geometric, with entropy H2(p) / (1 - p)."""
    p = 0.7
    grammar = Grammar({"S": ((p, ("a", "S")), (1 - p, ("a",)))})

    expected = (-p * math.log(p) - (1 - p) * math.log(1 - p)) / (1 - p)

    assert grammar.entropy() == pytest.approx(expected)
    assert grammar.log_probability(("a",) * 4) == pytest.approx(3 * math.log(p) + math.log(1 - p))


def test_the_entropy_agrees_with_the_mean_of_minus_log_p_by_the_inside_algorithm() -> None:
    rng = np.random.default_rng(5)
    surprise = [-ENGLISH.log_probability(ENGLISH.sample(rng)[0]) for _ in range(1500)]

    error = np.std(surprise) / math.sqrt(len(surprise))

    assert np.mean(surprise) == pytest.approx(ENGLISH.entropy(), abs=3 * error)
    assert error < 0.1


def test_a_sample_knows_its_probability() -> None:
    rng = np.random.default_rng(11)
    for words, log_p in (ENGLISH.sample(rng) for _ in range(200)):
        assert ENGLISH.log_probability(words) == pytest.approx(log_p, abs=1e-9)


def test_samples_have_the_frequencies_of_the_rules() -> None:
    rng = np.random.default_rng(2)
    counts = Counter(SMALL.sample(rng)[0] for _ in range(20_000))

    for words, p in SMALL.sentences():
        assert counts[words] / 20_000 == pytest.approx(p, abs=4 * math.sqrt(p / 20_000))


def test_the_english_source_has_the_size_it_is_described_with() -> None:
    rng = np.random.default_rng(0)
    lengths = {len(ENGLISH.sample(rng)[0]) for _ in range(2000)}

    assert 15 < ENGLISH.entropy() < 22
    assert 100 <= len(ENGLISH.words()) <= 150
    assert (min(lengths), max(lengths)) == (5, 11)


def test_probabilities_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"grammar rule 'S' has probabilities that sum to 0\.9; expected 1"):
        Grammar({"S": ((0.5, ("a",)), (0.4, ("b",)))})


def test_generated_splits_are_seeded_and_held_out() -> None:
    sizes = {"train": 300, "valid": 50, "test": 50}
    splits = generate_sentences(ENGLISH, sizes, seed=4)

    assert {name: len(sentences) for name, sentences in splits.items()} == sizes
    assert splits == generate_sentences(ENGLISH, sizes, seed=4)
    assert splits != generate_sentences(ENGLISH, sizes, seed=5)
    assert not set(splits["train"]) & set(splits["test"])
    assert not set(splits["train"]) & set(splits["valid"])
    assert not set(splits["valid"]) & set(splits["test"])


def test_the_grammar_corpus_is_loaded_by_name() -> None:
    corpus = load_corpus("grammar", seed=1)

    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (20_000, 1_000, 1_000)
    assert set(corpus.vocabulary.words[4:]) == set(ENGLISH.words())
    assert not set(corpus.train) & set(corpus.test)
    assert corpus.fingerprint() != load_corpus("grammar", seed=2).fingerprint()


def test_a_word_class_is_even() -> None:
    assert word_class("a b") == ((0.5, ("a",)), (0.5, ("b",)))
