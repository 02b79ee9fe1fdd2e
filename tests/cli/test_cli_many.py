"""Many sentences on the command line, and simulations that were interrupted."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import MODEL, SENTENCE, refused, run

LONG = "the polite river often near his young school outside this house today"
SENTENCES = (SENTENCE, "the old man sees a house", "this child carries his clock")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("\n".join(SENTENCES) + "\n")


def test_sentences_of_a_file_are_json_lines() -> None:
    options = ("simulate", "--model", MODEL, "--sentences", "text", "--backend", "nodal")
    result = run(*options, "--out", "all.jsonl", "--json")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert Path("all.jsonl").read_text() == result.stdout
    assert [line["sentence"] for line in lines] == list(SENTENCES)
    assert [line["seed"] for line in lines] == [0, 1, 2]
    assert [layer["name"] for layer in lines[0]["layers"]] == ["encoder1", "encoder2", "decoder"]
    alone = run("simulate", "--model", MODEL, "--sentence", SENTENCES[2], "--backend", "nodal", "--seed", "2", "--json")
    assert json.loads(alone.stdout)["hardware"]["tokens"] == lines[2]["hardware"]["tokens"]
    result = run(*options, "--limit", "2")
    assert result.stderr.splitlines()[0] == "wrote run.jsonl"
    assert result.stdout.startswith("sentences  2, seeds 0 to 1\nagreement  ")
    assert [json.loads(line)["seed"] for line in Path("run.jsonl").read_text().splitlines()] == [0, 1]
    assert sorted(path.name for path in Path().iterdir()) == ["all.jsonl", "cache", "run", "run.jsonl", "text"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give one of --sentence and --sentences"),
        (("--sentence", SENTENCE, "--sentences", "text"), "give one of --sentence and --sentences"),
        (("--sentence", SENTENCE, "--limit", "3"), "--limit and --batch need --sentences FILE"),
        (("--sentences", "text", "--waveforms", "all"), "waveforms are kept of one --sentence, not of --sentences"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], said: str) -> None:
    result = run("simulate", "--model", MODEL, *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_cannot_be_read_or_written_is_one_line() -> None:
    options = ("simulate", "--model", MODEL, "--backend", "nodal", "--sentences")
    refused(run(*options, "none"), "none: cannot be read: No such file")
    Path("bad").write_text(f"{SENTENCE}\nxyz zyx\n")
    refused(run(*options, "bad"), "bad, line 2: none of the sentence's words")
    refused(run(*options, "text", "--out", "text"), "text: the file holds something else, which would be lost")
    Path("folder").mkdir()
    refused(run(*options, "text", "--out", "folder"), "folder: is a folder; expected the name of a file")
    assert not Path("run.jsonl").exists()
    assert not Path("run.jsonl.unfinished").exists()


@pytest.mark.ngspice
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_goes_on(stop: signal.Signals) -> None:
    """Stopped for real once some steps are done; what comes out is what an undisturbed run gives."""
    command = ("simulate", "--model", MODEL, "--sentence", LONG, "--workers", "1", "--json")
    whole = json.loads(run(*command, "--out", "whole").stdout)
    process = subprocess.Popen(
        [sys.executable, "-c", "from hvae_mnn.cli import main; main()", *command, "--out", "parts"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    steps = Path("parts.unfinished", "steps")
    deadline = time.monotonic() + 60
    while process.poll() is None and not (steps.is_dir() and len(list(steps.iterdir())) >= 2):
        assert time.monotonic() < deadline
    process.send_signal(stop)
    _, said = process.communicate()
    if stop == signal.SIGINT:
        assert process.returncode == 1
        assert said == "Interrupted: the same command goes on from what was finished\n"
    assert not Path("parts").exists()
    result = run(*command, "--out", "parts")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("going on after ")
    assert {**json.loads(result.stdout), "seconds": 0} == {**whole, "seconds": 0}
    assert not steps.parent.exists()
