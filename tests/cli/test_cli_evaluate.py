"""`evaluate` as users meet it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.test_cli import refused
from click.testing import CliRunner, Result
from making import make_build, make_checkpoint

from hvae_mnn.cli.evaluating import evaluate
from hvae_mnn.compiler.build import save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint, save_checkpoint
from hvae_mnn.model.evaluation.measures import evaluate_likelihood
from hvae_mnn.model.network.vae import TextVae
from hvae_mnn.model.text.corpus import Vocabulary

LINES = "a b c\nd e a b\nc\ne d c b a\na, b x\n" * 4  # `a,` and x are unknown, and `,` by itself


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(make_checkpoint(), "model.pt")
    write("corpus", LINES)


def write(folder: str, lines: str) -> None:
    Path(folder).mkdir()
    Path(folder, "test.txt").write_text(lines)  # training and validation splits are not needed


def run(*arguments: str) -> Result:
    return CliRunner().invoke(evaluate, list(arguments))


def plain_checkpoint(words: str = "a b c d e") -> Checkpoint:
    """Return a random plain language model over some words."""
    vocabulary = Vocabulary.from_sentences([words.split()])
    config = replace(make_checkpoint().config, latent_mode="none", vocabulary_size=len(vocabulary))
    weights = {name: value.numpy().astype(np.float32) for name, value in TextVae(config).state_dict().items()}
    return Checkpoint(config, vocabulary, weights)


def test_two_columns_and_how_to_read_them() -> None:
    done = run("model.pt", "--corpus", "corpus")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "model.pt (latent mode last) on 20 test sentences of corpus"
    assert lines[1].split() == ["nats", "a", "sentence", "paper", "honest"]
    assert lines[2].split()[-2:] == ["5.400", "4.200"]
    assert lines[3].split()[-2:] == ["11.8%", "12.5%"]
    assert "It is not a bound on -log p(x): no claim follows from this column." in done.stdout
    assert "paper within 64. Near its ceiling" in done.stdout
    assert "with --objective lm" in done.stdout
    assert "published for this split" not in done.stdout
    assert max(len(line) for line in lines) <= 120


def test_json_and_the_same_twice() -> None:
    first, again = (run("model.pt", "--corpus", "corpus", "--seed", "3", "--json") for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout == again.stdout
    found = json.loads(first.stdout)
    assert (found["model"], found["corpus"], found["sentences"], found["seed"]) == ("model.pt", "corpus", 20, 3)
    assert set(found["honest"]["importance"]) == {"1", "5", "50", "500"}
    assert found["honest"]["importance_sentences"] == 20
    assert found["honest"]["ceiling"] == pytest.approx(math.log(20))
    assert len(found["honest"]["kl_steps"]) == len(found["honest"]["kl_counts"]) == 7
    assert found["honest"]["nll_over_ln_perplexity"] == pytest.approx(4.2)
    assert found["paper"]["nll_over_ln_perplexity"] == pytest.approx(5.4)
    assert (found["plain"], found["published"]) == (None, None)


def test_per_step_models_are_measured_too() -> None:
    save_checkpoint(make_checkpoint(latent_mode="per-step"), "steps.pt")
    done = run("steps.pt", "--corpus", "corpus")
    assert done.exit_code == 0, done.output
    assert "latent mode per-step" in done.stdout


def test_a_plain_language_model_beside_it_and_by_itself() -> None:
    plain = plain_checkpoint()
    save_checkpoint(plain, "lm.pt")
    vocabulary = plain.vocabulary
    sentences = [vocabulary.encode(line)[0] for line in LINES.splitlines()]
    expected = evaluate_likelihood(plain.build_model(), sentences)

    beside = json.loads(run("model.pt", "--corpus", "corpus", "--language-model", "lm.pt", "--json").stdout)
    alone = run("lm.pt", "--corpus", "corpus")

    assert beside["plain"]["nll"] == pytest.approx(expected.elbo_nll)
    assert beside["plain"]["perplexity"] == pytest.approx(expected.perplexity)
    assert alone.exit_code == 0, alone.output
    assert json.loads(run("lm.pt", "--corpus", "corpus", "--json").stdout)["over_plain"] is None
    assert "NLL of a plain language model, exact" in alone.stdout
    assert f"{expected.elbo_nll:.2f}" in alone.stdout
    assert "paper" not in alone.stdout
    assert "4.200" in alone.stdout
    table = run("model.pt", "--corpus", "corpus", "--language-model", "lm.pt").stdout
    less = beside["over_plain"]
    assert less["value"] == pytest.approx(beside["honest"]["elbo"]["nll"] - expected.elbo_nll)
    (line,) = [line for line in table.splitlines() if line.startswith("honest NLL less the language model's")]
    assert line.endswith(f" {less['value']:.2f} +- {less['standard_error']:.2f}")
    assert f"{expected.elbo_nll:.2f}" in table
    assert "none given" not in table
    refused(run("lm.pt", "--corpus", "corpus", "--language-model", "lm.pt"), "is a plain language model itself")
    refused(run("lm.pt", "--corpus", "corpus", "--samples", "2"), "without encoder and latent; expected")


def test_the_penn_treebank_gets_its_published_row() -> None:
    Path("ptb").mkdir()
    twenty = "a b c d e " * 4  # 3,761 sentences of 78,669 words
    Path("ptb/ptb.test.txt").write_text(f"{twenty}\n" * 312 + f"{twenty}a\n" * 3449)
    done = run("model.pt", "--corpus", "ptb", "--importance-sentences", "2")
    assert done.exit_code == 0, done.output
    assert "Hu & Yang 2023: NLL 79.4, perplexity 30.2, KL 9.1,\n23.32 tokens a sentence" in done.stdout
    assert "counted 21.917" in done.stdout


def test_bad_input_is_one_line() -> None:
    refused(run("nothing.pt", "--corpus", "corpus"), "nothing.pt: no such file")
    refused(run("model.pt", "--corpus", "nowhere"), "'nowhere' is not a folder")
    Path("empty").mkdir()
    refused(run("model.pt", "--corpus", "empty"), "'empty' has no test split")
    write("one", "a b c\n")
    refused(run("model.pt", "--corpus", "one"), "'one' has 1 sentence", "at least 2")
    write("foreign", "nothing of this\nis known\n")
    refused(run("model.pt", "--corpus", "foreign"), "none of the words in corpus 'foreign'", "among the 9")
    refused(
        run("model.pt", "--corpus", "corpus", "--language-model", "model.pt"),
        "the language model has latent mode 'last'; expected 'none'",
    )
    save_checkpoint(plain_checkpoint("a b"), "other.pt")
    refused(
        run("model.pt", "--corpus", "corpus", "--language-model", "other.pt"),
        "knows 6 words and the model 9, not the same ones",
    )
    assert run("model.pt").exit_code == 2
    assert run("model.pt", "--corpus", "corpus", "--importance-sentences", "1").exit_code == 2
    assert run("model.pt", "--corpus", "corpus", "--seed", "-1").exit_code == 2


def test_a_model_without_finite_figures_is_refused() -> None:
    checkpoint = make_checkpoint()
    broken = dict(checkpoint.weights) | {"output.bias": np.linspace(-3e38, 3e38, 9, dtype=np.float32)}
    save_checkpoint(replace(checkpoint, weights=broken), "broken.pt")
    refused(run("broken.pt", "--corpus", "corpus"), "expected a finite number")


# on hardware


def build(folder: str = "build", preset: str = "default", **model: object) -> None:
    make_build(Path(folder), preset, (), **model)


def test_hardware_stands_beside_software() -> None:
    build()
    done = run("model.pt", "--corpus", "corpus", "--on", "build", "--limit", "15", "--gaps", "3", "--samples", "2")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "model.pt (latent mode last) on 15 test sentences of corpus"
    assert lines[1].split() == ["nats", "a", "sentence", "paper", "honest"]
    assert lines[2].split() == ["software", "hardware", "software", "hardware"]
    assert len(lines[6].split()) == 4 + 2  # KL charged, both protocols and sides
    assert "hardware: default, nodal." in done.stdout
    assert "k at most 50, the same noise on both" in done.stdout
    assert "k = 500 " not in done.stdout.split("inference gaps")[0]
    assert "L[q] of the hardware encoder" in done.stdout
    assert "honest NLL, hardware less software" in done.stdout
    assert done.stdout.count("said from z drawn from the prior") == 2
    assert max(len(line) for line in lines) <= 120


def test_json_on_hardware_without_a_model_s_name() -> None:
    build(preset="ideal")
    options = ("--corpus", "corpus", "--gaps", "3", "--interpolate", "4", "--importance-draws", "500", "--json")
    done = run("--on", "build", "--backend", "software", *options)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["model"], found["sentences"], found["hardware_name"]) == ("build", 20, "ideal, software")
    ours, theirs = found["honest"], found["hardware"]["honest"]
    assert ours["importance_sentences"] == 20
    assert set(theirs["importance"]) == {"1", "5", "50", "500"}
    assert theirs["elbo"] == pytest.approx(ours["elbo"], rel=1e-6)
    assert theirs["importance"]["500"] == pytest.approx(ours["importance"]["500"], rel=1e-6)
    assert found["hardware"]["quality"] == found["quality"]
    assert found["change"]["value"] == pytest.approx(theirs["elbo"]["nll"] - ours["elbo"]["nll"], abs=1e-6)
    assert len(found["interpolation"]["said"]) == 4
    assert found["hardware"]["interpolation"] == found["interpolation"]
    assert found["gaps"]["sentences"] == 3
    assert found["gaps"]["encoder_cost"]["value"] == pytest.approx(0, abs=1e-6)


def refined_checkpoint() -> Checkpoint:
    """Return a model whose posterior gradient steps refine, far enough to see."""
    checkpoint = make_checkpoint()
    return replace(
        checkpoint, config=replace(checkpoint.config, posterior="svi", posterior_steps=10, posterior_rate=1.0)
    )


def test_a_refined_posterior_is_the_encoder_s_own_beside_a_circuit() -> None:
    save_build(compile_model(refined_checkpoint(), load_hardware("ideal"), "ideal"), Path("build"))
    save_checkpoint(refined_checkpoint(), "sa.pt")
    few = ("--corpus", "corpus", "--importance-sentences", "2", "--importance-draws", "50")
    on = ("--on", "build", "--backend", "software")
    alone = json.loads(run("sa.pt", *few, "--json").stdout)
    found = json.loads(run("sa.pt", *few, *on, "--gaps", "2", "--json").stdout)
    encoder = json.loads(run("model.pt", *few, "--json").stdout)

    assert found["change"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["hardware"]["honest"]["elbo"] == pytest.approx(found["honest"]["elbo"], rel=1e-6)
    assert found["gaps"]["encoder_cost"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["honest"]["kl"] == pytest.approx(encoder["honest"]["kl"], rel=1e-5)
    assert abs(alone["honest"]["elbo"]["nll"] - found["honest"]["elbo"]["nll"]) > 0.1  # there is something to tell
    assert found["posterior"] == alone["posterior"] == "svi"
    printed = run("sa.pt", *few, *on)
    assert "Posteriors are the encoder's own on both: a circuit takes no gradient steps" in printed.stdout
    assert max(len(line) for line in printed.stdout.splitlines()) <= 120
    build("plain")
    assert "gradient steps" not in run("--on", "plain", *few).stdout


@pytest.mark.parametrize(
    ("posterior", "label"),
    [("svi", "L[q], q refined from the encoder's  "), ("langevin", "L[q], q fitted after Langevin steps  ")],
)
def test_gaps_name_the_posterior_that_they_are_of(posterior: str, label: str) -> None:
    config = replace(make_checkpoint().config, posterior=posterior, posterior_steps=2, posterior_rate=0.3)
    weights = {name: value.numpy() for name, value in TextVae(config).state_dict().items()}
    save_checkpoint(Checkpoint(config, make_checkpoint().vocabulary, weights), "other.pt")
    few = ("--corpus", "corpus", "--limit", "4", "--importance-sentences", "2", "--importance-draws", "50")

    done = run("other.pt", *few, "--gaps", "2")

    assert done.exit_code == 0, done.output
    assert ("KL of the posterior after so many tokens" in done.stdout) == (posterior == "svi")
    assert label in done.stdout
    assert "of the encoder" not in done.stdout.split("inference gaps")[1].split("NLL")[0]


def test_the_curve_of_a_learned_prior_begins_after_two_tokens() -> None:
    config = replace(make_checkpoint().config, latent_mode="per-step", prior="learned")
    weights = {name: value.numpy() for name, value in TextVae(config).state_dict().items()}
    save_checkpoint(Checkpoint(config, make_checkpoint().vocabulary, weights), "prior.pt")
    few = ("--corpus", "corpus", "--importance-sentences", "2", "--importance-draws", "50")

    honest = json.loads(run("prior.pt", *few, "--json").stdout)["honest"]
    printed = run("prior.pt", *few).stdout

    assert honest["kl_first"] == 2
    assert honest["kl_counts"] == [20, 20, 16, 16, 8, 4]  # latents that drive a step: words and one
    two, five = honest["kl_steps"][0], honest["kl_steps"][3]
    line = next(line for line in printed.splitlines() if line.startswith("KL of the posterior"))
    assert line == (
        f"KL of the posterior after so many tokens: {two:.2f} (2), {five:.2f} (5); {honest['kl_end']:.2f} (<eos>)"
    )


def test_only_the_build_s_own_model_can_be_named() -> None:
    build(seed=1)
    refused(run("model.pt", "--corpus", "corpus", "--on", "build"), "build: the build is not one of model.pt; expected")
    refused(run("--corpus", "corpus", "--on", "corpus"), "corpus: not a build")
    assert run("--corpus", "corpus").exit_code == 2
    assert "need --on BUILD" in run("model.pt", "--corpus", "corpus", "--backend", "nodal").stderr
    assert run("model.pt", "--corpus", "corpus", "--gaps", "1").exit_code == 2
    assert run("model.pt", "--corpus", "corpus", "--limit", "1").exit_code == 2


@pytest.mark.ngspice
def test_ngspice_measures_what_the_nodal_engine_does() -> None:
    build(cells=("rnn", "rnn"), decoder="rnn", hidden=2, embedding=2, latent=1)
    options = ("--corpus", "corpus", "--limit", "2", "--importance-sentences", "2", "--rebuilt", "1", "--json")
    found = [json.loads(run("--on", "build", "--backend", name, *options).stdout) for name in ("nodal", "spice")]
    ours, theirs = (each["hardware"]["honest"] for each in found)
    assert theirs["kl"] == pytest.approx(ours["kl"], abs=0.02)
    assert theirs["elbo"]["nll"] == pytest.approx(ours["elbo"]["nll"], abs=0.05)


def test_samples_an_interpolation_and_gaps_in_software() -> None:
    options = ("--corpus", "corpus", "--samples", "3", "--interpolate", "2", "--gaps", "2", "--rebuilt", "5")
    done = run("model.pt", *options)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    start = lines.index("said from z drawn from the prior")
    assert lines[start + 4] == "said on the straight line between the posterior means of two test sentences"
    assert lines[start + 5].startswith("  from  ") and lines[start + 8].startswith("  to    ")
    assert "(1), " in next(line for line in lines if line.startswith("NLL by draws of z: "))
    assert "amortisation gap, L[q*] - L[q]  " in done.stdout and "L[q], q of the encoder  " in done.stdout
    assert "on 5 sentences:" in done.stdout
    assert done.stdout == run("model.pt", *options).stdout
