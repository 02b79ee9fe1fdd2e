"""Words to padded tensors and back. Shapes: `B` sentences, `T` tokens with `<sos>` and `<eos>`, `V` vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hvae_mnn.model.corpus import EOS, PAD, SOS, Sentence


def best_token(logits: Tensor) -> Tensor:
    """Return the most likely token of logits (B, V) that can be said: no `<pad>`, no `<sos>`."""
    allowed = logits.clone()
    allowed[:, [PAD, SOS]] = -torch.inf
    return allowed.argmax(1)


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
