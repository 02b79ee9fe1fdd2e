"""The commands as one types them: bare, one after the other, in one folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from making import make_checkpoint
from test_cli import refused, run

from hvae_mnn.experiments.sweep.store import load_sweep
from hvae_mnn.model.checkpoint import save_checkpoint
from hvae_mnn.runtime.resources import plans_folder
from hvae_mnn.simulation.run import load_run

SHIPPED = "there is no ./build: taking the shipped model"
SENTENCE = ("--sentence", "a c b")
SIGMA = ("--axis", "device.sigma", "--values", "0", "--trials", "1", "--workers", "1")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("hvae_mnn.experiments.sweep.run.core_count", lambda: 1)
    save_checkpoint(replace(make_checkpoint(), provenance={"corpus": "made"}), "model.pt")
    Path("made").mkdir()
    for split in ("train", "valid", "test"):
        Path("made", f"made.{split}.txt").write_text("a b c\nb\nd e a\nc c c c d\na e\n")


@pytest.fixture
def few_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (plans_folder() / "default.toml").read_text().replace("trials = 50", "trials = 2")
    (tmp_path / "default.toml").write_text(text)
    monkeypatch.setattr("hvae_mnn.experiments.sweep.default.DEFAULT_PLAN", tmp_path / "default.toml")


def said(*arguments: str) -> list[str]:
    """Run a command that has to succeed; return the lines that it says beside its results."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


def model_hash(folder: str = "build") -> str:
    return str(json.loads(Path(folder, "manifest.json").read_text())["model_hash"])


@pytest.mark.ngspice
@pytest.mark.usefixtures("few_dies")
def test_compile_simulate_sweep_and_plot() -> None:
    assert said("compile", "model.pt")[-1] == 'next: hvae-mnn simulate --sentence "..."'
    taken = f"taking ./build: model {model_hash()[:12]} (trained on made), hardware default"

    assert said("simulate", *SENTENCE) == [taken, "wrote run", "next: hvae-mnn plot run"]
    assert load_run(Path("run")).model_hash == model_hash()
    assert load_run(Path("run")).engine.name == "spice"
    assert said("plot")[0] == "taking run, a run: the newest here"
    assert Path("figure.png").read_bytes().startswith(b"\x89PNG")
    assert said("explain") == ["taking run, a run: the newest here", "next: hvae-mnn sweep-variation"]

    first = run("sweep-variation")
    assert first.exit_code == 0, first.output
    lines = first.stderr.splitlines()
    assert lines[0] == taken
    assert [line.split()[0] for line in lines if "points" in line] == [
        study.name for study in load_sweep(Path("sweep")).plan.studies
    ]
    assert "wrote sweep" in lines and lines[-1].startswith("next: look at the figures in sweep;")
    again = run("sweep-variation")
    assert again.stdout == first.stdout
    assert "sweep is there already: nothing was measured" in again.stderr
    assert "default study" not in again.stderr

    drawn = run("plot")
    assert drawn.stderr.splitlines() == [
        "taking sweep, a sweep: the newest here",
        "next: look at figure-programming-error.png and 3 more; other metrics: hvae-mnn plot sweep --signal elbo",
    ]
    studies = ("programming-error", "wires", "converter-bits", "amplifier-offset")
    assert drawn.stdout.splitlines() == [f"figure-{study}.png" for study in studies]
    assert not Path("../cache/hvae-mnn").exists()


def test_a_sentence_takes_what_is_named_then_the_build_here_then_the_shipped_model() -> None:
    nodal = ("simulate", *SENTENCE, "--backend", "nodal", "--json")
    shipped = said("simulate", "--sentence", "the company said it will", "--backend", "software")
    assert shipped[0] == f"{SHIPPED} ptb, hardware default"
    assert run("compile", "model.pt", "--set", "adc.bits=6").exit_code == 0
    assert run("compile", "model.pt", "--set", "adc.bits=5", "--out", "other").exit_code == 0

    def hardware(*more: str) -> tuple[str, str, list[str]]:
        result = run(*nodal, *more)
        assert result.exit_code == 0, result.output
        values = json.loads(result.stdout)
        assert values["model_hash"] == model_hash()
        return values["hardware_preset"], load_run(Path("run")).build or "", result.stderr.splitlines()

    of_model = f"model {model_hash()[:12]} (trained on made)"
    here = str(Path("build").resolve())
    name = "default adc.bits=6"
    assert hardware() == (name, here, [f"taking ./build: {of_model}, hardware {name}"])
    assert hardware("--build", "other") == ("default adc.bits=5", str(Path("other").resolve()), [])
    for options, name in (
        (("--set", "dac.bits=4"), "default adc.bits=6 dac.bits=4"),
        (("--hardware", "ideal"), "ideal"),
        (("--hardware", "ideal", "--set", "dac.bits=4"), "ideal dac.bits=4"),
    ):
        preset, build, lines = hardware(*options)
        assert (preset, Path(build).parents[2]) == (name, Path("../cache").resolve())
        assert lines == [f"taking ./build, its model compiled anew: {of_model}, hardware {name}"]
    preset, build, lines = hardware("--model", "model.pt")
    assert (preset, lines) == ("default", ["passing ./build by: model model.pt, hardware default"])
    assert build != here


def test_a_sweep_takes_the_same() -> None:
    def swept(*more: str) -> tuple[str, str, list[str]]:
        out = f"sweep{len(list(Path().iterdir()))}"
        lines = said("sweep-variation", *SIGMA, "--sentences", "2", *more, "--out", out)
        plan = load_sweep(Path(out)).plan
        return plan.model, plan.hardware_name, [line for line in lines if "./build" in line]

    assert swept() == ("grammar", "default", [f"{SHIPPED} grammar, hardware default"])
    assert run("compile", "model.pt", "--set", "adc.bits=6").exit_code == 0
    of_model = f"model {model_hash()[:12]} (trained on made)"
    assert swept() == ("build", "default adc.bits=6", [f"taking ./build: {of_model}, hardware default adc.bits=6"])
    anew = f"taking ./build, its model compiled anew: {of_model}, hardware"
    assert swept("--hardware", "ideal") == ("build", "ideal", [f"{anew} ideal"])
    passed = "passing ./build by: model grammar, hardware default"
    assert swept("--model", "grammar") == ("grammar", "default", [passed])
    assert swept("--build", "build") == ("build", "default adc.bits=6", [])


def test_a_folder_of_that_name_that_is_not_ours_is_passed_by_with_a_word() -> None:
    Path("build/lib").mkdir(parents=True)
    Path("build/manifest.json").write_text("{}")
    lines = said("simulate", "--sentence", "the company said it will", "--backend", "software")
    assert lines[0] == "./build is no build of hvae-mnn: taking the shipped model ptb, hardware default"
    refused(run("calibrate", "--corpus", "made"), "./build is no build of hvae-mnn", "hvae-mnn compile MODEL")
    assert [path.name for path in sorted(Path("build").iterdir())] == ["lib", "manifest.json"]


@pytest.mark.parametrize("damage", ["truncated", "missing"])
@pytest.mark.parametrize(
    "command", [("simulate", *SENTENCE), ("sweep-variation",), ("program",), ("calibrate", "--corpus", "made")]
)
def test_a_damaged_build_is_an_error_with_its_remedy(command: tuple[str, ...], damage: str) -> None:
    assert run("compile", "model.pt").exit_code == 0
    manifest = Path("build/manifest.json")
    if damage == "truncated":
        manifest.write_text(manifest.read_text()[:100])
    else:
        manifest.unlink()
    refused(run(*command), "build", "compile")
    assert not Path("../cache/hvae-mnn").exists()


def test_calibrate_changes_the_build_here_and_nothing_else() -> None:
    command = ("calibrate", "--corpus", "made", "--sentences", "5")
    refused(run(*command), "there is no ./build", "hvae-mnn compile MODEL", "hvae-mnn calibrate BUILD")
    assert not Path("../cache/hvae-mnn").exists()
    assert run("compile", "model.pt").exit_code == 0
    taken = f"taking ./build: model {model_hash()[:12]} (trained on made), hardware default"
    before = Path("build/manifest.json").read_bytes()
    assert said(*command) == [taken, "wrote build", 'next: hvae-mnn simulate --sentence "..."']
    assert Path("build/manifest.json").read_bytes() != before
    Path("build").rename("mine")
    assert said("calibrate", "mine", *command[1:])[-1] == 'next: hvae-mnn simulate --sentence "..." --build mine'


def test_program_takes_the_build_here_or_reads_the_shipped_models() -> None:
    command = ("program", "--cells-per-tile", "0")
    assert run("compile", "model.pt").exit_code == 0
    taken = f"taking ./build: model {model_hash()[:12]} (trained on made), hardware default"
    assert said(*command) == [taken, "wrote programming", "next: hvae-mnn plot programming"]
    assert said("plot")[0] == "taking programming, a programming: the newest here"
    Path("build").rename("mine")
    lines = said(*command, "--tile", "encoder1.f.r0c0")
    assert lines[0] == f"{SHIPPED} ptb, hardware default"
    assert json.loads(Path("programming/programming.json").read_text())["model_hash"] != model_hash("mine")


def test_nothing_here_is_one_line_that_says_what_to_type() -> None:
    for command, what in (("plot", "no run or sweep or build or programming or study"), ("explain", "no run")):
        refused(run(command), f"{what} in this folder", 'hvae-mnn simulate --sentence "..."')
    assert not Path("figure.png").exists()
    assert run("compile", "model.pt").exit_code == 0
    refused(run("explain"), "no run in this folder")


def test_the_newest_run_is_explained_although_something_else_is_newer() -> None:
    assert run("compile", "model.pt").exit_code == 0
    for out in ("b", "a"):
        said("simulate", *SENTENCE, "--backend", "nodal", "--out", out)
    said("program", "--cells-per-tile", "0")
    assert said("explain")[0] == "taking a, a run: the newest here"
    assert said("explain", "b") == ["next: hvae-mnn sweep-variation"]
    assert said("plot", "build") == [
        'next: look at figure.png; a sentence through it: hvae-mnn simulate --sentence "..."'
    ]


def test_a_model_whose_sentences_are_not_here_says_what_to_give() -> None:
    assert run("compile", "model.pt").exit_code == 0
    Path("made").rename("elsewhere")
    result = run("sweep-variation")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == [
        "Error: the model was trained on made, whose test sentences are not here; give the folder with their "
        "NAME.test.txt as --corpus FOLDER"
    ]
    assert not Path("sweep").exists()
    assert "sentences are all that there are" in "".join(said("sweep-variation", *SIGMA, "--corpus", "elsewhere"))


@pytest.mark.usefixtures("few_dies")
def test_the_default_study_is_described_first_and_takes_options() -> None:
    lines = said("sweep-variation", "--model", "model.pt", "--hardware", "ideal", "--trials", "3", "--sentences", "2")
    start = next(i for i, line in enumerate(lines) if line.startswith("default study ("))
    assert lines[start].endswith("default.toml), 2 sentences of made")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["programming-error", "7", "points,", "3", "dies", "each"],
        ["wires", "6", "points,", "1", "die", "each"],
        ["converter-bits", "8", "points,", "1", "die", "each"],
    ]
    assert lines[start + 4] == "  nothing of amplifiers, which are ideal (amplifier.gain)"
    assert lines[start + 5].startswith("about ") and lines[start + 5].endswith("; --trials and --sentences change it")
    assert load_sweep(Path("sweep")).plan.trials == 7 * 3 + 6 + 8


def test_the_last_line_can_be_typed_whatever_names_folders_have() -> None:
    named = "next: hvae-mnn simulate --sentence \"...\" --build 'a b'"
    assert said("compile", "model.pt", "--out", "a b")[-1] == named
    nodal = ("simulate", "--model", "model.pt", "--backend", "nodal")
    assert said(*nodal, *SENTENCE, "--out", "x y")[-1] == "next: hvae-mnn plot 'x y'"
    assert said(*nodal, "--sentences", "made/made.test.txt")[-1] == "next: hvae-mnn sweep-variation"


def test_json_has_no_last_line() -> None:
    assert run("compile", "model.pt").exit_code == 0
    for command in (
        ("simulate", *SENTENCE, "--backend", "nodal"),
        ("explain",),
        ("program", "--cells-per-tile", "0"),
        ("calibrate", "--corpus", "made", "--sentences", "5"),
        ("sweep-variation", *SIGMA),
    ):
        assert not any(line.startswith("next:") for line in said(*command, "--json")), command
