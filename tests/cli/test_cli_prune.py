"""`prune` as users meet it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.test_cli import refused
from click.testing import CliRunner, Result
from making import make_build, make_checkpoint

from hvae_mnn.cli.pruning import prune
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.experiments.prune import HIDDEN_THRESHOLD, THRESHOLD
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SMALL = ("--sentences", "20", "--seed", "3")
LINES = "a b c\nd e a b\nc\ne d c b a\na b e d\n" * 6


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(make_checkpoint(), "model.pt")
    write("corpus", LINES)


def write(folder: str, lines: str) -> None:
    Path(folder).mkdir()
    for split in ("train", "valid", "test"):
        Path(folder, f"{split}.txt").write_text(lines)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(prune, list(arguments))


def with_dead_units() -> Checkpoint:
    """Return a model whose units 0 and 2 of z are the prior in every sentence, and unheard."""
    checkpoint = make_checkpoint()
    weights = {name: value.copy() for name, value in checkpoint.weights.items()}
    for name in ("mu.weight", "mu.bias", "logvar.weight", "logvar.bias"):
        weights[name][[0, 2]] = 0
    weights["initial.weight"][:, [0, 2]] = 0
    weights["decoder.weight_ih_l0"][:, [10, 12]] = 0
    return replace(checkpoint, weights=weights)


def test_dead_units_go_and_the_bound_stays() -> None:
    dead = with_dead_units()
    save_checkpoint(dead, "dead.pt")
    options = ("--threshold", "1e-7", "--hidden-threshold", "0")
    done = run("dead.pt", "--corpus", "corpus", "--out", "new/pruned.pt", *SMALL, *options, "--json")
    assert done.exit_code == 0, done.output
    found, pruned = json.loads(done.stdout), load_checkpoint("new/pruned.pt")

    assert (found["before"]["latent"], found["after"]["latent"], pruned.config.latent) == (4, 2, 2)
    assert found["bound_after"]["nll"] == pytest.approx(found["bound_before"]["nll"], abs=1e-5)
    assert found["change"] == pytest.approx(0, abs=1e-5)
    for bound in (found["bound_before"], found["bound_after"]):
        assert bound["reconstruction"] + bound["kl"] == pytest.approx(bound["nll"])
    assert found["change_error"] < 1e-5
    assert found["test_sentences"] == 30
    np.testing.assert_array_equal(pruned.weights["mu.weight"], dead.weights["mu.weight"][[1, 3]])
    assert pruned.calibration["decoder"].shape[1] == 10 + 6 + 2
    assert set(pruned.metrics) >= {"elbo_nll", "free_running_accuracy"}
    assert "latent 2 of 4" in pruned.provenance["pruned"]
    build = compile_model(pruned, load_hardware("default"), "default")
    assert (found["after"]["tiles"], found["after"]["memristors"]) == (len(build.tiles), build.memristors())
    assert found["before"]["memristors"] == make_build(None).memristors()


def test_a_table_and_the_same_bytes_twice() -> None:
    first, again = (run("model.pt", "--corpus", "corpus", "--out", f"{i}.pt", *SMALL) for i in (1, 2))
    assert first.exit_code == 0, first.output
    assert first.stdout == again.stdout
    assert first.stderr == "wrote 1.pt\nnext: hvae-mnn compile 1.pt\n"
    lines = first.stdout.splitlines()
    assert lines[0].split() == ["before", "after", "saved"]
    assert lines[1].split()[:4] == ["units", "of", "z", "4"]
    assert [line.split()[0] for line in lines[5:9]] == ["columns", "tiles", "ADCs", "memristors"]
    assert [line.split()[0] for line in lines[9:12]] == ["NLL,", "reconstruction", "KL"]
    assert "the same noise in the units that stay" in first.stdout
    assert max(len(line) for line in lines) <= 120
    assert load_checkpoint("1.pt").compiled_hash() == load_checkpoint("2.pt").compiled_hash()


def test_hidden_units_go_too_and_crossbars_shrink() -> None:
    options = ("--hidden-threshold", "0.02", "--hardware", "ideal", "--set", "array.tile_rows=8")
    done = run("model.pt", "--corpus", "corpus", "--out", "small.pt", *SMALL, *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["hardware_name"] == "ideal array.tile_rows=8"
    assert found["after"]["hidden"] == list(load_checkpoint("small.pt").config.hidden_sizes)
    for name in ("columns", "adcs", "memristors"):
        assert found["after"][name] < found["before"][name]
    assert found["after"]["columns"] == 4 * sum(found["after"]["hidden"])


def test_bad_input_is_one_line_and_nothing_is_written() -> None:
    given = ("--corpus", "corpus", "--out", "out.pt", *SMALL)
    refused(run("nothing.pt", *given), "nothing.pt: no such file")
    refused(run("model.pt", "--corpus", "nowhere", "--out", "out.pt"), "'nowhere' is not a folder")
    write("foreign", "nothing of this\nis known\n")
    refused(run("model.pt", "--corpus", "foreign", "--out", "out.pt"), "100% of its words are not among the 9")
    write("few", "a b c\n")
    refused(run("model.pt", "--corpus", "few", "--out", "out.pt"), "'few' has 1 validation sentence", "at least 2")
    save_checkpoint(replace(make_checkpoint(), calibration={}, ranges={}), "bare.pt")
    refused(run("bare.pt", *given), "has no calibration for encoder1")
    Path("folder").mkdir()
    refused(run("model.pt", "--corpus", "corpus", "--out", "folder"), "folder: is a folder; expected")
    Path("notes.txt").write_text("mine")
    refused(run("model.pt", "--corpus", "corpus", "--out", "notes.txt"), "notes.txt: the file holds something else")
    assert Path("notes.txt").read_text() == "mine"
    refused(run("model.pt", *given, "--hardware", "none.toml"), "none.toml")
    assert run("model.pt", "--corpus", "corpus").exit_code == 2
    for name in ("--threshold", "--hidden-threshold"):
        for value in ("-1", "nan", "inf"):
            wrong = run("model.pt", *given, name, value)
            assert wrong.exit_code == 2 and name in wrong.stderr
    assert not Path("out.pt").exists()


def test_a_plain_language_model_has_nothing_to_prune() -> None:
    plain = replace(make_checkpoint().config, latent_mode="none")
    decoder = {
        name: value for name, value in make_checkpoint().weights.items() if name.startswith(("decoder", "output"))
    }
    decoder["decoder.weight_ih_l0"] = decoder["decoder.weight_ih_l0"][:, :10]
    save_checkpoint(Checkpoint(plain, make_checkpoint().vocabulary, decoder), "lm.pt")
    refused(run("lm.pt", "--corpus", "corpus", "--out", "out.pt"), "is a plain language model")


def test_what_help_says_of_thresholds_is_what_is_taken() -> None:
    said = " ".join(run("--help").stdout.split())
    for value, text in ((THRESHOLD, "unit of z stays."), (HIDDEN_THRESHOLD, "hidden unit that goes.")):
        assert f"{text} [default: {value:g}]" in said
    done = run("model.pt", "--corpus", "corpus", "--out", "1.pt", *SMALL, "--json")
    found = json.loads(done.stdout)
    assert (found["threshold"], found["hidden_threshold"]) == (THRESHOLD, HIDDEN_THRESHOLD)
