"""Encoder and decoder over many sentences, in batches whose memory is bounded.

Shapes: `T` tokens with `<sos>` and `<eos>`, `S` latents that drive the decoder, `L` latent.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from hvae_mnn.model.evaluation.posterior_kinds import STEPS, FlowPosterior, Posterior, PriorPosterior, without_dropout
from hvae_mnn.model.network.vae import Belief, TextVae, pad_batch
from hvae_mnn.model.text.corpus import PAD, Sentence

__all__ = ["SCORES", "STEPS", "Posterior", "Report", "encode_sentences", "length_batches", "reconstruction"]

SCORES = 2**22
"""Most word scores held at once: 16 MiB of 32-bit floats. Chosen."""

_SEARCHED = 2**24  # scores of a batch whose posteriors are found by gradient steps; 64 MiB, a few times over. Chosen

Report = Callable[[int, int], None]


@torch.no_grad()
def encode_sentences(model: TextVae, sentences: Sequence[Sentence]) -> list[Posterior]:
    """Find the posterior of every sentence, without dropout: of the kind that the model's config names."""
    found: dict[int, Posterior] = {}
    searched = model.config.posterior in ("svi", "langevin")
    most = min(STEPS, _SEARCHED // model.config.vocabulary_size) if searched else STEPS
    with without_dropout(model):
        for places in length_batches([len(sentence) + 2 for sentence in sentences], most):
            belief = model.infer(pad_batch([sentences[place] for place in places]))
            for row, place in enumerate(places):
                found[place] = _posterior(model, place, sentences[place], belief, row)
    return [found[place] for place in range(len(sentences))]


def _posterior(model: TextVae, place: int, ids: Sentence, belief: Belief, row: int) -> Posterior:
    end = len(ids) + 2
    parts = belief.mu[row, :end].clone(), belief.logvar[row, :end].clone()
    if belief.flow is not None:
        return FlowPosterior(place, ids, *parts, model.config.latent_mode, belief.flow[row, end - 1 : end].clone())
    if model.config.prior == "learned":
        return PriorPosterior(place, ids, *parts, model.config.latent_mode, model)
    return Posterior(place, ids, *parts, model.config.latent_mode)


@torch.no_grad()
def reconstruction(
    model: TextVae, sentences: Sequence[Sentence], latents: Sequence[Tensor], report: Report | None = None
) -> Tensor:
    """Return -log p(x | z) of each sentence, teacher-forced and without dropout, nats, (sentences,), float64.

    Args:
        model: The model; only its decoder is used.
        sentences: The words of each.
        latents: z of each, (1, L) for a latent of the whole sentence or (S, L).
        report: Called with sentences done and all sentences after each batch.
    """
    costs = torch.empty(len(sentences), dtype=torch.float64)
    done = 0
    with without_dropout(model):
        for places in length_batches([len(sentence) + 1 for sentence in sentences]):
            tokens = pad_batch([sentences[place] for place in places])
            rows = [latents[place].expand(len(sentences[place]) + 1, -1) for place in places]
            costs[places] = _batch_costs(model, tokens, nn.utils.rnn.pad_sequence(rows, batch_first=True))
            done += len(places)
            if report is not None:
                report(done, len(sentences))
    return costs


def length_batches(lengths: Sequence[int], most: int | None = None) -> Iterator[list[int]]:
    """Yield places in order of length, so many at once that the padded batch has at most so many steps, or `STEPS`."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda each: lengths[each]):
        if batch and lengths[place] * (len(batch) + 1) > (most or STEPS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _batch_costs(model: TextVae, tokens: Tensor, z: Tensor) -> Tensor:
    hidden = model.decode(tokens[:, :-1], z)
    predicted = tokens[:, 1:] != PAD
    costs = torch.zeros(predicted.shape, dtype=torch.float64)
    costs[predicted] = model.output.costs(hidden[predicted], tokens[:, 1:][predicted])
    return costs.sum(1)
