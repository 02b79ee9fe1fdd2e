"""sweep-variation as users meet it: rows, one-line errors, Ctrl-C at any moment, and the same command again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from making import make_checkpoint
from sweeping import stored
from test_cli import refused, run

from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.model.checkpoint import save_checkpoint

SIGMA = ("--axis", "device.sigma", "--values", "0,0.1,0.3")
TINY = ("--model", "tiny.pt", "--corpus", "made", "--sentences", "4", "--workers", "1")
PLAN = """
[study.errors]
axes = { "device.sigma" = [0, 0.1], "array.scheme" = ["paired", "differential"] }
trials = 2
[study.tiles]
axes = { "array.tile_rows,array.tile_columns" = [8, 16] }
set = ["adc.bits=6"]
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_checkpoint(make_checkpoint(), "tiny.pt")
    Path("made").mkdir()
    Path("made", "made.test.txt").write_text("a b c\nb\nd e a\nx y\nc c c c d\na e\n")


def rows_in(folder: str) -> pd.DataFrame:
    return pd.read_parquet(Path(folder, "rows.parquet"))


def there() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"tiny.pt", "made", "cache", "plan.toml"}


def test_one_axis(tmp_path: Path) -> None:
    result = run("sweep-variation", *TINY, *SIGMA, "--trials", "5", "--out", "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        "1 test sentences of made were left out: longer than the model reads, or without a word that it knows",
        "wrote out",
        "next: look at the figures in out; other metrics: hvae-mnn plot out --signal elbo",
    ]
    assert "device.sigma" in result.stdout
    rows = rows_in("out")
    assert len(rows) == 15
    assert rows["device.sigma"].tolist() == [0.0] * 5 + [0.1] * 5 + [0.3] * 5
    assert rows["seed"].tolist() == [0, 1, 2, 3, 4] * 3
    assert not rows[[metric.name for metric in METRICS]].isna().all(axis=None)
    mean = rows.groupby("point")["rms_encoder1"].mean()
    assert mean[0] < mean[1] < mean[2]
    assert sorted(path.name for path in Path("out").iterdir()) == ["figure.png", "plan.json", "rows.parquet"]
    plan = json.loads(Path("out", "plan.json").read_text())
    assert set(plan["software"]) == {"reconstruction", "kl", "elbo"}
    assert plan["sentences"] == sorted(plan["sentences"]) and len(plan["sentences"]) == 4 and 3 not in plan["sentences"]
    again = run("sweep-variation", *TINY, *SIGMA, "--trials", "5", "--out", "out")
    assert again.exit_code == 0
    assert again.stdout == result.stdout
    pd.testing.assert_frame_equal(rows_in("out"), rows, check_exact=True)


def test_a_plan_of_studies_by_two_processes() -> None:
    Path("plan.toml").write_text(PLAN)
    options = ("sweep-variation", *TINY[:-2], "--plan", "plan.toml", "--json", "--seed", "3")
    one = run(*options, "--workers", "1", "--out", "one", "--trials", "3")
    two = run(*options, "--workers", "2", "--chunk", "1", "--out", "two", "--trials", "3")
    assert (one.exit_code, two.exit_code) == (0, 0), one.stderr + two.stderr
    assert json.loads(one.stdout) == json.loads(two.stdout)
    assert two.stderr.splitlines()[-2].startswith("1 test sentences of made were left out")
    rows = rows_in("one")
    pd.testing.assert_frame_equal(rows, rows_in("two"), check_exact=True)
    assert rows.groupby("study").size().to_dict() == {"errors": 8, "tiles": 6}  # of which `errors` says its own number
    names = {"figure-errors.png", "figure-tiles.png", "plan.json", "rows.parquet"}
    assert {path.name for path in Path("one").iterdir()} == names
    assert there() == {"one", "two"}


def test_a_build_is_swept_as_its_model_and_hardware() -> None:
    assert run("compile", "tiny.pt", "--set", "adc.bits=5", "--out", "build").exit_code == 0
    rest = (*TINY[2:], *SIGMA, "--trials", "2", "--set", "stuck.p_hrs=0.1")
    built = run("sweep-variation", "--build", "build", *rest, "--out", "a")
    given = run("sweep-variation", "--model", "tiny.pt", "--set", "adc.bits=5", *rest, "--out", "b")
    assert (built.exit_code, given.exit_code) == (0, 0), built.stderr + given.stderr
    pd.testing.assert_frame_equal(rows_in("a"), rows_in("b"), check_exact=True)
    assert json.loads(Path("a", "plan.json").read_text())["hardware"]["adc"]["bits"] == 5


@pytest.mark.ngspice
def test_trials_repeated_in_ngspice() -> None:
    options = ("sweep-variation", *TINY, *SIGMA, "--trials", "2", "--sentences", "1")
    result = run(*options, "--spice-check", "2", "--out", "out")
    assert result.exit_code == 0, result.stderr
    check, rows = pd.read_parquet("out/spice_check.parquet"), rows_in("out")
    assert check[["point", "trial"]].to_numpy().tolist() == [[0, 0], [2, 0]]
    assert (check["largest_lsb"] <= 1).all() and (check["largest_analog"] < 1e-4).all()
    both = check.merge(rows, on=["study", "point", "trial"])
    assert (both["rms_encoder1_x"] - both["rms_encoder1_y"]).abs().max() < 1e-3
    spice = run(*options[:-4], "--trials", "1", "--sentences", "1", "--backend", "spice", "--out", "spice")
    assert spice.exit_code == 0, spice.stderr
    first = rows_in("spice").merge(check, on=["study", "point", "trial"])
    assert first["elbo_x"].tolist() == first["elbo_y"].tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--values", "1"), "give --axis KEY with --values"),
        (("--plan", "plan.toml", *SIGMA), "give --axis KEY with --values"),
        (("--plan", "plan.toml", "--values", "1"), "give --axis KEY with --values"),
        (("--axis", "device.sigma"), "1 --axis and 0 --values; give one list of values for each axis"),
        (("--build", "build", "--model", "tiny.pt", *SIGMA), "--build already says model and hardware"),
        (("--scheduler", "tcp://x:1", "--workers", "2", *SIGMA), "--scheduler has workers of its own"),
        (("--backend", "spice", "--spice-check", "2", *SIGMA), "are of --backend nodal"),
        (("--trials", "0", *SIGMA), "--trials"),
        (("--sentences", "0", *SIGMA), "--sentences"),
        (("--chunk", "0", *SIGMA), "--chunk"),
        (("--yield-at", "1.1", *SIGMA), "--yield-at"),
        (("--seed", "-1", *SIGMA), "--seed"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], said: str) -> None:
    result = run("sweep-variation", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert there() == set()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--axis", "device.sigme", "--values", "0"), '"device.sigme" is not a known key; did you mean sigma?'),
        (("--axis", "devise.sigma", "--values", "0"), '"devise" is not a known key; did you mean device?'),
        (("--axis", "device.seed", "--values", "0,1"), "device.seed is no axis: each trial is another seed"),
        (("--axis", "device.sigma", "--values", "0,,1"), "--values 0,,1: an empty value for device.sigma"),
        (("--axis", "device.sigma", "--values", "0,-1"), "study sweep, point 1 (device.sigma=-1): device.sigma is -1"),
        (("--axis", "drive.v_read", "--values", "5"), "below the memristor's threshold"),
        ((*SIGMA, "--set", "device.seed=3"), "--set device.seed=3: trials are the seeds of a sweep"),
        ((*SIGMA, "--set", "adc.bitz=3"), '"adc.bitz" is not a known key; did you mean bits?'),
        ((*SIGMA, "--hardware", "nothing"), "hardware nothing: no such preset or file"),
        ((*SIGMA, "--model", "nothing"), "model nothing: no such file or shipped model"),
        ((*SIGMA, "--corpus", "nothing"), "corpus 'nothing' is not a folder and not a known name"),
        ((*SIGMA, "--corpus", "grammar"), "corpus grammar: none of its 1000 test sentences has"),
        (("--plan", "nothing.toml"), "plan nothing.toml: cannot be read: No such file"),
        ((*SIGMA, "--out", "made"), "made: the folder holds something else, which would be lost"),
        ((*SIGMA, "--out", "tiny.pt"), "tiny.pt: is a file; expected a folder or a new name"),
        ((*SIGMA, "--scheduler", "http://x"), "--scheduler http://x: cannot be reached"),
    ],
)
def test_what_cannot_be_swept_is_one_line(options: tuple[str, ...], said: str) -> None:
    base = TINY[:-2] if "--scheduler" in options else TINY
    before = {path: path.read_bytes() for path in Path("made").iterdir()}
    result = run("sweep-variation", *base, *options)
    left_out = re.match(r"1 test sentences of made .*\n", result.stderr)
    result.stderr_bytes = result.stderr_bytes[left_out.end() :] if left_out else result.stderr_bytes
    refused(result, said)
    assert there() == set()
    assert {path: path.read_bytes() for path in Path("made").iterdir()} == before


def test_another_sweep_in_the_folder_is_refused() -> None:
    options = ("sweep-variation", *TINY, *SIGMA, "--trials", "1", "--out", "out")
    assert run(*options).exit_code == 0
    rows = Path("out", "rows.parquet").read_bytes()
    result = run(*options, "--seed", "1")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: out: the folder holds another sweep; choose another --out")
    assert Path("out", "rows.parquet").read_bytes() == rows
    Path("out", "notes.txt").write_text("mine")
    result = run(*options)
    assert "Error: out: the folder holds something else, which would be lost" in result.stderr


LONG = ("sweep-variation", *TINY[:-2], *SIGMA, "--chunk", "2")


def has_opened(pid: int, unfinished: Path) -> bool:
    """Say whether a process has opened the rows of an unfinished sweep."""
    try:
        return any(Path(each.path).parent == unfinished.resolve() for each in psutil.Process(pid).open_files())
    except psutil.Error:
        return False


def stop_and_go_on(options: tuple[str, ...], trials: int, seed: int, times: int) -> list[int]:
    """Interrupt the command, its workers too as a terminal does, `times` times, then let it end; count rows kept."""
    rng, kept = random.Random(seed), [0]
    command = [sys.executable, "-c", "from hvae_mnn.cli import main; main()", *options]
    unfinished = Path("parts.unfinished")
    for _ in range(times):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and not has_opened(process.pid, unfinished):  # before that it is Python that stops
            assert time.monotonic() < deadline
            time.sleep(0.01)
        wanted = kept[-1] + rng.choice([0, 0, 1, 6, 20])
        while process.poll() is None and (stored_rows(unfinished) < wanted) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.5))
        before = stored_rows(unfinished)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1, said
        assert "Traceback" not in said and "distributed" not in said
        last = said.splitlines()[-1]
        assert last.startswith("Interrupted: ")
        assert len(said.splitlines()) <= 3, said  # the sentence left out, where it goes on, that it was interrupted
        assert not Path("parts").exists()
        kept.append(stored(unfinished) if unfinished.exists() else 0)
        assert kept[-1] >= max(before, kept[-2])
        if kept[-1]:
            assert last == f"Interrupted: {kept[-1]} of {trials} trials are kept; the same command goes on from there"
    return kept


def stored_rows(unfinished: Path) -> int:
    """Return how many rows there are by the files' number alone: two in each."""
    return 2 * len(list((unfinished / "rows").glob("*.parquet")))


@pytest.mark.parametrize(
    ("workers", "trials", "times"), [("1", 100, 3), pytest.param("2", 400, 20, marks=pytest.mark.slow)]
)
def test_ctrl_c_at_any_moment_keeps_what_is_finished(workers: str, trials: int, times: int) -> None:
    options = (*LONG, "--trials", f"{trials}")
    whole = run(*options, "--workers", "1", "--out", "whole")
    assert whole.exit_code == 0
    options += ("--workers", workers, "--out", "parts")
    assert stop_and_go_on(options, 3 * trials, 5, times)[-1] > 0
    result = run(*options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == whole.stdout
    pd.testing.assert_frame_equal(rows_in("parts"), rows_in("whole"), check_exact=True)
    assert there() == {"whole", "parts"}
