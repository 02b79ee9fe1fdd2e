"""`train --study`: what it prints, what it keeps and what it refuses."""

import json
from pathlib import Path

import pytest
from studying import write_corpus
from test_cli import SENTENCE, refused, run

from hvae_mnn.model.training import train as training

STUDY = """
preset = "grammar"
embedding = 8
hidden = 6
latent = 4
epochs = 1
batch = 16
threads = 1
kl_warmup = 1
[row.hsr]
[row.lm]
objective = "lm"
"""
TRAIN = ("train", "--corpus", "words", "--study", "study.toml", "--out", "out", "--importance-sentences", "2")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "words", 0, SENTENCE.split())
    (tmp_path / "study.toml").write_text(STUDY)


def test_a_study_prints_its_table_and_the_same_command_finds_it_finished() -> None:
    first = run(*TRAIN)

    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["model", "-----", "hsr", "hsr", "lm"]
    assert "row lm (1 of 2): training" in first.stderr and "row hsr (2 of 2): measuring" in first.stderr
    assert "wrote out/results.md and out/results.csv" in first.stderr
    text = Path("out/results.md").read_text()
    assert "The plain language model is the row `lm`." in text and "no bound" in text

    again = run(*TRAIN, "--json")

    assert again.exit_code == 0, again.output
    assert again.stderr.splitlines() == ["row lm (1 of 2): finished before", "row hsr (2 of 2): finished before"]
    found = json.loads(again.stdout)
    assert found["study"] == "out"
    assert [(each["model"], each["protocol"]) for each in found["rows"]] == [
        ("hsr", "paper"),
        ("hsr", "honest"),
        ("lm", "honest"),
    ]
    assert Path("out/results.md").read_text() == text


def test_ctrl_c_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = training._Run.finish

    def stop(run: training._Run, provenance: dict[str, str]) -> object:
        if run.config.objective == "hsr":
            raise KeyboardInterrupt
        return ordinary(run, provenance)

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "finish", stop)
        cut = run(*TRAIN)

    assert cut.exit_code == 1
    assert cut.stderr.splitlines()[-1] == "Interrupted: the same command goes on from the last saved state"
    assert cut.stdout == ""
    assert "not run yet" in Path("out/results.md").read_text()
    whole = run(*TRAIN)
    assert whole.exit_code == 0, whole.output
    assert "row lm (1 of 2): finished before" in whole.stderr


def test_a_changed_row_is_one_line() -> None:
    assert run(*TRAIN, "--only", "hsr").exit_code == 0
    Path("study.toml").write_text(STUDY.replace("latent = 4", "latent = 3"))

    refused(run(*TRAIN), "row hsr: ", "latent 4 (now 3)", "--only")


def test_rows_whose_weight_of_the_kl_never_reaches_1_are_said_in_one_line() -> None:
    text = STUDY.replace("kl_warmup = 1\n", "") + "[row.vae]\nobjective = 'vae'\n[row.b]\nkl_warmup = 1\n"
    Path("study.toml").write_text(text)

    result = run(*TRAIN, "--only", "vae", "--only", "hsr", "--only", "lm")

    assert result.exit_code == 0, result.output
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert "row hsr: kl_warmup 30 is longer than 1 epoch" in warning
    assert "row vae: kl_warmup 10 is longer than 1 epoch" in warning
    assert "row lm" not in warning and "row b" not in warning
    assert result.stderr.startswith(warning)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[row.a]\nobjective = 'lag'", ("study.toml: row a: ", "did you mean lagging?")),
        ("latnt = 3\n[row.a]", ('"latnt" is not a known key', "did you mean latent?")),
        ("", ("no row",)),
    ],
)
def test_a_malformed_study_is_one_line(text: str, parts: tuple[str, ...]) -> None:
    Path("study.toml").write_text(text)

    refused(run(*TRAIN), *parts)
    assert not Path("out").exists()


def test_an_unknown_row_is_one_line() -> None:
    refused(run(*TRAIN, "--only", "hrs"), "--only hrs", "did you mean hsr?")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--study", "study.toml", "--epochs", "3"), "leave --epochs out"),
        (("--study", "study.toml", "--preset", "tiny"), "leave --preset out"),
        (("--study", "study.toml", "--objective-option", "cycles=3"), "leave --objective-option out"),
        (("--only", "hsr"), "--only needs --study FILE"),
        (("--importance-sentences", "20"), "--importance-sentences needs --study FILE"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(options: tuple[str, ...], text: str) -> None:
    result = run("train", "--corpus", "words", "--out", "out", *options)

    assert result.exit_code == 2
    assert text in result.stderr
