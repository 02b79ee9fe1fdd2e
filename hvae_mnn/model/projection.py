"""From a decoder's output to the most likely word, as `hvae_mnn.model.vae.best_token`, in numpy."""

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.model.corpus import PAD, SOS

Array = NDArray[np.float64]


class Projection:
    """The word that float64 scores highest, never `<pad>` or `<sos>`.

    Scores are worked out in float32. Where rounding could hide another order than the one found, the words in
    question are scored again in float64.
    """

    def __init__(self, weight: Array, bias: Array) -> None:
        """Take the scores' weight (V, H) and bias (V,)."""
        self._weight, self._bias = weight, bias.copy()
        self._bias[[PAD, SOS]] = -np.inf
        self._rough_weight, self._rough_bias = weight.T.astype(np.float32), self._bias.astype(np.float32)
        self._longest, self._largest_bias = float(np.linalg.norm(weight, axis=1).max()), float(np.abs(bias).max())

    def choose(self, h: Array) -> NDArray[np.intp]:
        """Return the number of the best word, the lowest of equal ones, (batch,), for outputs h, (batch, H)."""
        rough = h.astype(np.float32) @ self._rough_weight
        rough += self._rough_bias
        lowest = rough.max(axis=1) - self._margin(h)
        sentence, word = np.nonzero(~(rough < lowest[:, None]))
        if len(word) == len(h):
            return word
        exact = np.einsum("ij,ij->i", h[sentence], self._weight[word]) + self._bias[word]
        best_first = word[np.lexsort((word, -exact, sentence))]
        return np.asarray(best_first[np.searchsorted(sentence, np.arange(len(h)))])

    def _margin(self, h: Array) -> Array:
        """Return twice the largest error of a float32 score, (batch, ): H products and their sum in any order."""
        scale = np.linalg.norm(h, axis=1) * self._longest + self._largest_bias
        return np.asarray((h.shape[1] + 8) * np.finfo(np.float32).eps * scale)
