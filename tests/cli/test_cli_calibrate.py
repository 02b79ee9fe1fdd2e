"""`calibrate` as users meet it."""

import json
from pathlib import Path

import pytest
from cli.test_cli import refused
from click.testing import CliRunner, Result
from making import make_build

from hvae_mnn.cli.calibrating import calibrate
from hvae_mnn.compiler.build import load_build

LINES = "a b c\nd e a b\nc\ne d c b a\n" * 5


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_build(Path("build"))
    write("corpus", LINES)


def write(folder: str, lines: str) -> None:
    Path(folder).mkdir()
    for split in ("train", "valid", "test"):
        Path(folder, f"{split}.txt").write_text(lines)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(calibrate, list(arguments))


def test_help_has_an_example() -> None:
    found = run("--help")
    assert found.exit_code == 0
    assert "Example:\n  hvae-mnn calibrate build/" in found.stdout


def test_a_table_of_before_and_after() -> None:
    done = run("build", "--corpus", "corpus", "--sentences", "20", "--set", "adc.range_percentile=auto")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["layer", "build"]
    layers = [name for name in ("encoder1", "encoder2", "decoder") for _ in range(2)]
    assert [line.split()[:2] for line in lines[1:7]] == [
        [layer, build] for layer, build in zip(layers, ["before", "after"] * 3, strict=True)
    ]
    assert lines[7].startswith("20 training sentences of corpus and 20 held out, 0.0% of words unknown")
    assert done.stderr.splitlines()[0] == "wrote build"
    assert load_build(Path("build")).manifest.hardware.adc.range_percentile == "auto"


def test_json() -> None:
    done = run("build", "--corpus", "corpus", "--sentences", "5", "--seed", "3", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["corpus"], found["sentences"], found["held_out"], found["seed"]) == ("corpus", 5, 20, 3)
    build = load_build(Path("build"))
    for layer in found["layers"]:
        assert layer["x_max_after"] == {group.name: group.x_max for group in build.layer(layer["name"]).groups}
        assert set(layer["before"]) == {"clipped_inputs", "clipped_sums", "rms_error", "gate_rms_error"}


def test_bad_input_is_one_line() -> None:
    refused(run("corpus", "--corpus", "corpus"), "corpus: not a build")
    refused(run("build", "--corpus", "nowhere"), "'nowhere' is not a folder")
    refused(run("build", "--corpus", "corpus"), "'corpus' has 20 training sentences", "at least 2000")
    refused(run("build", "--corpus", "corpus", "--set", "adc.range=1"), '"adc.range" is not a known key')
    write("foreign", "nothing of this\nis known\n")
    refused(run("build", "--corpus", "foreign", "--sentences", "1"), "100% of its words", "the 9 that the model knows")
    assert run("build", "--corpus", "corpus", "--sentences", "0").exit_code == 2
    assert run("build").exit_code == 2


def test_a_file_of_the_users_in_the_build_stops_it_at_once() -> None:
    Path("build/notes.txt").write_text("mine")
    before = Path("build/manifest.json").read_bytes()
    refused(run("build", "--corpus", "corpus", "--sentences", "5"), "build: notes.txt is not part of the build")
    assert Path("build/manifest.json").read_bytes() == before


def test_shares_of_bit_planes_are_of_all_planes() -> None:
    make_build(Path("planes"), "bit-serial", ("adc.range_percentile=20",))
    done = run("planes", "--corpus", "corpus", "--sentences", "5", "--json")
    assert done.exit_code == 0, done.output
    shares = [layer["before"]["clipped_sums"] for layer in json.loads(done.stdout)["layers"]]
    assert all(0.3 < share < 1 for share in shares)
