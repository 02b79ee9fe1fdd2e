"""Two ways of counting the same model, and what was published by one of them.

`paper` is the evaluation of TWR-VAE (Li et al. 2020), by which the figures of Hu & Yang 2023 were
made; `honest` counts the file as it is and gives bounds. docs/evaluation.md has the equations.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.model.evaluation.gaps import Gap, Gaps
from hvae_mnn.model.evaluation.generation import Interpolation
from hvae_mnn.model.evaluation.measures import perplexity
from hvae_mnn.model.evaluation.quality import Quality
from hvae_mnn.model.text.corpus import Text

BATCH = 64
"""Sentences of a batch in the `paper` protocol (TWR-VAE)."""
PTB_TEST = (3761, 78669)
"""Sentences and words of the Penn Treebank's test split in the usual language-model preparation."""

_DOTS = re.compile(r"\.+")
_APART = re.compile(r"[.?!,]|'s")


def split_again(words: Iterable[str]) -> Text:
    """Split a sentence as TWR-VAE does before it counts.

    Lower case, runs of `.` to one, a space before each of `. ? ! ,` and before `'s`.
    """
    single = _DOTS.sub(".", " ".join(words).lower())
    return tuple(_APART.sub(lambda found: f" {found.group()}", single).split())


def tokens_counted(nll: float, ppl: float) -> float:
    """Return NLL / ln PPL: how many tokens a sentence a pair of printed figures was counted with."""
    return nll / math.log(ppl) if ppl > 1 else math.nan


@dataclass(frozen=True, slots=True)
class Published:
    """A row of a published table.

    Attributes:
        name: Model and source.
        nll: Nats a sentence, as printed there.
        perplexity: As printed there.
        kl: Nats a sentence, as printed there.
        tokens: Tokens a sentence that the row counted.
        baseline_tokens: Tokens a sentence that the baselines of the same table counted, where known.
        corpus: Test split that it is of.
        protocol: How it was counted: `paper` or `honest`.
    """

    name: str
    nll: float
    perplexity: float
    kl: float
    tokens: float
    baseline_tokens: float | None = None
    corpus: str = "ptb"
    protocol: str = "paper"

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


PTB_PAPER = Published("HSR-VAE, Hu & Yang 2023", 79.4, 30.2, 9.1, 23.32, 21.917)
PUBLISHED = (
    PTB_PAPER,
    # Table 2 prints the second of these without its cells; the tokens are NLL / ln PPL of what is printed.
    Published("HSR-VAE lstm+lstm, Hu & Yang 2023", 310.4, 45.6, 8.8, tokens_counted(310.4, 45.6), corpus="yahoo"),
    Published("HSR-VAE gru+gru, Hu & Yang 2023", 290.7, 35.8, 8.7, tokens_counted(290.7, 35.8), corpus="yahoo"),
)
"""Rows of the tables of Hu & Yang 2023, counted as in TWR-VAE."""
NOT_AVAILABLE = ("yelp", "yahoo")
"""Corpora of those tables whose training text cannot be had."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A negative log likelihood.

    Attributes:
        nll: Mean over sentences, nats.
        standard_error: Standard error of that mean, nats.
        tokens: Tokens a sentence by which its perplexity is counted.
    """

    nll: float
    standard_error: float
    tokens: float

    @property
    def perplexity(self) -> float:
        """exp(NLL / tokens)."""
        return perplexity(self.nll, self.tokens)

    def to_json(self) -> dict[str, float]:
        """Return NLL, standard error, perplexity and the tokens it was counted by."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return own | {"perplexity": self.perplexity}


@dataclass(frozen=True, slots=True)
class PaperColumn:
    """The figures of the `paper` protocol. Their sum is no bound on -log p(x).

    Attributes:
        tokens: Words, `<eos>` and `<sos>` a sentence after splitting again.
        unknown: Share of words that the vocabulary lacks after splitting again.
        reconstruction: -log p(x | z) at z = mu.
        kl: (1/T) sum_t KL_t, although the decoder is given other latents.
        mutual_information: Within batches of 64 sentences of like length.
        ceiling: What it cannot pass: ln 64, or less for fewer sentences.
    """

    tokens: float
    unknown: float
    reconstruction: float
    kl: float
    mutual_information: float
    ceiling: float

    @property
    def nll(self) -> float:
        """Reconstruction + mean KL."""
        return self.reconstruction + self.kl

    @property
    def perplexity(self) -> float:
        """exp(NLL / tokens)."""
        return perplexity(self.nll, self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Return the column as plain values."""
        own: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        counted = tokens_counted(self.nll, self.perplexity)
        return own | {"nll": self.nll, "perplexity": self.perplexity, "nll_over_ln_perplexity": counted}


@dataclass(frozen=True, slots=True)
class HonestColumn:
    """The figures of the `honest` protocol.

    Attributes:
        tokens: Words and `<eos>` a sentence, the file as it is.
        unknown: Share of words that the vocabulary lacks.
        reconstruction: -log p(x | z) at a sampled z.
        kl: KL of the latents that the decoder is given, in full.
        elbo: Reconstruction + KL, a bound on -log p(x).
        importance: The importance-weighted bound for each number of samples.
        importance_sentences: Sentences it was computed on.
        prior: -log p(x | z) with z from the prior, a bound too.
        mutual_information: Of the sentence and the last latent that drives the decoder, under the
            aggregate posterior of all sentences.
        ceiling: What it cannot pass: ln N.
        active_units: Units of that latent whose mean varies by more than 0.01.
        latent: All units.
        kl_steps: Mean KL of each step's posterior over the sentences that have the step. Empty where only the last
            token has a KL.
        kl_counts: How many sentences have it.
        kl_end: Mean KL of the posterior that has read `<eos>`.
        bounds: Reconstruction + KL of each sentence; not in `to_json`.
        kl_first: Tokens that the first posterior of `kl_steps` has read: 2 under a learned prior, else 1.
    """

    tokens: float
    unknown: float
    reconstruction: float
    kl: float
    elbo: Estimate
    importance: dict[int, Estimate]
    importance_sentences: int
    prior: Estimate
    mutual_information: float
    ceiling: float
    active_units: int
    latent: int
    kl_steps: tuple[float, ...]
    kl_counts: tuple[int, ...]
    kl_end: float
    bounds: NDArray[np.float64] = field(repr=False, compare=False)
    kl_first: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the column as plain values."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "bounds"}
        found |= {"elbo": self.elbo.to_json(), "prior": self.prior.to_json()}
        found["importance"] = {str(k): estimate.to_json() for k, estimate in self.importance.items()}
        found["nll_over_ln_perplexity"] = tokens_counted(self.elbo.nll, self.elbo.perplexity)
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side, software or hardware, makes of a test split.

    Attributes:
        paper: The `paper` column.
        honest: The `honest` column.
        quality: How much of a sentence comes back.
        samples: Sentences said from z drawn from the prior.
        interpolation: Sentences between two of the split.
    """

    paper: PaperColumn
    honest: HonestColumn
    quality: Quality
    samples: tuple[str, ...] = ()
    interpolation: Interpolation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found = {name: getattr(self, name).to_json() for name in ("paper", "honest", "quality")}
        way = self.interpolation
        return found | {"samples": list(self.samples), "interpolation": None if way is None else way.to_json()}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on a test split.

    Attributes:
        model: Name or file of the model.
        corpus: Name of the corpus.
        sentences: Sentences of its test split, or drawn from it.
        latent_mode: Which latents drive the decoder.
        seed: Seed of all noise and of the sentences drawn.
        plain: Exact NLL of a plain language model on the same tokens, or of the model itself if it is one.
        published: The published row for this test split, if there is one.
        software: What the software model makes of it; not for a plain language model.
        hardware: What hardware makes of it, if it was asked.
        hardware_name: Which hardware.
        gaps: Inference gaps, if they were asked for.
        over_plain: The software model's honest bound less the NLL of the plain language model beside it, sentence by
            sentence: the mean and its paired standard error.
        posterior: The model's kind of posterior, as `ModelConfig` names it. With hardware beside it an `svi`
            posterior is measured without its gradient steps, which a circuit does not take.
    """

    model: str
    corpus: str
    sentences: int
    latent_mode: str
    seed: int
    plain: Estimate | None = None
    published: Published | None = None
    software: Measured | None = None
    hardware: Measured | None = None
    hardware_name: str | None = None
    gaps: Gaps | None = None
    over_plain: Gap | None = None
    posterior: str = "encoder"

    @property
    def paper(self) -> PaperColumn | None:
        """The software model's `paper` column; not for a plain language model."""
        return None if self.software is None else self.software.paper

    @property
    def honest(self) -> HonestColumn | None:
        """The software model's `honest` column; not for a plain language model."""
        return None if self.software is None else self.software.honest

    @property
    def change(self) -> Gap | None:
        """The honest bound on hardware less that in software, the same sentences and noise; None without hardware."""
        if self.software is None or self.hardware is None:
            return None
        return Gap.of(self.hardware.honest.bounds - self.software.honest.bounds)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, `None` where there is nothing; software's figures stand at the top."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("plain", "published", "software", "hardware", "gaps"):
            found[name] = found[name].to_json() if found[name] is not None else None
        found["over_plain"] = None if self.over_plain is None else asdict(self.over_plain)
        software = found.pop("software") or dict.fromkeys(("paper", "honest", "quality", "samples", "interpolation"))
        return found | software | {"change": None if self.change is None else asdict(self.change)}


def published_row(sentences: Sequence[Text]) -> Published | None:
    """Return what was published for a test split: the Penn Treebank's, known by its counts, or nothing."""
    counts = len(sentences), sum(len(sentence) for sentence in sentences)
    return PTB_PAPER if counts == PTB_TEST else None


def unknown_share(encoded: Iterable[tuple[Sequence[int], Sequence[str]]]) -> float:
    """Return the share of words that the vocabulary lacks, from what `Vocabulary.encode` gave."""
    pairs = list(encoded)
    words = sum(len(ids) for ids, _ in pairs)
    return sum(len(unknown) for _, unknown in pairs) / words
