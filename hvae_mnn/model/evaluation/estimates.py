"""Means over the sentences of a test split, with their standard errors. Shapes: `N` sentences, `n` drawn of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.evaluation.protocols import Estimate
from hvae_mnn.model.text.corpus import Sentence

Array = NDArray[np.float64]


def count_tokens(sentences: Sequence[Sentence]) -> float:
    """Return words and `<eos>` a sentence."""
    return float(np.mean([len(sentence) + 1 for sentence in sentences]))


def estimate_mean(values: Array, tokens: float) -> Estimate:
    """Estimate the mean of a likelihood from one value a sentence, (N,), nats.

    Args:
        values: Of each sentence.
        tokens: Tokens a sentence.

    Raises:
        CheckpointError: It is not finite.
    """
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return _checked(Estimate(float(values.mean()), error, tokens))


def estimate_tighter(bound: Array, drawn: Sequence[int], single: Array, tighter: Array, tokens: float) -> Estimate:
    """Estimate the mean of a tighter bound over all sentences from its values on some.

    The mean of the looser bound over all sentences, less the mean gain on those that were drawn, which spreads far
    less than likelihoods do (the difference estimator; Cochran 1977, Sampling Techniques, ch. 7). Its variance is
    that of the tighter bound over all sentences, which those drawn estimate, and that of the gains for not having
    drawn the rest.

    Args:
        bound: -ELBO of all sentences, (N,), each from one draw of z, nats.
        drawn: Places of those drawn.
        single: -ELBO of those drawn, (n,), over the same draws as `tighter`: no gain is below nothing, by Jensen's
            inequality, and no noise of another draw of z is taken for one.
        tighter: The tighter bound of those drawn, (n,).
        tokens: Tokens a sentence.

    Raises:
        CheckpointError: It is not finite.
    """
    gain = single - tighter
    few = max(0.0, 1 / len(gain) - 1 / len(bound))
    spread = float((bound[list(drawn)] - gain).var(ddof=1))
    variance = spread / len(bound) + few * float(gain.var(ddof=1))
    return _checked(Estimate(float(bound.mean() - gain.mean()), math.sqrt(variance), tokens))


def not_finite(nll: float) -> CheckpointError:
    """Return what to raise where a model gives no finite likelihood."""
    return CheckpointError(
        f"the model gives the test split an NLL of {nll:.4g} nats a sentence; expected a finite number and a finite "
        "perplexity. Train the model again with a lower learning rate."
    )


def _checked(estimate: Estimate) -> Estimate:
    if not math.isfinite(estimate.nll) or not math.isfinite(estimate.perplexity):
        raise not_finite(estimate.nll)
    return estimate
