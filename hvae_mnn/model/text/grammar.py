"""A source of English sentences whose entropy is known exactly.

`ENGLISH` is a small context-free grammar with a probability on every rule. Each sentence has
one derivation only, so the entropy of the sentences equals that of the derivations, which is
the solution of a linear system. A model trained on it can be checked against the truth: no
honest bound on -log p may fall below the entropy.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from hvae_mnn.errors import CorpusError

Symbols = tuple[str, ...]
Rule = tuple[float, Symbols]


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar.

    Attributes:
        rules: For each nonterminal its (probability, symbols) alternatives. A symbol that has no
            entry of its own is a word.
        start: The nonterminal that every sentence is derived from.
    """

    rules: Mapping[str, tuple[Rule, ...]]
    start: str = "S"
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", tuple(self.rules))
        for name, alternatives in self.rules.items():
            total = math.fsum(probability for probability, _ in alternatives)
            if not math.isclose(total, 1.0, abs_tol=1e-12):
                raise CorpusError(
                    f"grammar rule {name!r} has probabilities that sum to {total:.6g}; expected 1. Mend the rule."
                )

    def words(self) -> tuple[str, ...]:
        """Return every word the grammar can say, sorted."""
        symbols = {s for alternatives in self.rules.values() for _, right in alternatives for s in right}
        return tuple(sorted(symbols - set(self.rules)))

    def sample(self, rng: np.random.Generator) -> tuple[tuple[str, ...], float]:
        """Draw a sentence.

        Returns:
            Its words, and the log probability of the derivation that was drawn (nats).
        """
        words: list[str] = []
        log_p = 0.0
        pending = [self.start]
        while pending:
            symbol = pending.pop()
            if symbol not in self.rules:
                words.append(symbol)
                continue
            probability, right = self._draw(symbol, rng)
            log_p += math.log(probability)
            pending.extend(reversed(right))
        return tuple(words), log_p

    def log_probability(self, sentence: Sequence[str]) -> float:
        """Return log p of a sentence, nats; -inf where the grammar cannot say it.

        Inside algorithm over spans: sums over all derivations, so it does not rely on there being
        only one.
        """
        words = tuple(sentence)

        @cache
        def inside(symbols: Symbols, start: int, stop: int) -> float:
            if not symbols:
                return float(start == stop)
            if len(symbols) > 1:
                first, rest = symbols[:1], symbols[1:]
                middles = range(start + 1, stop - len(rest) + 1)
                return math.fsum(inside(first, start, m) * inside(rest, m, stop) for m in middles)
            if symbols[0] not in self.rules:
                return float(stop == start + 1 and words[start] == symbols[0])
            return math.fsum(p * inside(right, start, stop) for p, right in self.rules[symbols[0]])

        probability = inside((self.start,), 0, len(words))
        return math.log(probability) if probability > 0 else -math.inf

    def entropy(self) -> float:
        """Return the entropy of a derivation, nats.

        H(A) = sum_r p_r (-ln p_r + sum_B n_rB H(B)) over the rules r of A, n_rB being how often B stands
        on the right of r: a linear system in H. It is the entropy of the sentences if the grammar is
        unambiguous.
        """
        size = len(self._names)
        expected = np.zeros((size, size))
        own = np.zeros(size)
        for row, name in enumerate(self._names):
            for probability, right in self.rules[name]:
                own[row] -= probability * math.log(probability)
                for symbol in right:
                    if symbol in self.rules:
                        expected[row, self._names.index(symbol)] += probability
        solution = np.linalg.solve(np.eye(size) - expected, own)
        return float(solution[self._names.index(self.start)])

    def sentences(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield every derivation as (words, probability); endless where the grammar is recursive."""
        yield from self._expand((self.start,))

    def _draw(self, symbol: str, rng: np.random.Generator) -> Rule:
        point = rng.random()
        for rule in self.rules[symbol]:
            point -= rule[0]
            if point < 0:
                return rule
        return self.rules[symbol][-1]

    def _expand(self, symbols: Symbols) -> Iterator[tuple[tuple[str, ...], float]]:
        if not symbols:
            yield (), 1.0
            return
        for head, p_head in self._expand_one(symbols[0]):
            for tail, p_tail in self._expand(symbols[1:]):
                yield head + tail, p_head * p_tail

    def _expand_one(self, symbol: str) -> Iterator[tuple[tuple[str, ...], float]]:
        if symbol not in self.rules:
            yield (symbol,), 1.0
            return
        for probability, right in self.rules[symbol]:
            for words, p in self._expand(right):
                yield words, probability * p


def word_class(text: str) -> tuple[Rule, ...]:
    """Return one rule a word, all equally likely."""
    words = text.split()
    return tuple((1 / len(words), (word,)) for word in words)


def generate_sentences(grammar: Grammar, sizes: Mapping[str, int], seed: int) -> dict[str, list[tuple[str, ...]]]:
    """Draw the splits of a generated corpus.

    The first split is drawn freely. Sentences of the later splits do not occur in an earlier one:
    they are held out.

    Args:
        grammar: Where the sentences come from.
        sizes: For each split, in order, how many sentences.
        seed: The same seed gives the same sentences.
    """
    rng = np.random.default_rng(seed)
    seen: set[tuple[str, ...]] = set()
    splits: dict[str, list[tuple[str, ...]]] = {}
    for split, size in sizes.items():
        chosen: list[tuple[str, ...]] = []
        while len(chosen) < size:
            sentence, _ = grammar.sample(rng)
            if sentence not in seen:
                chosen.append(sentence)
        seen.update(chosen)
        splits[split] = chosen
    return splits


# Chosen for this project: plain English clauses of 5 to 11 words in which every word class can be
# told from the words alone, so that no sentence has two derivations.
ENGLISH = Grammar(
    {
        "S": ((0.75, ("CLAUSE",)), (0.25, ("TIME", "CLAUSE"))),
        "CLAUSE": ((0.55, ("WHO_ONE", "DOES")), (0.45, ("WHO_MANY", "DO"))),
        "WHO_ONE": ((0.6, ("DET_ONE", "PERSON")), (0.4, ("DET_ONE", "MOOD", "PERSON"))),
        "WHO_MANY": ((0.6, ("DET_MANY", "PEOPLE")), (0.4, ("DET_MANY", "MOOD", "PEOPLE"))),
        "DOES": (
            (0.35, ("GOES", "PLACE")),
            (0.40, ("TAKES", "OBJECT")),
            (0.25, ("TAKES", "OBJECT", "PLACE")),
        ),
        "DO": ((0.35, ("GO", "PLACE")), (0.40, ("TAKE", "OBJECT")), (0.25, ("TAKE", "OBJECT", "PLACE"))),
        "OBJECT": ((0.6, ("DET_OBJECT", "THING")), (0.4, ("DET_OBJECT", "LOOK", "THING"))),
        "PLACE": ((1.0, ("WHERE", "the", "SPOT")),),
        "TIME": word_class("today yesterday sometimes often"),
        "DET_ONE": word_class("the every this"),
        "DET_MANY": word_class("the some many"),
        "DET_OBJECT": word_class("the her his"),
        "MOOD": word_class("happy tired young clever quiet brave lonely polite"),
        "LOOK": word_class("old red heavy broken small strange cheap wooden"),
        "PERSON": word_class(
            "farmer doctor teacher sailor painter singer baker soldier student lawyer nurse driver child "
            "guard poet king"
        ),
        "PEOPLE": word_class(
            "farmers doctors teachers sailors painters singers bakers soldiers students lawyers nurses "
            "drivers children guards poets kings"
        ),
        "GOES": word_class("walks sleeps waits sings works sits dances rests"),
        "GO": word_class("walk sleep wait sing work sit dance rest"),
        "TAKES": word_class("finds sells carries paints hides watches buys drops cleans moves wants keeps"),
        "TAKE": word_class("find sell carry paint hide watch buy drop clean move want keep"),
        "THING": word_class(
            "book lamp chair table bottle clock letter basket picture hammer mirror blanket box coat candle "
            "drum ladder bell rope kettle"
        ),
        "WHERE": word_class("near behind in outside beside"),
        "SPOT": word_class("river garden market house church station forest school bridge hotel tower village"),
    }
)
