"""Aggressive training of the encoder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hvae_mnn.model.evaluation.information import posterior_information
from hvae_mnn.model.evaluation.posteriors import encode_sentences
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.text.corpus import Sentence
from hvae_mnn.model.training.objectives.base import Objective, Option, Trainer

_STREAM = 2000  # of noise, apart from those of evaluation
_MOST = 2048  # validation sentences that MI is measured on; chosen


class Lagging(Objective):
    """The ELBO; while the encoder lags, it is updated alone until it stops improving, and then the decoder alone.

    He, Spokoyny, Neubig & Berg-Kirkpatrick 2019, Lagging Inference Networks and Posterior Collapse in Variational
    Autoencoders, ICLR, arXiv:1901.05534, algorithm 1. Inner updates take batches at random; they end when the mean
    loss over `window` of them is no lower than over the `window` before, after `inner` at the latest. After the first
    epoch in which the mutual information of sentence and latent on validation sentences falls, both are updated
    together.
    """

    name = "lagging"
    options: ClassVar[Mapping[str, Option]] = {
        "inner": Option(100, "most encoder updates before one of the decoder", least=1, most=10_000, whole=True),
        "window": Option(10, "encoder updates over which the loss is averaged", least=1, most=10_000, whole=True),
    }
    defaults: ClassVar[Mapping[str, Any]] = {"kl_warmup": 10.0}

    def __init__(self, values: Mapping[str, float], kl_warmup: float) -> None:
        super().__init__(values, kl_warmup)
        self.aggressive = True
        self.information = -math.inf

    def step(self, trainer: Trainer, sentences: Sequence[Sentence]) -> float:
        """Let the encoder catch up, then update the decoder; or, later, both at once."""
        if not self.aggressive:
            return trainer.update(sentences)
        self._catch_up(trainer, sentences)
        return trainer.update(sentences, "decoder")

    def _catch_up(self, trainer: Trainer, sentences: Sequence[Sentence]) -> None:
        window, before, batch = int(self.values["window"]), math.inf, sentences
        total = 0.0
        for done in range(1, int(self.values["inner"]) + 1):
            tokens = sum(len(sentence) + 1 for sentence in batch) / len(batch)
            total += trainer.update(batch, "encoder") / tokens
            batch = trainer.draw_batch()
            if done % window == 0:
                if total >= before:
                    return
                before, total = total, 0.0

    def end_epoch(self, model: TextVae, valid: Sequence[Sentence], seed: int) -> None:
        """Stop being aggressive once MI on validation sentences falls."""
        if not self.aggressive:
            return
        found = posterior_information(encode_sentences(model, valid[:_MOST]), seed, _STREAM)
        self.aggressive = found >= self.information
        self.information = found

    def state(self) -> dict[str, Any]:
        """Return whether the encoder is trained aggressively, and the MI that the next one is held against."""
        return {"aggressive": self.aggressive, "information": self.information}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self.aggressive, self.information = bool(state["aggressive"]), float(state["information"])
