"""The command line as users meet it: exit codes, one-line errors, results on stdout only."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hvae_mnn.cli import main
from hvae_mnn.engines.spice import binding as ngspice
from hvae_mnn.engines.spice import recording

MODEL = "grammar"
SENTENCE = "this child carries his clock"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def refused(result: Result, *parts: str) -> None:
    """Exit code 1, nothing on stdout, one line on stderr with every part."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "evaluate",
        "compile",
        "calibrate",
        "simulate",
        "sweep-variation",
        "program",
        "device",
        "plot",
        "explain",
        "doctor",
    ],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example:\n  hvae-mnn {command}" in result.stdout


def test_help_does_not_load_torch() -> None:
    code = "import sys; from hvae_mnn.cli import main; main(['--help'], standalone_mode=False); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_wrong_usage_is_exit_code_2() -> None:
    assert run("simulate").exit_code == 2
    assert run("simulate", "--sentence", "a", "--backend", "magic").exit_code == 2
    assert run("simulate", "--sentence", "a", "--build", "b", "--hardware", "ideal").exit_code == 2
    assert run("train", "--corpus", "grammar", "--out", "m.pt", "--encoder", "lstm+gru+lstm").exit_code == 2
    for widths in ("0", "64,32,16,8", "64,32,x", "64,0,32", "-3", ""):
        result = run("train", "--corpus", "grammar", "--out", "m.pt", "--hidden", widths)
        assert result.exit_code == 2
        assert "--hidden" in result.stderr and "such as 256,128,200" in result.stderr


def test_the_line_from_compile_to_plot() -> None:
    compiled = run("compile", MODEL, "--hardware", "ideal", "--out", "build")
    assert compiled.exit_code == 0, compiled.output
    assert "decks" in compiled.stdout
    line = r"compiling to (\d+) tiles, (\d+) memristors; about [\d.]+ [MG]B of memory, [\d.]+ MB of disk\nnext: .*\n"
    said = re.fullmatch(line, compiled.stderr)  # of memory, what this process has already counts: torch's libraries too
    assert said, compiled.stderr
    tiles, memristors = said.groups()
    assert f"{tiles} decks, {memristors} memristors" in compiled.stdout
    simulated = run("simulate", "--build", "build", "--sentence", SENTENCE, "--backend", "nodal", "--out", "run")
    assert simulated.exit_code == 0, simulated.output
    assert f"sentence   {SENTENCE}\n" in simulated.stdout
    assert "agreement  100% of words" in simulated.stdout
    for folder in ("run", "build"):
        plotted = run("plot", folder, "--out", f"{folder}.png")
        assert plotted.exit_code == 0, plotted.output
        assert Path(f"{folder}.png").read_bytes().startswith(b"\x89PNG")


def test_json_has_the_promised_keys_and_the_same_seed_gives_the_same_result() -> None:
    command = (
        "simulate",
        "--model",
        MODEL,
        "--sentence",
        f"{SENTENCE} zyx",
        "--backend",
        "nodal",
        "--seed",
        "3",
        "--json",
    )
    results = [run(*command), run(*command)]
    first, second = (json.loads(result.stdout) for result in results)
    assert set(first) >= {
        "sentence", "tokens", "unknown", "hardware", "software", "agreement", "layers", "engine",
        "hardware_preset", "seed", "seconds",
    }  # fmt: skip
    assert set(first["hardware"]) == set(first["software"]) == {"tokens", "text", "mu", "logvar", "z"}
    assert set(first["layers"][0]) == {
        "name", "steps", "rms_error", "max_error", "clipped_inputs", "clipped_outputs",
    }  # fmt: skip
    assert set(first["engine"]) == {"name", "version", "klu"}
    assert first["unknown"] == ["zyx"]
    assert first["hardware_preset"] == "default"
    del first["seconds"], second["seconds"]
    assert first == second


@pytest.mark.ngspice
def test_a_sentence_through_ngspice_with_waveforms() -> None:
    arguments = ("--set", "array.tile_rows=128", "--waveforms", "encoder1.f.r0c0", "--json")
    result = run("simulate", "--model", MODEL, "--sentence", "this child", *arguments)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["engine"]["name"] == "spice"
    assert values["hardware_preset"] == "default array.tile_rows=128"
    assert values["layers"][0]["rms_error"] < 0.02
    assert [path.name for path in Path("run/waveforms").iterdir()] == ["encoder1.f.r0c0.raw"]
    assert result.stderr.startswith("waveforms of 1 tile, about ")
    assert {path.name for path in Path().iterdir()} == {"cache", "run"}
    plotted = run("plot", "run", "--signal", "encoder1.f.r0c0.hold3")
    assert plotted.exit_code == 0, plotted.output


@pytest.mark.ngspice
def test_a_limit_that_is_reached_is_said_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_POINTS_REAL", 1)
    arguments = ("--waveforms", "encoder1.f.*", "--signals", "out*", "--signals", "hold1", "--waveform-limit", "1e-3")
    result = run("simulate", "--model", MODEL, "--sentence", SENTENCE, "--every", "2", *arguments)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^Warning: the limit of waveforms was reached, \d+ tile cycles were left out", result.stderr, re.M
    )
    assert 0.8e6 < sum(path.stat().st_size for path in Path("run/waveforms").iterdir()) < 1.05e6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--waveforms", "decoder9.*"), "--waveforms decoder9.*: no such tile in the build; expected all, a pattern"),
        (("--waveforms", "all", "--signals", "zz*"), "--signals zz*: no such node of these tiles; expected a pattern"),
        (
            ("--waveforms", "encoder*", "--waveform-limit", "0.01"),
            r"GB, the limit is 0.01 GB; choose fewer tiles (--waveforms), nodes (--signals 'out*') or points (--every",
        ),
    ],
)
def test_waveforms_that_are_refused(arguments: tuple[str, ...], said: str) -> None:
    refused(run("simulate", "--model", MODEL, "--sentence", SENTENCE, *arguments), said)
    assert not Path("run").exists()


@pytest.mark.parametrize("option", [("--signals", "out*"), ("--every", "2"), ("--waveform-limit", "1")])
def test_options_of_waveforms_without_waveforms_are_wrong_usage(option: tuple[str, str]) -> None:
    result = run("simulate", "--model", MODEL, "--sentence", SENTENCE, *option)
    assert result.exit_code == 2
    assert "need --waveforms TILE" in result.stderr
    for value in ("nan", "0", "-1", "inf"):
        assert run("simulate", "--sentence", SENTENCE, "--waveform-limit", value).exit_code == 2


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("", "the sentence has no words"),
        ("   ", "the sentence has no words"),
        ("zyx qqq", "none of the sentence's words is in the model's vocabulary"),
        ("this " * 300, "reads at most"),
    ],
)
def test_sentences_that_cannot_be_read(sentence: str, message: str) -> None:
    refused(run("simulate", "--model", MODEL, "--backend", "nodal", "--sentence", sentence), message)
    assert not Path("run").exists()


def test_a_checkpoint_that_would_run_code_is_refused_and_does_not_run() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("exploded",)

    Path("bad.pt").write_bytes(pickle.dumps(Bomb()))
    refused(run("compile", "bad.pt"), "bad.pt")
    assert not Path("exploded").exists()
    assert not Path("build").exists()


def test_a_misspelt_hardware_key_is_named_with_the_right_one() -> None:
    Path("mine.toml").write_text('extends = "default"\n[array]\ntile_row = 3\n')
    refused(run("compile", MODEL, "--hardware", "mine.toml"), "mine.toml", "array.tile_row", "did you mean tile_rows?")
    refused(run("compile", MODEL, "--set", "adc.bit=6"), "adc.bit", "did you mean bits?")


def test_models_and_hardware_that_are_not_there() -> None:
    refused(run("compile", "nothing.pt"), "nothing.pt", "shipped model", "grammar")
    refused(run("compile", MODEL, "--hardware", "defualt"), "defualt", "did you mean default?")
    refused(run("simulate", "--build", "nowhere", "--sentence", "a"), "nowhere", "not a build", "hvae-mnn compile")
    refused(run("plot", "nowhere"), "nowhere")


def test_a_folder_that_holds_another_build_is_kept() -> None:
    assert run("compile", MODEL).exit_code == 0
    before = Path("build/manifest.json").read_bytes()
    assert run("compile", MODEL).exit_code == 0
    refused(run("compile", MODEL, "--hardware", "ideal"), "another build", "--force")
    assert Path("build/manifest.json").read_bytes() == before
    assert run("compile", MODEL, "--hardware", "ideal", "--force").exit_code == 0
    assert Path("build/manifest.json").read_bytes() != before


def test_a_run_does_not_replace_what_is_not_a_run() -> None:
    Path("run").mkdir()
    Path("run/thesis.txt").write_text("years of work")
    refused(run("simulate", "--model", MODEL, "--backend", "nodal", "--sentence", SENTENCE), "run", "--out")
    assert Path("run/thesis.txt").read_text() == "years of work"


def test_without_libngspice_the_message_says_what_to_install() -> None:
    code = (
        "import sys; import hvae_mnn.engines.spice.engine as s; "
        "s._FACTORY = 'no_library:worker'; from hvae_mnn.cli import main; main()"
    )
    Path("no_library.py").write_text(
        "import hvae_mnn.engines.spice.binding as w\n"
        "w._LIBRARIES = ()\n"
        "w.NgSpiceShared.LIBRARY_PATH = None\n"
        "w.ctypes.util.find_library = lambda name: None\n"
        "from hvae_mnn.engines.spice.host import SpiceHost as worker\n"
    )
    for command in (["simulate", "--model", MODEL, "--sentence", SENTENCE], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *command],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": "."},
        )
        assert done.returncode == 1, done.stderr
        assert ngspice.INSTALL in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "wiring",
    [("--hidden", "6", "--precision", "bfloat16"), ("--hidden", "6,5,7", "--peepholes", "--encoder", "gru+lstm")],
)
def test_a_short_training_run_writes_a_checkpoint_that_compiles(wiring: tuple[str, ...]) -> None:
    sizes = (*wiring, "--embedding", "8", "--latent", "4", "--epochs", "1", "--batch", "512")
    result = run("train", "--corpus", "grammar", "--preset", "grammar", *sizes, "--out", "m.pt", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert metrics["elbo_nll"] > metrics["source_entropy"] == pytest.approx(16.49, abs=0.01)
    assert "epoch 1/1" in result.stderr
    assert run("compile", "m.pt").exit_code == 0


def test_a_plain_language_model_is_trained_and_measured_but_not_compiled() -> None:
    sizes = ("--embedding", "8", "--hidden", "6", "--latent-mode", "none", "--epochs", "1", "--batch", "512")
    result = run("train", "--corpus", "grammar", "--preset", "grammar", *sizes, "--out", "lm.pt", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert metrics["elbo_nll"] > metrics["source_entropy"]
    for command in (
        ("compile", "lm.pt"),
        ("compile", "lm.pt", "--report"),
        ("simulate", "--model", "lm.pt", "--sentence", SENTENCE, "--backend", "nodal"),
    ):
        refused(run(*command), "plain language model", "latent_mode last or per-step", "hvae-mnn train")
    assert not Path("build").exists()


def test_training_refuses_a_folder_that_is_not_a_corpus() -> None:
    Path("words").mkdir()
    refused(run("train", "--corpus", "words", "--out", "m.pt"), "words", "train")
    refused(run("train", "--corpus", "nowhere", "--out", "m.pt"), "nowhere")


def test_ctrl_c_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hvae_mnn.simulation.sentence.simulate_sentence", interrupted)
    result = run("simulate", "--model", MODEL, "--sentence", SENTENCE, "--backend", "nodal")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Interrupted: the same command goes on from what was finished\n"
    assert not Path("run").exists()


@pytest.mark.parametrize("lost", ["decks/encoder1/f/r0c0.cir", "lib/dac.lib", "model.safetensors"])
def test_a_build_that_lacks_a_file_is_named_with_it(lost: str) -> None:
    assert run("compile", MODEL).exit_code == 0
    Path("build", lost).unlink()
    refused(run("simulate", "--build", "build", "--sentence", SENTENCE), lost, "compile it again")


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cache-file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache-file").absolute()))
    command = ("simulate", "--model", MODEL, "--backend", "nodal", "--sentence", SENTENCE)
    refused(run(*command), "cache", "XDG_CACHE_HOME", "--build")


def test_files_of_the_user_beside_a_result_are_kept() -> None:
    command = ("simulate", "--model", MODEL, "--backend", "nodal", "--sentence", SENTENCE)
    assert run(*command).exit_code == run(*command).exit_code == 0
    Path("run/figure.png").write_text("mine")
    refused(run(*command), "run", "something else")
    assert Path("run/figure.png").read_text() == "mine"
    refused(run(*command, "--out", "."), "working folder")
    assert run("compile", MODEL).exit_code == 0
    Path("build/notes.txt").write_text("mine")
    refused(run("compile", MODEL, "--hardware", "ideal", "--force"), "something else")


def test_the_cache_keeps_hardware_names_apart_and_mends_itself() -> None:
    command = ("simulate", "--model", MODEL, "--backend", "nodal", "--sentence", SENTENCE, "--json")
    assert json.loads(run(*command, "--set", "adc.bits=8").stdout)["hardware_preset"] == "default adc.bits=8"
    assert json.loads(run(*command).stdout)["hardware_preset"] == "default"
    (cached,) = Path("cache").rglob("model.safetensors")
    cached.write_bytes(b"damaged")
    assert run(*command).exit_code == 0


@pytest.mark.ngspice
def test_a_build_in_a_folder_with_any_name_is_read_by_ngspice() -> None:
    folder = "sp ace $x 'q' Ünï;"
    assert run("compile", MODEL, "--out", folder).exit_code == 0
    result = run("simulate", "--build", folder, "--sentence", "this child", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layers"][0]["rms_error"] < 0.02


def test_training_refuses_what_would_fail_at_its_end() -> None:
    Path("folder").mkdir()
    refused(run("train", "--corpus", "grammar", "--preset", "grammar", "--out", "folder"), "folder", "--out")
    assert run("train", "--corpus", "grammar", "--out", "m.pt", "--seed", "-1").exit_code == 2
    assert not Path("m.pt.training").exists()


def test_a_report_of_wires_writes_no_build() -> None:
    done = run("compile", MODEL, "--set", "array.r_wire=1", "--set", "array.scheme=differential", "--report")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("IR drop with 1 ohm a segment, drivers of 0 ohm, 10.1 uS to 168 uS, differential;")
    sizes = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert sizes == [size for size in ("16", "32", "64", "128") for _ in range(3)]
    assert not Path("build").exists()
