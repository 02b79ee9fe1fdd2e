"""`train --objective`: what it sets, what it refuses, and what becomes of the models."""

import json
from pathlib import Path

import pytest
from studying import write_corpus
from test_cli import SENTENCE, refused, run

from hvae_mnn.model.checkpoint import load_checkpoint

SIZES = ("--embedding", "8", "--hidden", "6", "--latent", "4", "--epochs", "1", "--batch", "16")
TRAIN = ("train", "--corpus", "words", "--preset", "grammar", *SIZES)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "words", 0, SENTENCE.split())


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        (("twr",), {"encoder": "['lstm']", "kl_warmup": "30.0"}),
        (("lm",), {"latent_mode": "none"}),
        (("prior",), {"latent_mode": "per-step", "kl_warmup": "10.0"}),
        (("vae", "--kl-warmup", "2"), {"kl_warmup": "2.0"}),
        (("cyclical", "--objective-option", "cycles=3"), {"objective_options": "[('cycles', 3), ('ratio', 0.5)]"}),
    ],
)
def test_an_objective_sets_what_it_needs_and_says_so(options: tuple[str, ...], stored: dict[str, str]) -> None:
    result = run(*TRAIN, "--objective", *options, "--out", "m.pt", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["metrics"]["elbo_nll"] > 0
    provenance = load_checkpoint("m.pt").provenance
    assert {name: provenance[name] for name in stored} == stored
    assert provenance["objective"] == options[0]


def test_a_flow_is_evaluated_but_not_compiled() -> None:
    result = run(*TRAIN, "--objective", "flow", "--out", "m.pt")
    assert result.exit_code == 0, result.output

    found = run("evaluate", "m.pt", "--corpus", "words", "--importance-sentences", "2", "--json")

    assert found.exit_code == 0, found.output
    honest = json.loads(found.stdout)["honest"]
    assert honest["kl"] > 0
    for command in (
        ("compile", "m.pt"),
        ("compile", "m.pt", "--report"),
        ("simulate", "--model", "m.pt", "--sentence", SENTENCE, "--backend", "nodal"),
    ):
        refused(run(*command), "posterior 'flow'", "hvae-mnn evaluate", "--objective hsr, vae, cyclical")
    assert not Path("build").exists()


def test_a_refined_posterior_runs_on_the_circuit_by_its_encoder() -> None:
    result = run(*TRAIN, "--objective", "sa", "--objective-option", "steps=2", "--out", "m.pt")
    assert result.exit_code == 0, result.output

    command = ("simulate", "--model", "m.pt", "--hardware", "ideal", "--sentence", SENTENCE, "--backend", "nodal")
    simulated = run(*command, "--out", "run")

    assert simulated.exit_code == 0, simulated.output
    assert "agreement  100% of words" in simulated.stdout


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--objective", "lag"), ("objective is 'lag'", "expected one of hsr, twr", "did you mean lagging?")),
        (("--objective", "sa", "--objective-option", "step=3"), ("no option 'step'", "did you mean steps?")),
        (("--objective", "bn", "--objective-option", "gamma=0"), ("gamma of objective bn", "at least 0.001")),
        (("--objective-option", "cycles=3"), ("objective hsr has no option 'cycles'",)),
        (("--objective", "prior", "--latent-mode", "last"), ("latent_mode is 'last'", "expected per-step")),
        (("--objective", "twr", "--encoder", "lstm+gru"), ("encoder is lstm+gru", "expected one cell")),
        (("--encoder", "gru"), ("encoder is gru with objective hsr", "choose objective twr")),
        (("--objective", "short-run", "--kl-warmup", "3"), ("kl_warmup is 3", "expected 0")),
    ],
)
def test_combinations_without_sense_are_one_line(options: tuple[str, ...], parts: tuple[str, ...]) -> None:
    refused(run(*TRAIN, *options, "--out", "m.pt"), *parts)


@pytest.mark.parametrize("text", ["cycles", "cycles=many", "=", ""])
def test_an_option_that_is_no_number_is_wrong_usage(text: str) -> None:
    result = run(*TRAIN, "--objective", "cyclical", "--objective-option", text, "--out", "m.pt")

    assert result.exit_code == 2
    assert "--objective-option" in result.stderr and "such as cycles=4" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("vae",), "kl_warmup 10 is longer than 1 epoch, at whose end the KL has the weight 0.1"),
        (("hsr",), "kl_warmup 30 is longer than 1 epoch, at whose end the KL has the weight 0.033"),
        (("vae", "--kl-warmup", "4", "--epochs", "3"), "kl_warmup 4 is longer than 3 epochs, at whose end"),
        (("vae", "--kl-warmup", "1"), None),
        (("cyclical",), None),
        (("lm",), None),  # there is no KL
    ],
)
def test_a_weight_of_the_kl_that_never_reaches_1_is_said(options: tuple[str, ...], said: str | None) -> None:
    result = run(*TRAIN, "--objective", *options, "--out", "m.pt", "--json")

    assert result.exit_code == 0, result.output
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == (said is not None)
    assert (said or "") in "".join(warnings)
