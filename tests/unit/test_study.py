"""Studies: what a file says, what is trained and measured of it, and what is left alone."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studying import COMMON, IMPORTANCE, TWO_ROWS, parse_study, run_rows, write_corpus

from hvae_mnn.errors import ArtifactError, StudyError, UserError
from hvae_mnn.experiments.model_table.plan import _RowTable, read_study
from hvae_mnn.experiments.model_table.results import COLUMNS
from hvae_mnn.experiments.model_table.run import Screen, run_study
from hvae_mnn.model.checkpoint import load_checkpoint
from hvae_mnn.model.evaluation.evaluate import Extent, evaluate
from hvae_mnn.model.text.corpus import load_corpus
from hvae_mnn.model.training.settings import PRESETS
from hvae_mnn.model.training.train import TrainConfig, TrainingEvent, train
from hvae_mnn.runtime.folders import lock_folder

pytestmark = pytest.mark.usefixtures("one_thread")
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "words", seed=0)


@pytest.fixture
def study(tmp_path: Path) -> Callable[[str], Any]:
    return lambda text: parse_study(tmp_path, text)


def _csv(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv").drop(columns="seconds")


# What a file says


def test_every_training_option_is_a_key() -> None:
    assert set(_RowTable.model_fields) == {entry.name for entry in fields(TrainConfig)}


def test_a_row_over_common_settings_over_the_objective_over_the_preset(study: Callable[[str], Any]) -> None:
    found = study(
        'preset = "grammar"\nepochs = 5\nthreads = 1\nseed = 7\n'
        "[row.hsr]\nepochs = 6\nhidden = [8, 9, 10]\nseed = 1\n"
        '[row.twr]\nobjective = "twr"\nencoder = "gru"\n'
        '[row.cyclical]\nobjective = "cyclical"\nobjective_options = { cycles = 3, ratio = 1 }\n'
        '[row.lm]\nobjective = "lm"\npreset = "paper"\n'
    )

    grammar = PRESETS["grammar"]
    assert (found.seed, found.threads) == (7, 1)
    assert [row.name for row in found.rows] == ["hsr", "twr", "cyclical", "lm"]
    assert [row.config for row in found.rows] == [
        replace(grammar, epochs=6, hidden=(8, 9, 10), seed=1),
        replace(grammar, epochs=5, seed=7, objective="twr", encoder=("gru",)),
        replace(
            grammar,
            epochs=5,
            seed=7,
            objective="cyclical",
            kl_warmup=0.0,
            objective_options=(("cycles", 3), ("ratio", 1.0)),
        ),
        replace(PRESETS["paper"], epochs=5, seed=7, objective="lm", latent_mode="none"),
    ]


@pytest.mark.parametrize("name", ["text_study", "tiny_study", "paper_study"])
def test_the_example_studies_are_sound(name: str) -> None:
    found = read_study(EXAMPLES / f"{name}.toml")

    assert found.language_model is not None and found.language_model.name == "lm"
    assert found.threads == 1
    if name == "text_study":
        objectives = {row.config.objective for row in found.rows}
        assert len(objectives) == 11
        assert {(row.config.embedding, row.config.hidden, row.config.latent) for row in found.rows} == {(64, 64, 32)}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("rows = 1", ('"rows" is not a known key', "did you mean row?")),
        ("[row.a]\nepoch = 3", ('"row.a.epoch" is not a known key', "did you mean epochs?")),
        ("objective_options = { cycles = 3 }", ('"objective_options" is not a known key here', "table [row.NAME]")),
        ("[row.a]\nthreads = 2", ('"row.a.threads" is not a known key here', "belongs above the rows")),
        ("epochs = 3", ("no row", "[row.NAME]")),
        ("row = 3", ("row is 3", "expected a table")),
        ("[row.a]\nepochs = 2.5", ("row.a.epochs is 2.5", "expected a whole number")),
        ('[row.a]\nlatent = "many"', ("row.a.latent is 'many'", "expected a whole number")),
        ("[row.a]\nlearning_rate = nan", ("row.a.learning_rate is nan", "expected a finite number")),
        ("[row.a]\nhidden = [8, 2.5, 8]", ("expected a whole number, or a list",)),
        ("[row.a]\nencoder = 3", ("row.a.encoder is 3", "expected a text")),
        ("[row.a]\nepochs = 0", ("row a: training option epochs is 0",)),
        ('[row.a]\npreset = "grammer"', ("row a: preset is 'grammer'", "did you mean grammar?")),
        ('[row.a]\nobjective = "cyclic"', ("row a: ", "did you mean cyclical?")),
        ('[row.a]\nobjective_options = { cycles = "3" }', ("row.a.objective_options.cycles is '3'", "a number")),
        ('[row.a]\nobjective = "twr"\nencoder = "lstm+gru"', ("row a: ", "expected one cell")),
        ('[row.a]\nencoder = "lstm+gro"', ("row a: ", "'gro'")),
        ('[row."a b"]', ("row 'a b'", "letters, digits")),
        ("[row.a]\n[row.A]", ("rows a and A",)),
        ("[row.study]", ("row 'study'", "study.json", "another name")),
        ("[row.Results]", ("row 'Results'", "results.csv", "another name")),
        ("[row.a", ("not valid TOML",)),
        ("threads = 0\n[row.a]", ("threads is 0", "greater than or equal to 1")),
    ],
)
def test_what_a_file_cannot_say_is_one_line(study: Callable[[str], Any], text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(StudyError) as refused:
        study(text)
    message = str(refused.value)
    assert "study.toml: " in message and "\n" not in message
    for part in parts:
        assert part in message


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        read_study(tmp_path / "none.toml")


def test_the_language_model_goes_first(study: Callable[[str], Any]) -> None:
    found = study('[row.a]\n[row.b]\n[row.lm]\nobjective = "lm"\n[row.lm2]\nlatent_mode = "none"\n')

    assert [row.name for row in found.chosen()] == ["lm", "a", "b", "lm2"]
    assert [row.name for row in found.chosen(("b", "lm"))] == ["lm", "b"]
    with pytest.raises(StudyError, match="--only lm3: the study has no such row; did you mean lm"):
        found.chosen(("lm3",))


# What is trained, measured and left alone


def test_rows_are_what_train_and_evaluate_make_of_them(
    study: Callable[[str], Any], words: Path, tmp_path: Path
) -> None:
    plan, out = study(TWO_ROWS), tmp_path / "out"
    records = run_rows(plan, words, out)

    vae, lm = (row.config for row in plan.rows)
    corpus = load_corpus(words)
    plain = train(corpus, lm, tmp_path / "lm.pt")
    model = train(corpus, vae, tmp_path / "vae.pt")
    expected = evaluate(model, words, name="vae", language_model=plain, seed=3, extent=Extent(importance=IMPORTANCE))
    assert load_checkpoint(out / "vae.pt").content_hash() == model.content_hash()
    assert json.loads((out / "vae.json").read_text())["evaluation"] == json.loads(json.dumps(expected.to_json()))

    paper, honest, exact = records
    assert [each["protocol"] for each in records] == ["paper", "honest", "honest"]
    assert paper["nll"] == expected.paper.nll and paper["tokens"] == expected.paper.tokens
    assert honest["nll"] == expected.honest.elbo.nll and honest["iw500_nll"] == expected.honest.importance[500].nll
    assert honest["language_model_nll"] == exact["nll"] == expected.plain.nll
    assert (honest["over_language_model"], paper["over_language_model"]) == (expected.over_plain.value, None)
    assert honest["over_language_model"] == pytest.approx(honest["nll"] - exact["nll"])
    assert honest["over_language_model_error"] == expected.over_plain.standard_error
    assert (paper["active_units"], honest["active_units"]) == (None, expected.honest.active_units)
    counted = [each["nll"] / np.log(each["perplexity"]) for each in records]
    assert counted == pytest.approx([each["tokens"] for each in records])
    assert counted[0] == pytest.approx(counted[1] + 1)  # <sos>

    table = pd.read_csv(out / "results.csv")
    assert tuple(table.columns) == COLUMNS
    for column in ("nll", "perplexity", "kl", "mi", "tokens"):
        assert table[column].to_numpy() == pytest.approx([each[column] or np.nan for each in records], nan_ok=True)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["lm.json", "lm.pt", "lock", "results.csv", "results.md", "study.json", "vae.json", "vae.pt"]
    )


def test_an_interrupted_study_goes_on_to_the_same_table(
    study: Callable[[str], Any], words: Path, tmp_path: Path
) -> None:
    plan, whole, cut = study(TWO_ROWS), tmp_path / "whole", tmp_path / "cut"
    run_rows(plan, words, whole)

    events: list[TrainingEvent] = []

    def stop(event: TrainingEvent) -> None:
        events.append(event)
        if len([each for each in events if each.epoch == 2 and each.valid_loss is None]) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(
            plan,
            words,
            cut,
            importance_sentences=IMPORTANCE,
            screen=Screen(training=lambda: nullcontext(stop)),
        )
    assert (cut / "lm.json").exists() and (cut / "vae.pt.training").exists() and not (cut / "vae.pt").exists()
    so_far = _csv(cut)
    assert list(so_far["status"]) == ["not run yet", "measured"]
    before = json.loads((cut / "study.json").read_text())["seconds"]["vae"]

    told: list[str] = []
    run_rows(plan, words, cut, told)

    assert told == ["row lm (1 of 2): finished before", "row vae (2 of 2): training", "row vae (2 of 2): measuring"]
    pd.testing.assert_frame_equal(_csv(cut), _csv(whole))
    assert json.loads((cut / "vae.json").read_text())["seconds"] > before > 0
    assert not list(cut.glob("*.training")) and not list(cut.glob(".*"))


def test_only_some_rows_and_then_the_others(study: Callable[[str], Any], words: Path, tmp_path: Path) -> None:
    plan, out = study(TWO_ROWS), tmp_path / "out"
    told: list[str] = []

    alone = run_rows(plan, words, out, told, only=("vae",))

    assert told == ["row vae (1 of 1): training", "row vae (1 of 1): measuring"]
    assert [each["status"] for each in alone] == ["measured", "measured", "not run yet"]
    assert alone[1]["language_model_nll"] is None
    beside = run_rows(plan, words, out, told)
    assert told[2:] == ["row lm (1 of 2): training", "row lm (1 of 2): measuring", "row vae (2 of 2): measuring"]
    assert beside[1]["language_model_nll"] == beside[2]["nll"]


def test_more_sentences_are_measured_and_not_trained(study: Callable[[str], Any], words: Path, tmp_path: Path) -> None:
    plan, out = study(COMMON + "[row.hsr]\n"), tmp_path / "out"
    run_rows(plan, words, out)
    before, told = (out / "hsr.pt").stat().st_mtime_ns, list[str]()

    records = run_study(plan, words, out, importance_sentences=6, screen=Screen(tell=told.append))

    assert told == ["row hsr (1 of 1): measuring"]
    assert (out / "hsr.pt").stat().st_mtime_ns == before
    assert "IW on 6 sentences" in records[1]["note"]


def test_a_row_of_other_settings_is_refused_before_anything_is_trained(
    study: Callable[[str], Any], words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_rows(study(COMMON + "[row.a]\n"), words, out)
    changed = study(COMMON.replace("epochs = 2", "epochs = 1") + "[row.b]\n[row.a]\n")

    with pytest.raises(StudyError, match=r"row a: .*epochs 2 \(now 1\); .*Delete .*a\.pt.*--only"):
        run_rows(changed, words, out)
    assert not (out / "b.pt").exists()

    records = run_rows(changed, words, out, only=("b",))
    assert [each["status"] for each in records] == ["measured", "measured", "not shown: settings changed"]
    (out / "a.pt").unlink()
    told: list[str] = []
    records = run_rows(changed, words, out, told)
    assert told[0] == "row b (1 of 2): finished before" and told[-1] == "row a (2 of 2): measuring"
    assert {each["status"] for each in records} == {"measured"}


def test_what_a_row_no_longer_says_is_a_change_too(study: Callable[[str], Any], words: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_rows(study(COMMON + '[row.a]\nobjective = "vae"\narithmetic = "bfloat16"\n'), words, out)

    with pytest.raises(StudyError, match=r"row a: .*objective vae \(now hsr\), arithmetic bfloat16 \(now float32\)"):
        run_rows(study(COMMON + "[row.a]\n"), words, out)


def test_a_row_under_way_with_other_settings_is_refused(
    study: Callable[[str], Any], words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plan = study(COMMON + "[row.a]\n")
    run_rows(plan, words, out)
    for path in ("a.pt", "a.json"):
        (out / path).unlink()

    def stop(event: TrainingEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load_corpus(words), plan.rows[0].config, out / "a.pt", progress=stop)

    changed = study(COMMON.replace("latent = 4", "latent = 5") + "[row.b]\n[row.a]\n")
    with pytest.raises(StudyError, match=r"row a: .*a\.pt\.training.*latent 4 \(now 5\)"):
        run_rows(changed, words, out)
    assert not (out / "b.pt").exists()


def test_another_corpus_is_refused(study: Callable[[str], Any], words: Path, tmp_path: Path) -> None:
    plan, out = study(COMMON + "[row.a]\n"), tmp_path / "out"
    run_rows(plan, words, out)
    write_corpus(tmp_path / "others", seed=1)

    with pytest.raises(StudyError, match=r"row a: .*another corpus"):
        run_rows(plan, tmp_path / "others", out)


def test_folders_of_something_else_are_left_alone(study: Callable[[str], Any], words: Path, tmp_path: Path) -> None:
    plan = study(COMMON + "[row.a]\n")
    file, foreign, busy = tmp_path / "file", tmp_path / "foreign", tmp_path / "busy"
    file.write_text("mine")
    foreign.mkdir()
    (foreign / "a.json").write_text("{}")
    busy.mkdir()
    with lock_folder(busy, "study"), pytest.raises(ArtifactError, match="another study is writing"):
        run_rows(plan, words, busy)
    with pytest.raises(ArtifactError, match="is a file"):
        run_rows(plan, words, file)
    with pytest.raises(ArtifactError, match="holds something else"):
        run_rows(plan, words, foreign)
    assert (foreign / "a.json").read_text() == "{}" and len(list(foreign.iterdir())) == 1

    run_rows(plan, words, busy)
    for name, keys in (("study.json", ("seconds",)), ("a.json", ("identity", "evaluation", "best_epoch", "seconds"))):
        damaged = busy / name
        kept = damaged.read_text()
        found = json.loads(kept)
        without = [json.dumps({key: value for key, value in found.items() if key != gone}) for gone in keys]
        texts = [kept[:20], *without, *(json.dumps(found | {key: "many"}) for key in keys if key != "best_epoch")]
        for text in (*texts, kept.replace('"nll"', '"n"')) if name == "a.json" else texts:
            damaged.write_text(text)
            with pytest.raises(UserError, match=rf"{name}: is not a file of a study or is damaged"):
                run_rows(plan, words, busy)
        damaged.write_text(kept)


def test_a_row_that_diverges_is_named(study: Callable[[str], Any], words: Path, tmp_path: Path) -> None:
    plan = study(COMMON + "[row.wild]\nlearning_rate = 1e30\n")

    with pytest.raises(StudyError, match=r"^row wild: "):
        run_rows(plan, words, tmp_path / "out")
