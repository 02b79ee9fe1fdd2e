"""How much of a sentence comes back: token accuracy and BLEU, at the posterior's mean and at a sampled z."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from hvae_mnn.model.evaluation.bleu import corpus_bleu
from hvae_mnn.model.evaluation.measures import compare_sentences, count_equal
from hvae_mnn.model.evaluation.posteriors import Posterior, Report
from hvae_mnn.model.evaluation.sides import Side
from hvae_mnn.model.text.corpus import EOS, Sentence


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What of a text comes back from one z a sentence.

    Attributes:
        forced: Share of words and `<eos>` that are the most likely ones, given the true words before them.
        free: Equal words at equal places over the longer of source and what is said freely, pooled over sentences.
        exact: Share of sentences that are said again whole.
        bleu: Corpus BLEU-4 of what is said freely, the source its only reference, 0 to 1.
    """

    forced: float
    free: float
    exact: float
    bleu: float


@dataclass(frozen=True, slots=True)
class Quality:
    """What of a text comes back.

    Attributes:
        mean: With z at the posterior's mean.
        sampled: With one z drawn from the posterior.
        sentences: On how many sentences.
    """

    mean: Rebuilt
    sampled: Rebuilt
    sentences: int

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return asdict(self)


def evaluate_quality(
    side: Side, posteriors: Sequence[Posterior], seed: int, stream: int, report: Report | None = None
) -> Quality:
    """Measure what of some sentences comes back.

    Args:
        side: Decodes.
        posteriors: What the side's encoder made of them.
        seed: Seed of the draw of z.
        stream: Stream of its noise.
        report: Called with what is done and what there is.
    """
    sentences = [posterior.ids for posterior in posteriors]
    means = [posterior.centre() for posterior in posteriors]
    drawn = [posterior.latents(posterior.noise(seed, stream))[0] for posterior in posteriors]
    first = _rebuild(side, sentences, means, report, 0)
    return Quality(first, _rebuild(side, sentences, drawn, report, len(sentences)), len(sentences))


def compare_words(sources: Sequence[Sentence], forced: Sequence[Sentence], said: Sequence[Sentence]) -> Rebuilt:
    """Return how much of some sentences came back.

    Args:
        sources: The words of each.
        forced: The most likely word at each of them and at `<eos>`, teacher-forced.
        said: What was said freely.
    """
    targets = [(*source, EOS) for source in sources]
    right = sum(count_equal(*pair) for pair in zip(targets, forced, strict=True))
    score = compare_sentences(sources, said)
    return Rebuilt(
        forced=right / sum(len(target) for target in targets),
        free=score.token_accuracy,
        exact=score.exact,
        bleu=corpus_bleu(said, [[source] for source in sources]),
    )


def _rebuild(
    side: Side, sentences: Sequence[Sentence], latents: Sequence[Tensor], report: Report | None, done: int
) -> Rebuilt:
    def go_on(spoken: int, total: int) -> None:
        if report is not None:
            report(done + spoken, 2 * total)

    return compare_words(sentences, side.forced(sentences, latents), side.speak(latents, go_on))
