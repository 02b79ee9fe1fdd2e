import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from hvae_mnn.errors import CheckpointError, TrainingError
from hvae_mnn.model.calibration import calibrate, layer_inputs
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint
from hvae_mnn.model.evaluation import measures
from hvae_mnn.model.network.output import OutputLayer
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import Corpus, Vocabulary
from hvae_mnn.model.text.grammar import ENGLISH, generate_sentences
from hvae_mnn.model.training.train import PRESETS, TrainConfig, TrainingEvent, epoch_batches, state_path, train

TINY = TrainConfig(
    embedding=8,
    hidden=10,
    latent=4,
    max_length=12,
    batch=16,
    epochs=3,
    learning_rate=5e-3,
    embedding_dropout=0.1,
    word_dropout=0.2,
    kl_warmup=1.5,
)


def generated(seed: int = 0) -> Corpus:
    splits = generate_sentences(ENGLISH, {"train": 200, "valid": 40, "test": 40}, seed)
    words = Vocabulary.from_sentences(splits["train"])
    encoded = [
        tuple(words.encode(" ".join(sentence))[0] for sentence in splits[name]) for name in ("train", "valid", "test")
    ]
    return Corpus("grammar", words, *encoded)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generated()


@pytest.fixture(scope="module")
def uninterrupted(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train(corpus, TINY, tmp_path_factory.mktemp("whole") / "model.pt", threads=1)


class StopAt:
    """Ctrl-C after so many reports, to be caught outside."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def __call__(self, event: TrainingEvent) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("interval", [0.0, 1e9])  # saved after every batch, or only between epochs
def test_an_interrupted_run_continues_to_the_same_bits(
    corpus: Corpus, uninterrupted: Checkpoint, tmp_path: Path, interval: float
) -> None:
    out = tmp_path / "model.pt"
    options: dict[str, Any] = {"threads": 1, "seconds_between_saves": interval}
    for reports in (5, 17, 9):
        with pytest.raises(KeyboardInterrupt):
            train(corpus, TINY, out, progress=StopAt(reports), **options)
        assert state_path(out).exists()
        assert not out.exists()

    resumed = train(corpus, TINY, out, **options)

    for name, value in uninterrupted.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], value)
    assert resumed.metrics == uninterrupted.metrics
    assert resumed.ranges == uninterrupted.ranges
    assert load_checkpoint(out).content_hash() == uninterrupted.content_hash()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_plain_language_model_trains_and_continues_to_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    plain, out = replace(TINY, latent_mode="none"), tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, plain, out, progress=StopAt(20), threads=1)

    resumed, whole = (train(corpus, plain, path, threads=1) for path in (out, tmp_path / "whole.pt"))

    assert load_checkpoint(out).content_hash() == whole.content_hash()
    assert resumed.metrics == whole.metrics
    assert resumed.metrics["elbo_nll"] == resumed.metrics["reconstruction_nll"]
    assert (str(resumed.metrics["kl"]), str(resumed.metrics["kl_mean_over_steps"])) == ("0.0", "0.0")
    assert not any(name.startswith("free_running") for name in resumed.metrics)
    assert (dict(resumed.calibration), dict(resumed.ranges)) == ({}, {})


def test_a_resumed_run_does_not_start_again(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, out, progress=StopAt(30))
    events: list[TrainingEvent] = []

    train(corpus, TINY, out, progress=events.append)

    assert (events[0].epoch, events[0].batch) == (3, 1)


def test_the_seed_decides_and_the_callers_random_numbers_stay(
    corpus: Corpus, uninterrupted: Checkpoint, tmp_path: Path
) -> None:
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)

    again = train(corpus, TINY, tmp_path / "a.pt", threads=1)
    assert torch.equal(torch.rand(3), expected)
    other = train(corpus, replace(TINY, seed=1), tmp_path / "b.pt", threads=1)

    assert again.content_hash() == uninterrupted.content_hash() != other.content_hash()


def test_the_callers_threads_come_back_even_after_an_interruption(corpus: Corpus, tmp_path: Path) -> None:
    inside: list[int] = []

    def stop(event: TrainingEvent) -> None:
        inside.append(torch.get_num_threads())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, tmp_path / "model.pt", progress=stop, threads=2)

    assert inside == [2]
    assert torch.get_num_threads() == 1


def test_the_weights_are_those_of_the_best_epoch(corpus: Corpus, tmp_path: Path) -> None:
    """At this learning rate the last epoch is not the best one."""
    events: list[TrainingEvent] = []
    config = replace(TINY, learning_rate=0.3, clip=100.0, epochs=4, word_dropout=0.0, kl_warmup=0.0)

    checkpoint = train(corpus, config, tmp_path / "model.pt", progress=events.append)

    losses = [event.valid_loss for event in events if event.valid_loss is not None]
    assert checkpoint.metrics["valid_loss"] == min(losses)
    assert checkpoint.metrics["best_epoch"] == losses.index(min(losses)) + 1
    measured = measures.evaluate_likelihood(checkpoint.build_model(), corpus.valid, seed=config.seed)
    assert measured.objective == pytest.approx(min(losses), abs=1e-4)


def test_training_reports_every_batch_and_every_epoch(corpus: Corpus, tmp_path: Path) -> None:
    events: list[TrainingEvent] = []

    train(corpus, replace(TINY, epochs=2), tmp_path / "model.pt", progress=events.append)

    assert [(event.epoch, event.batch) for event in events if event.valid_loss is None] == [
        (epoch, batch) for epoch in (1, 2) for batch in range(1, 14)
    ]
    assert [event.epoch for event in events if event.valid_loss is not None] == [1, 2]
    assert {(event.epochs, event.batches) for event in events} == {(2, 13)}
    ends = [event for event in events if event.valid_loss is not None]
    assert ends[1].train_loss < ends[0].train_loss


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_precision_is_measured_as_it_is_stored(
    corpus: Corpus, uninterrupted: Checkpoint, tmp_path: Path, precision: str
) -> None:
    checkpoint = train(corpus, replace(TINY, precision=precision), tmp_path / "model.pt", threads=1)

    loaded = load_checkpoint(tmp_path / "model.pt")

    assert loaded.content_hash() == checkpoint.content_hash() == uninterrupted.rounded(precision).content_hash()
    assert loaded.provenance["precision"] == precision
    again = measures.measure_all(loaded.build_model(), corpus.test, seed=TINY.seed)
    assert again == pytest.approx({name: loaded.metrics[name] for name in again}, rel=1e-5)


def test_the_output_layer_in_bfloat16(corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, rows = OutputLayer(16, 40), torch.randn(7, 16, requires_grad=True)
    layer.training_dtype = torch.bfloat16
    exact = functional.linear(rows, layer.weight, layer.bias)

    rounded = layer.train()(rows)
    rounded.square().sum().backward()

    assert torch.equal(layer.eval()(rows), exact)  # validation and measurement are in float32
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=2**-7)
    assert rows.grad is not None and layer.weight.grad is not None
    torch.testing.assert_close(rows.grad, 2 * exact.detach() @ layer.weight.detach(), rtol=0.02, atol=0.05)
    torch.testing.assert_close(layer.weight.grad, 2 * exact.detach().T @ rows.detach(), rtol=0.02, atol=0.1)

    plain = train(corpus, replace(TINY, word_dropout=0), tmp_path / "plain.pt")
    fast = train(corpus, replace(TINY, word_dropout=0, arithmetic="bfloat16"), tmp_path / "fast.pt")
    assert fast.content_hash() != plain.content_hash()
    assert fast.metrics["elbo_nll"] == pytest.approx(plain.metrics["elbo_nll"], rel=0.01)
    assert (fast.provenance["arithmetic"], plain.provenance.get("arithmetic")) == ("bfloat16", None)


def test_provenance_says_what_it_was_trained_with(corpus: Corpus, tmp_path: Path) -> None:
    checkpoint = train(corpus, replace(TINY, epochs=1), tmp_path / "model.pt", provenance={"command": "hvae-mnn train"})

    assert checkpoint.provenance["corpus_sha256"] == corpus.fingerprint()
    assert checkpoint.provenance["command"] == "hvae-mnn train"
    assert checkpoint.provenance["learning_rate"] == "0.005"
    assert set(asdict(TINY)) - set(checkpoint.provenance) == {
        "objective",
        "objective_options",
        "arithmetic",
    }  # as in old files


def test_a_state_of_another_configuration_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, out, progress=StopAt(3))

    with pytest.raises(TrainingError, match=r"another run: hidden 10 \(now 12\), epochs 3 \(now 9\); expected"):
        train(corpus, replace(TINY, hidden=12, epochs=9), out)
    with pytest.raises(TrainingError, match="belongs to another run: another corpus; expected the same"):
        train(generated(1), TINY, out)


def test_a_run_of_three_widths_continues_and_equal_ones_are_one(corpus: Corpus, tmp_path: Path) -> None:
    out, uneven = tmp_path / "model.pt", replace(TINY, hidden=(9, 7, 8), epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(corpus, uneven, out, progress=StopAt(3))

    with pytest.raises(TrainingError, match=r"another run: hidden \(9, 7, 8\) \(now 10\); expected"):
        train(corpus, replace(TINY, epochs=1), out)
    train(corpus, uneven, out)

    loaded = load_checkpoint(out)
    assert {layer: value.shape[1] for layer, value in loaded.calibration.items()} == {
        "encoder1": 8 + 9,
        "encoder2": 9 + 7,
        "decoder": 8 + 8 + 4,
    }
    assert replace(TINY, hidden=(10, 10, 10)) == TINY


def test_a_state_of_before_peepholes_goes_on_without_them(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, out, progress=StopAt(3))
    state = torch.load(state_path(out), weights_only=True)
    del state["identity"]["peepholes"]
    torch.save(state, state_path(out))

    with pytest.raises(TrainingError, match=r"another run: peepholes False \(now True\); expected"):
        train(corpus, replace(TINY, peepholes=True), out)
    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, out, progress=StopAt(1))


@pytest.mark.parametrize("half", [True, False])
def test_a_state_of_before_precision_goes_on_at_any(
    corpus: Corpus, uninterrupted: Checkpoint, tmp_path: Path, half: bool
) -> None:
    """It rounds the weights when training is over, so a state does not depend on it."""
    out = tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, replace(TINY, precision="float16"), out, progress=StopAt(30), threads=1)
    state = torch.load(state_path(out), weights_only=True)
    assert not {"half", "precision"} & set(state["identity"])
    state["identity"]["half"] = half
    torch.save(state, state_path(out))

    resumed = train(corpus, replace(TINY, precision="bfloat16"), out, threads=1)

    assert resumed.content_hash() == uninterrupted.rounded("bfloat16").content_hash()


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04K\x05."])
def test_a_damaged_state_is_refused(corpus: Corpus, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt.training").write_bytes(content)

    with pytest.raises(TrainingError, match=r"model.pt.training' is not the state of a training run"):
        train(corpus, TINY, tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"format": "hvae-mnn checkpoint", "version": 1}, "is not the state of a training run"),
        ({"format": "hvae-mnn training state", "version": 7}, "has version 7; this program reads 1"),
        ({"format": "hvae-mnn training state", "version": 1}, "is not the state of a training run"),
    ],
)
def test_a_foreign_state_is_refused(corpus: Corpus, tmp_path: Path, state: dict[str, Any], message: str) -> None:
    torch.save(state, tmp_path / "model.pt.training")

    with pytest.raises(TrainingError, match=message):
        train(corpus, TINY, tmp_path / "model.pt")


def test_a_loss_that_is_not_a_number_stops_the_run(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = TextVae.encode
    monkeypatch.setattr(TextVae, "encode", lambda self, tokens: tuple(x * math.nan for x in encode(self, tokens)))

    message = r"loss is nan in epoch 1, batch 1; .*Lower the training option learning_rate \(now 0.005\) and delete"
    with pytest.raises(TrainingError, match=message):
        train(corpus, TINY, tmp_path / "model.pt")
    options = (("rate", 7.0), ("steps", 1.0))
    message = r"Lower the training option learning_rate \(now 0.005\) or the option rate of objective sa \(now 7\)"
    with pytest.raises(TrainingError, match=message):
        train(corpus, replace(TINY, objective="sa", objective_options=options), tmp_path / "sa.pt")
    assert [path.suffix for path in tmp_path.iterdir()] == [".training"] * 2


def test_a_model_whose_figures_are_beyond_floats_is_not_written(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its NLL is a number, exp of it is not."""
    likelihood = measures.Likelihood(9000.0, 1.0, 1.0, 0.5, 0.1, 10, 20)
    monkeypatch.setattr(measures, "evaluate_likelihood", lambda *_, **__: likelihood)

    with pytest.raises(TrainingError, match=r"elbo_perplexity is inf on the test split; .* learning_rate \(now 0.005"):
        train(corpus, replace(TINY, epochs=1), tmp_path / "model.pt")
    assert [path.suffix for path in tmp_path.iterdir()] == [".training"]


def test_a_test_split_of_one_sentence_is_measured_without_a_standard_error(corpus: Corpus, tmp_path: Path) -> None:
    alone = replace(corpus, test=corpus.test[:1])

    assert train(alone, replace(TINY, epochs=1), tmp_path / "model.pt").metrics["elbo_nll_standard_error"] == math.inf


def test_a_sentence_past_the_limit_is_named_before_training(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'grammar' has a sentence of 11 words in its test split; .* 10"):
        train(corpus, replace(TINY, max_length=10), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, r"learning_rate is 0.0; expected more than 0"),
        ({"learning_rate": math.nan}, r"learning_rate is nan; expected more than 0"),
        ({"epochs": 0}, r"epochs is 0; expected more than 0"),
        ({"batch": -4}, r"batch is -4; expected more than 0"),
        ({"weight_decay": -1.0}, r"weight_decay is -1.0; expected 0 or more"),
        ({"kl_warmup": -1.0}, r"kl_warmup is -1.0; expected 0 or more"),
        ({"precision": "int8"}, r"precision is 'int8'; expected one of float32, float16, bfloat16"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(TINY, **changes)


def test_sizes_are_refused_when_the_options_are_made() -> None:
    with pytest.raises(CheckpointError, match=r"model.latent is 0"):
        replace(TINY, latent=0)


def test_the_paper_preset_has_the_papers_sizes() -> None:
    paper = PRESETS["paper"]

    assert (paper.embedding, paper.hidden, paper.latent, paper.embedding_dropout) == (512, 256, 32, 0.5)
    assert (paper.batch, paper.weight_decay, paper.adam_eps, paper.kl_warmup) == (64, 1e-5, 1e-6, 0.0)
    assert [PRESETS[name].precision for name in ("tiny", "grammar", "paper")] == ["float16", "float32", "bfloat16"]
    assert {name: preset.preset for name, preset in PRESETS.items()} == {name: name for name in PRESETS}


def test_batches_hold_every_sentence_once_in_similar_lengths(corpus: Corpus) -> None:
    first, second = (epoch_batches(corpus.train, 16, seed=3, epoch=epoch) for epoch in (0, 1))

    assert sorted(place for batch in first for place in batch) == list(range(200))
    assert first != second
    assert first == epoch_batches(corpus.train, 16, seed=3, epoch=0)
    spreads = [np.ptp([len(corpus.train[place]) for place in batch]) for batch in first]
    assert max(spreads) <= 2


def test_calibration_holds_what_the_layers_are_fed(corpus: Corpus, uninterrupted: Checkpoint) -> None:
    """The decoder's vectors, put through the gate tables by hand, give the model's own next h."""
    model = uninterrupted.build_model()
    with torch.no_grad():
        tokens = pad_batch(corpus.train[:1])
        inputs = layer_inputs(model, tokens, torch.Generator().manual_seed(0))["decoder"].double().numpy()
        z, _, _ = model.driving_latents(tokens, torch.Generator().manual_seed(0))
        hidden = model.decode(tokens[:, :-1], z)[0].double().numpy()
        first = model.initial(z[0, 0]).double().numpy()

    decoder = uninterrupted.layer_weights()[2]
    c = first
    for t, vector in enumerate(inputs):
        sums = [vector @ gate.weight + gate.bias for gate in decoder.gates]
        i, f, o = (1 / (1 + np.exp(-sums[k])) for k in (0, 1, 3))
        c = f * c + i * np.tanh(sums[2])
        np.testing.assert_allclose(o * np.tanh(c), hidden[t], rtol=0, atol=1e-5)
    np.testing.assert_allclose(inputs[0, 8:18], first, rtol=0, atol=1e-6)


def test_calibration_is_seeded_and_bounded_by_its_ranges(corpus: Corpus, uninterrupted: Checkpoint) -> None:
    model = uninterrupted.build_model()

    one, two = (calibrate(model, corpus.train, seed=5, sentence_count=100, samples=32) for _ in range(2))

    assert {name: value.shape for name, value in one.samples.items()} == {
        "encoder1": (32, 18),
        "encoder2": (32, 20),
        "decoder": (32, 22),
    }
    for layer, groups in one.ranges.items():
        np.testing.assert_array_equal(one.samples[layer], two.samples[layer])
        assert list(groups) == (["x", "h", "z"] if layer == "decoder" else ["x", "h"])
        assert np.abs(one.samples[layer]).max() <= max(groups.values())
    assert one.ranges["encoder1"]["h"] <= one.ranges["encoder2"]["x"] < 1  # the last output is not read back
    assert one.ranges["encoder2"]["h"] < 1


class Parrot(TextVae):
    """Says the same words whatever it is given."""

    said: tuple[tuple[int, ...], ...] = ()

    def greedy(self, z: torch.Tensor, limit: int) -> torch.Tensor:
        return torch.tensor(self.said)


def test_the_reconstruction_score_by_hand(corpus: Corpus) -> None:
    model = Parrot(TINY.model_config(len(corpus.vocabulary)))
    model.said = ((5, 6, 7, 3), (5, 6, 3, 0), (9, 9, 9, 9))

    score = measures.evaluate_reconstruction(model, [(5, 6, 7), (5, 8, 8, 8), (9,)])

    assert score.token_accuracy == pytest.approx((3 + 1 + 1) / (3 + 4 + 4))
    assert (score.exact, score.sentences) == (pytest.approx(1 / 3), 3)


@pytest.mark.parametrize("mode", ["last", "per-step"])
def test_decoding_a_batch_equals_decoding_each_sentence(corpus: Corpus, mode: str) -> None:
    torch.manual_seed(0)
    model = TextVae(replace(TINY, latent_mode=mode).model_config(len(corpus.vocabulary))).double().eval()
    with torch.no_grad():
        model.logvar.weight.zero_()
        model.logvar.bias.fill_(-60)  # no noise: z = mu
        model.output.weight.mul_(5)
    sentences = corpus.test[:10]

    together = measures.decode_freely(model, sentences)

    latent = TINY.latent
    for sentence, said in zip(sentences, together, strict=True):
        shape = (latent,) if mode == "last" else (len(sentence) + 2, latent)
        assert model.reconstruct(sentence, np.zeros(shape)).tokens == said


def test_the_perplexity_counts_words_and_ends(corpus: Corpus, uninterrupted: Checkpoint) -> None:
    measured = measures.evaluate_likelihood(uninterrupted.build_model(), corpus.test)

    assert measured.tokens == sum(len(sentence) + 1 for sentence in corpus.test)
    per_token = measured.elbo_nll * len(corpus.test) / measured.tokens
    assert measured.perplexity == pytest.approx(math.exp(per_token))
    assert measured.kl >= measured.kl_mean >= 0


def test_choosing_takes_no_sentence_twice() -> None:
    sentences = [(place,) for place in range(50)]

    chosen = measures.choose(sentences, 20, seed=1)

    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen) == measures.choose(sentences, 20, seed=1)
    assert measures.choose(sentences, 50, seed=1) == sentences
