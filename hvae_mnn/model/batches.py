"""Words to padded tensors and back. Shapes: `B` sentences, `T` tokens with `<sos>` and `<eos>`, `V` vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_mnn.errors import SentenceError
from hvae_mnn.model.config import ModelConfig
from hvae_mnn.model.corpus import EOS, PAD, SOS, Sentence


def best_token(logits: Tensor) -> Tensor:
    """Return the most likely token of logits (B, V) that can be said: no `<pad>`, no `<sos>`."""
    allowed = logits.clone()
    allowed[:, [PAD, SOS]] = -torch.inf
    return allowed.argmax(1)


def check_sentence(ids: Sequence[int], config: ModelConfig) -> None:
    """Refuse a sentence that the model cannot read."""
    if len(ids) == 0:
        raise SentenceError("the sentence has no words; expected at least one. Give some text.")
    if len(ids) > config.max_length:
        raise SentenceError(
            f"the sentence has {len(ids)} words; the model reads at most {config.max_length}. Shorten it."
        )
    for place in ids:
        if not 0 <= place < config.vocabulary_size or place in (PAD, SOS, EOS):
            raise SentenceError(
                f"the sentence holds token number {place}; expected a word's number below "
                f"{config.vocabulary_size}. Encode the text with the model's own vocabulary."
            )


def pad_batch(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return `<sos> words <eos>` of each sentence, padded at the end, (B, T)."""
    longest = max(len(sentence) for sentence in sentences)
    rows = [[SOS, *sentence, EOS] + [PAD] * (longest - len(sentence)) for sentence in sentences]
    return torch.tensor(rows)


def said_words(said: Tensor) -> list[Sentence]:
    """Return the words before `<eos>` of each row of what was said, (B, steps)."""
    return [tuple(row[: row.index(EOS)] if EOS in row else row) for row in said.tolist()]


def last_places(tokens: Tensor, width: int) -> Tensor:
    """Return where each sentence's last token stands, (B, 1, width), as `gather` takes it."""
    return ((tokens != PAD).sum(1) - 1)[:, None, None].expand(-1, 1, width)
