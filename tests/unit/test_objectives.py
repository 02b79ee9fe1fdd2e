"""What each objective is told, what it does to a training run, and that a run continues to the same bits."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_model_training import StopAt, generated

from hvae_mnn.errors import CheckpointError, TrainingError
from hvae_mnn.model.calibration import calibrate
from hvae_mnn.model.checkpoint import load_checkpoint, save_checkpoint
from hvae_mnn.model.evaluation.measures import Likelihood, evaluate_likelihood
from hvae_mnn.model.network.vae import TextVae, pad_batch
from hvae_mnn.model.text.corpus import Corpus, Sentence
from hvae_mnn.model.training import train as training
from hvae_mnn.model.training.objectives import OBJECTIVES
from hvae_mnn.model.training.objectives.lagging import Lagging
from hvae_mnn.model.training.settings import PRESETS, TrainConfig
from hvae_mnn.model.training.train import _Run, state_path, train

TINY = TrainConfig(
    embedding=8,
    hidden=10,
    latent=4,
    max_length=12,
    batch=32,
    epochs=2,
    learning_rate=5e-3,
    word_dropout=0.2,
    embedding_dropout=0.1,
)
OPTIONS = {"lagging": {"inner": 6, "window": 2}, "sa": {"steps": 2}, "short-run": {"steps": 2}, "flow": {"layers": 2}}

pytestmark = pytest.mark.usefixtures("one_thread")


def config_of(name: str, **changes: Any) -> TrainConfig:
    """Return a short run with an objective, as the command line would set it up, with fewer steps."""
    usual: dict[str, Any] = dict(OBJECTIVES[name].defaults)
    if usual.get("kl_warmup"):
        usual["kl_warmup"] = 1.5
    options = tuple((key, float(value)) for key, value in OPTIONS.get(name, {}).items())
    return replace(TINY, **{"objective": name, "objective_options": options, **usual, **changes})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generated()


@pytest.mark.parametrize("interval", [0.0, 1e9])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_interrupted_run_continues_to_the_same_bits(
    corpus: Corpus, tmp_path: Path, name: str, interval: float
) -> None:
    config, out = config_of(name), tmp_path / "model.pt"
    whole = train(corpus, config, tmp_path / "whole.pt", threads=1)
    for reports in (3, 7):
        with pytest.raises(KeyboardInterrupt):
            train(corpus, config, out, progress=StopAt(reports), threads=1, seconds_between_saves=interval)

    resumed = train(corpus, config, out, threads=1)

    assert load_checkpoint(out).content_hash() == resumed.content_hash() == whole.content_hash()
    assert resumed.metrics == whole.metrics
    assert out.read_bytes() == (tmp_path / "whole.pt").read_bytes()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_falls(corpus: Corpus, tmp_path: Path, name: str) -> None:
    events: list[Any] = []

    train(corpus, config_of(name, epochs=3, kl_warmup=0.0), tmp_path / "m.pt", progress=events.append, threads=1)

    losses = [event.valid_loss for event in events if event.valid_loss is not None]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["twr", "sa", "short-run", "prior", "flow"])
def test_models_with_other_parts_come_back_from_files_of_version_3(
    corpus: Corpus, tmp_path: Path, name: str, precision: str
) -> None:
    written = train(corpus, config_of(name, epochs=1, precision=precision), tmp_path / "model.pt", threads=1)

    loaded = load_checkpoint(tmp_path / "model.pt")

    assert torch.load(tmp_path / "model.pt", weights_only=True)["version"] == 3
    assert loaded.content_hash() == written.content_hash()
    assert loaded.config == written.config
    again = evaluate_likelihood(loaded.build_model(), corpus.test, seed=TINY.seed)
    assert again.elbo_nll == pytest.approx(loaded.metrics["elbo_nll"], rel=1e-6)
    assert loaded.provenance["objective"] == name


@pytest.mark.parametrize(("name", "version"), [("hsr", 1), ("vae", 1), ("bn", 1), ("lm", 1)])
def test_models_with_the_old_parts_keep_the_old_version(
    corpus: Corpus, tmp_path: Path, name: str, version: int
) -> None:
    checkpoint = train(corpus, config_of(name, epochs=1), tmp_path / "model.pt", threads=1)

    assert torch.load(tmp_path / "model.pt", weights_only=True)["version"] == version
    assert {"posterior", "posterior_steps", "posterior_rate", "prior"}.isdisjoint(checkpoint.config.stored())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("twr", "one encoder layer"),
        ("flow", "posterior 'flow'"),
        ("short-run", "posterior 'langevin'"),
        ("prior", "prior 'learned'"),
    ],
)
def test_what_the_circuit_cannot_make_is_refused_in_one_line(
    corpus: Corpus, tmp_path: Path, name: str, found: str
) -> None:
    checkpoint = train(corpus, config_of(name, epochs=1), tmp_path / "model.pt", threads=1)

    for use in (checkpoint.layer_weights, checkpoint.software_parts):
        with pytest.raises(CheckpointError, match=f"the model has {found}, which crossbars .* train it with --obj"):
            use()
    assert not checkpoint.calibration


def test_a_refined_posterior_is_calibrated_as_the_circuit_runs_it(corpus: Corpus, tmp_path: Path) -> None:
    """The circuit runs the encoder alone; so do the latents that set its full scales."""
    checkpoint = train(corpus, config_of("sa"), tmp_path / "model.pt", threads=1)
    plain = dataclasses.replace(
        checkpoint,
        config=replace(checkpoint.config, posterior="encoder", posterior_steps=0, posterior_rate=0.0),
    )
    ids, eps = corpus.test[0], np.zeros(4)

    np.testing.assert_array_equal(
        checkpoint.build_model().reconstruct(ids, eps).mu, plain.build_model().reconstruct(ids, eps).mu
    )
    assert checkpoint.layer_weights()[2].groups == plain.layer_weights()[2].groups
    assert checkpoint.ranges == calibrate(plain.build_model(), corpus.train, seed=TINY.seed).ranges
    model, tokens = checkpoint.build_model().eval(), pad_batch(corpus.train)
    with torch.no_grad():
        refined, encoded = model.infer(tokens).mu, model.encode(tokens)[0]
    assert float((refined - encoded).abs().max()) > 0.05  # they would have set another one


def test_the_cyclical_weight_by_hand() -> None:
    """Eqs. 6-7 of Fu et al.: 8 epochs in 4 cycles of 2; the weight rises over the first half of each."""
    objective = config_of("cyclical").make_objective()

    found = [objective.kl_weight(done, 8) for done in (0, 0.25, 0.5, 1, 1.5, 1.99, 2, 2.5, 7.75)]

    assert found == pytest.approx([0, 0.25, 0.5, 1, 1, 1, 0, 0.5, 1])
    slow = config_of("cyclical", objective_options=(("cycles", 1.0), ("ratio", 1.0))).make_objective()
    assert [slow.kl_weight(done, 8) for done in (0, 2, 6)] == pytest.approx([0, 0.25, 0.75])


def test_the_linear_weight_by_hand() -> None:
    objective = config_of("vae", kl_warmup=4.0).make_objective()

    assert [objective.kl_weight(done, 8) for done in (0, 1, 3, 4, 7)] == [0, 0.25, 0.75, 1, 1]


def test_the_elbo_charges_the_last_kl_and_hsr_the_mean(corpus: Corpus) -> None:
    model = TextVae(TINY.model_config(len(corpus.vocabulary))).eval()
    tokens = pad_batch(corpus.train[:5])

    def loss(name: str, weight: float) -> float:
        torch.manual_seed(0)
        return float(config_of(name).make_objective().loss(model, tokens, weight).detach())

    torch.manual_seed(0)
    with torch.no_grad():
        parts = model.losses(tokens)
    reconstruction = float(parts.reconstruction().mean())
    assert loss("vae", 0.5) == pytest.approx(reconstruction + 0.5 * float(parts.kl_last().mean()))
    assert loss("hsr", 0.5) == pytest.approx(reconstruction + 0.5 * float(parts.kl_mean().mean()))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_best_epoch_is_chosen_by_the_bound_but_where_another_loss_is_trained(name: str) -> None:
    found = Likelihood(100.0, 20.0, 3.0, 0.5, 0.4, 50, 1000)

    assert config_of(name).make_objective().judge(found) == (103.0 if name in ("hsr", "twr", "lm") else 120.0)


def test_short_run_judges_an_epoch_on_its_first_validation_sentences(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Sequence[Sentence]] = []
    measure = training.evaluate_likelihood

    def note(model: TextVae, some: Sequence[Sentence], seed: int) -> Likelihood:
        judged.append(some)
        return measure(model, some, seed=seed)

    monkeypatch.setattr(training, "evaluate_likelihood", note)
    assert OBJECTIVES["short-run"].judged == 500
    monkeypatch.setattr(OBJECTIVES["short-run"], "judged", 7)

    train(corpus, config_of("short-run", epochs=1), tmp_path / "model.pt", threads=1)

    assert judged == [corpus.valid[:7]]


class Recorder:
    """A trainer that takes losses from a list, and lengths of the batches it draws, and notes what it is asked for."""

    def __init__(self, losses: Sequence[float], lengths: Sequence[int] = ()) -> None:
        self.losses, self.lengths, self.asked = list(losses), list(lengths), []

    def update(self, sentences: Sequence[Sentence], parts: str = "all") -> float:
        self.asked.append(parts)
        return self.losses.pop(0)

    def draw_batch(self) -> Sequence[Sentence]:
        return [(4,) * self.lengths.pop(0), (4,)] if self.lengths else [(4, 5)]


def lagging(inner: float = 100, window: float = 2) -> Lagging:
    return Lagging({"inner": inner, "window": window}, 0.0)


@pytest.mark.parametrize(
    ("losses", "inner", "updates"),
    [
        ([9, 9, 8, 8, 9, 9, 1], 100, 6),  # better, then worse: two windows and one
        ([9, 9, 9, 9, 1], 100, 4),  # equal is no improvement
        ([9, 8, 7, 6, 5, 4], 5, 5),  # the most
    ],
)
def test_the_encoder_catches_up_until_the_loss_stops_falling(losses: list[float], inner: float, updates: int) -> None:
    trainer = Recorder(losses)

    lagging(inner).step(trainer, [(4, 5)])

    assert trainer.asked == ["encoder"] * updates + ["decoder"]


@pytest.mark.parametrize(
    ("losses", "lengths", "updates"),
    [
        ([9, 9, 17, 17, 9, 9, 1], [3, 9, 9, 1, 1, 5], 6),  # 9/3 + 9/3, less in 17/6 + 17/6, more in 9/2 + 9/2
        ([9, 9, 8, 8, 1], [3, 1, 1, 1], 4),  # 9/3 + 9/3, more in 8/2 + 8/2
    ],
)
def test_the_loss_that_stops_falling_is_that_of_a_word(losses: list[float], lengths: list[int], updates: int) -> None:
    trainer = Recorder(losses, lengths)

    lagging().step(trainer, [(4, 5)])

    assert trainer.asked == ["encoder"] * updates + ["decoder"]


def test_a_lagging_encoder_is_trained_aggressively_until_information_falls(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, found = lagging(), iter([0.5, 0.7, 0.6])
    monkeypatch.setattr("hvae_mnn.model.training.objectives.lagging.posterior_information", lambda *_: next(found))
    model = TextVae(TINY.model_config(len(corpus.vocabulary)))

    states = []
    for _ in range(4):
        objective.end_epoch(model, corpus.valid, 0)
        states.append(objective.aggressive)

    assert states == [True, True, False, False]
    trainer = Recorder([3.0])
    objective.step(trainer, [(4,)])
    assert trainer.asked == ["all"]
    other = lagging()
    other.restore(objective.state())
    assert (other.aggressive, other.information) == (False, 0.6)


@pytest.mark.parametrize("parts", ["encoder", "decoder", "all"])
def test_an_update_moves_the_parts_it_is_told_to(corpus: Corpus, tmp_path: Path, parts: str) -> None:
    run = _Run(corpus, config_of("lagging"), tmp_path / "m.pt", None, 1e9)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}

    for _ in range(3):  # Adam's momentum of the other parts must not move them either
        run.update(corpus.train[:8], "all")
    middle = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.update(corpus.train[:8], parts)

    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, middle[name])}
    encoder = {
        name for name in before if name.split(".")[0] in ("encoder_embedding", "encoder1", "encoder2", "mu", "logvar")
    }
    assert moved == {"encoder": encoder, "decoder": set(before) - encoder, "all": set(before)}[parts]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "cyclic"}, r"objective is 'cyclic'; expected one of hsr, .*; did you mean cyclical\?"),
        ({"objective": "xyz"}, r"objective is 'xyz'; expected one of hsr, twr, .*\. Change it\."),
        (
            {"objective_options": (("cycles", 4.0),)},
            r"objective hsr has no option 'cycles'; it has none\. Leave it out",
        ),
        (
            {"objective": "cyclical", "objective_options": (("cycle", 4.0),)},
            r"cyclical has no option 'cycle'; expected one of cycles, ratio; did you mean cycles\?",
        ),
        (
            {"objective": "cyclical", "objective_options": (("cycles", 2.5),)},
            r"option cycles of objective cyclical \(cycles of .*\) is 2.5; expected a whole number from 1 to 1000\.",
        ),
        *(
            (
                {"objective": name, "objective_options": ((key, 1e6),)},
                rf"option {key} of objective {name} \(.*\) is 1e\+06; expected a whole number from 1 to {most}\.",
            )
            for name, key, most in (
                ("flow", "layers", 100),
                ("sa", "steps", 1000),
                ("short-run", "steps", 1000),
                ("lagging", "inner", 10000),
                ("lagging", "window", 10000),
                ("cyclical", "cycles", 1000),
            )
        ),
        ({"objective": "cyclical", "objective_options": (("ratio", 2.0),)}, r"is 2; expected a number from 0 to 1"),
        ({"objective": "bn", "objective_options": (("gamma", math.nan),)}, r"is nan; expected a number of at least"),
        ({"objective": "sa", "objective_options": (("rate", math.inf),)}, r"is inf; expected a number of at least"),
        ({"objective": "sa", "objective_options": (("steps", 2.0),) * 2}, r"steps of objective sa is given twice"),
        ({"objective": "prior"}, r"latent_mode is 'last' with objective prior; expected per-step\. Change it"),
        ({"objective": "flow", "latent_mode": "per-step"}, r"'per-step' with objective flow; expected last"),
        ({"objective": "vae", "latent_mode": "none"}, r"'none' with objective vae; expected last or per-step"),
        ({"encoder": ("lstm",)}, r"encoder is lstm with objective hsr; expected two cells\. .* objective twr"),
        ({"objective": "twr"}, r"encoder is lstm\+lstm with objective twr; expected one cell\."),
        ({"objective": "cyclical", "kl_warmup": 3.0}, r"kl_warmup is 3 with objective cyclical, .*; expected 0"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(TINY, **changes)


def test_a_state_of_another_objective_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, config_of("cyclical"), out, progress=StopAt(3))

    with pytest.raises(TrainingError, match=r"another run: objective cyclical \(now hsr\), objective_options"):
        train(corpus, TINY, out)
    with pytest.raises(TrainingError, match=r"another run: objective_options \(\('cycles', 4\), \('ratio', 0.5\)\)"):
        train(corpus, config_of("cyclical", objective_options=(("cycles", 2.0),)), out)


def test_a_state_of_before_objectives_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        train(corpus, TINY, out, progress=StopAt(9), threads=1)
    state = torch.load(state_path(out), weights_only=True)
    assert {"objective", "objective_options"}.isdisjoint(state["identity"])
    del state["objective"]
    torch.save(state, state_path(out))

    resumed = train(corpus, TINY, out, threads=1)

    assert resumed.content_hash() == train(corpus, TINY, tmp_path / "whole.pt", threads=1).content_hash()


def test_presets_take_every_objective() -> None:
    for preset in PRESETS.values():
        for name, kind in OBJECTIVES.items():
            config = replace(preset, objective=name, **kind.defaults)
            assert config.make_objective().name == name
            assert dict(config.objective_options) == {key: option.default for key, option in kind.options.items()}


def test_a_file_of_version_3_without_its_layout_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(train(corpus, config_of("flow", epochs=1), path, threads=1), path)
    payload = torch.load(path, weights_only=True)
    del payload["packed"]
    torch.save(payload, path)

    with pytest.raises(CheckpointError, match=r"is malformed \('packed'\)"):
        load_checkpoint(path)
