"""BLEU of a whole text (Papineni, Roukos, Ward & Zhu: BLEU. ACL 2002, doi 10.3115/1073083.1073135)."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

ORDER = 4
"""Longest n-gram that counts, with equal weights (the paper's baseline)."""


def corpus_bleu(candidates: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]) -> float:
    """Return BLEU-4 of a text, 0 to 1: matches and lengths are summed over sentences before anything is divided.

    BP exp(1/4 sum_n log p_n), p_n the share of the candidates' n-grams found in a reference of the same sentence,
    each at most as often as in the reference that has it most; BP = min(1, exp(1 - r/c)) with c the candidates'
    length and r that of the references closest in length, the shorter where two are equally close. Nothing is
    smoothed: where no n-gram of some order matches, BLEU is 0.

    Args:
        candidates: The words of each sentence.
        references: For each sentence its references, at least one.
    """
    length = sum(len(candidate) for candidate in candidates)
    if length == 0:
        return 0.0
    pairs = list(zip(candidates, references, strict=True))
    precisions = [_precision(pairs, order) for order in range(1, ORDER + 1)]
    if min(precisions) == 0:
        return 0.0
    closest = sum(min((abs(len(r) - len(c)), len(r)) for r in others)[1] for c, others in pairs)
    penalty = min(0.0, 1 - closest / length)
    return math.exp(penalty + sum(math.log(precision) for precision in precisions) / ORDER)


def _precision(pairs: Sequence[tuple[Sequence[Hashable], Sequence[Sequence[Hashable]]]], order: int) -> float:
    """Return the modified n-gram precision of a text."""
    matched = total = 0
    for candidate, references in pairs:
        counts = _ngrams(candidate, order)
        most: Counter[tuple[Hashable, ...]] = Counter()
        for reference in references:
            most |= _ngrams(reference, order)
        matched += (counts & most).total()
        total += counts.total()
    return matched / total if total else 0.0


def _ngrams(words: Sequence[Hashable], order: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))
