"""From a decoder's output to words, in numpy: as `hvae_mnn.model.network.vae.best_token`, and -log p of given words."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.model.text.corpus import PAD, SOS, Sentence

Array = NDArray[np.float64]
Rough = NDArray[np.float32]
Words = NDArray[np.intp]

_SCORES = 2**20  # word scores held at once, 4 MiB; chosen


class Projection:
    """What words score: the best one, never `<pad>` or `<sos>`, and the cost of given ones.

    Scores are worked out in float32. The best word is nevertheless that of float64: where rounding could hide another
    order than the one found, the words in question are scored again.
    """

    def __init__(self, weight: Array, bias: Array) -> None:
        """Take the scores' weight (V, H) and bias (V,)."""
        self._weight, self._bias = weight, bias
        self._rough_weight, self._rough_bias = weight.T.astype(np.float32), bias.astype(np.float32)
        self._longest, self._largest_bias = float(np.linalg.norm(weight, axis=1).max()), float(np.abs(bias).max())

    def choose(self, h: Array) -> Words:
        """Return the number of the best word, the lowest of equal ones, (batch,), for outputs h, (batch, H)."""
        return self._best(h, self._score(h))

    def weigh(self, h: Array, words: Words) -> tuple[Array, Words]:
        """Return -log p of given words, nats, (batch,), and what `choose` does.

        Args:
            h: Outputs, (batch, H).
            words: The words that are there, (batch,).
        """
        costs, best = np.zeros(len(h)), np.zeros(len(h), dtype=np.intp)
        rows = max(1, _SCORES // len(self._bias))
        for start in range(0, len(h), rows):
            part = slice(start, start + rows)
            scores = self._score(h[part])
            largest = scores.max(axis=1)
            sums = np.exp(scores - largest[:, None]).sum(axis=1)
            costs[part] = largest + np.log(sums) - scores[np.arange(len(scores)), words[part]]
            best[part] = self._best(h[part], scores)
        return costs, best

    def _score(self, h: Array) -> Rough:
        scores: Rough = h.astype(np.float32) @ self._rough_weight
        scores += self._rough_bias
        return scores

    def _best(self, h: Array, scores: Rough) -> Words:
        """Return the best words; `scores` are spoilt."""
        scores[:, [PAD, SOS]] = -np.inf
        lowest = scores.max(axis=1) - self._margin(h)
        sentence, word = np.divmod(np.flatnonzero(~(scores < lowest[:, None])), scores.shape[1])
        if len(word) == len(h):
            return word
        exact = np.einsum("ij,ij->i", h[sentence], self._weight[word]) + self._bias[word]
        exact[(word == PAD) | (word == SOS)] = -np.inf
        best_first = word[np.lexsort((word, -exact, sentence))]
        return np.asarray(best_first[np.searchsorted(sentence, np.arange(len(h)))])

    def _margin(self, h: Array) -> Array:
        """Return twice the largest error of a float32 score, (batch, ): H products and their sum in any order."""
        scale = np.linalg.norm(h, axis=1) * self._longest + self._largest_bias
        return np.asarray((h.shape[1] + 8) * np.finfo(np.float32).eps * scale)


def weigh_sentences(
    projection: Projection, hidden: Sequence[Array], targets: Sequence[Sentence]
) -> tuple[list[Sentence], Array]:
    """Return the best word at each place of each sentence, and -log p of each sentence, nats, (sentences,).

    Args:
        projection: The vocabulary.
        hidden: For each sentence the outputs that predict its words and `<eos>`, (words + 1, H).
        targets: Those words, `<eos>` among them.
    """
    costs, best = projection.weigh(np.concatenate(hidden), np.concatenate(targets))
    parts = list(pairwise(np.cumsum([0, *(len(h) for h in hidden)]).tolist()))
    return [tuple(best[a:b].tolist()) for a, b in parts], np.array([costs[a:b].sum() for a, b in parts])
