"""What the models in models/ claim, measured again."""

import re
from pathlib import Path

import pytest

from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint
from hvae_mnn.model.config import ADDED
from hvae_mnn.model.evaluation.measures import evaluate_likelihood, evaluate_reconstruction
from hvae_mnn.model.text.corpus import load_corpus
from hvae_mnn.model.text.grammar import ENGLISH
from hvae_mnn.model.training.train import PRESETS

MODELS = Path(__file__).parents[2] / "models"
HASHES = {
    "grammar": "b926b1585928397aab211b9e978ebcc770258fac5d91b2e9b4d92f778b1d8605",
    "paper": "66d6ec3500ebd1e004fd585a8e315601351576f74f363c0d55054f76003ebfaa",
    "ptb": "4e075144f612700be32841d83b04ca4d6f96b8b9620c3651131ea6ed5dfc79ec",
}
LARGEST = {"paper": 25_000_000}  # bytes; of the others 5 MB
NAMES = tuple(HASHES)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def grammar() -> Checkpoint:
    return load_checkpoint(MODELS / "grammar.pt")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_small_whole_and_says_where_it_comes_from(name: str) -> None:
    path = MODELS / f"{name}.pt"
    checkpoint = load_checkpoint(path)

    assert path.stat().st_size <= LARGEST.get(name, 5_000_000)
    assert checkpoint.content_hash() == HASHES[name]
    assert checkpoint.provenance["corpus"] == ("ptb" if name == "paper" else name)
    assert checkpoint.provenance["command"].startswith("hvae-mnn train --corpus ")
    assert list(checkpoint.calibration) == list(checkpoint.ranges) == ["encoder1", "encoder2", "decoder"]
    for layer in checkpoint.layer_weights():
        rows = sum(group.size for group in layer.groups)
        assert checkpoint.calibration[layer.name].shape == (256, rows)
        assert set(checkpoint.ranges[layer.name]) == {group.name for group in layer.groups}


@pytest.mark.parametrize(("name", "preset"), [("grammar", "grammar"), ("paper", "paper"), ("ptb", "tiny")])
def test_a_shipped_model_was_trained_with_its_preset(name: str, preset: str) -> None:
    before = {option: str(value) for option, value in ADDED.items()}
    provenance = before | dict(load_checkpoint(MODELS / f"{name}.pt").provenance)
    if half := provenance.pop("half", None):  # the name and values of precision when these were trained
        provenance["precision"] = {"True": "float16", "False": "float32"}[half]

    for option, value in PRESETS[preset].stored().items():
        assert provenance[option] == str(list(value) if isinstance(value, tuple) else value), option


@pytest.mark.parametrize("name", NAMES)
def test_a_card_prints_the_figures_of_its_checkpoint(name: str) -> None:
    checkpoint = load_checkpoint(MODELS / f"{name}.pt")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([-\d.]+) \|$", (MODELS / f"{name}.md").read_text(), re.MULTILINE)

    assert {key for key, _ in rows} == set(checkpoint.metrics)
    for key, value in rows:
        assert float(value) == pytest.approx(checkpoint.metrics[key], abs=6e-4), key
    assert checkpoint.content_hash()[:16] in (MODELS / f"{name}.md").read_text()


def test_the_honest_bound_of_the_grammar_model_is_not_below_the_entropy(grammar: Checkpoint) -> None:
    """No model can beat the source: a lower figure would mean that something is not charged."""
    corpus = load_corpus("grammar", vocabulary=grammar.vocabulary)
    model = grammar.build_model()

    measured = evaluate_likelihood(model, corpus.test, seed=3)

    assert measured.elbo_nll >= ENGLISH.entropy() - 3 * measured.standard_error
    assert measured.objective < ENGLISH.entropy()  # charging 1/T of the KL does fall below it
    assert measured.tokens == sum(len(sentence) + 1 for sentence in corpus.test)


def test_the_grammar_model_gives_held_out_sentences_back(grammar: Checkpoint) -> None:
    corpus = load_corpus("grammar", vocabulary=grammar.vocabulary)

    score = evaluate_reconstruction(grammar.build_model(), corpus.test, seed=9)

    assert not set(corpus.test) & set(corpus.train)
    assert score.token_accuracy >= 0.95
    assert score.token_accuracy == pytest.approx(grammar.metrics["free_running_accuracy"], abs=0.02)
