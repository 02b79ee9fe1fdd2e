"""What a study shows of rows that were measured or trained in another way than it would now."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studying import COMMON, TWO_ROWS, parse_study, run_rows, write_corpus

from hvae_mnn.errors import StudyError
from hvae_mnn.experiments.model_table.run import Screen
from hvae_mnn.experiments.prune import prune_model
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import load_checkpoint, save_checkpoint
from hvae_mnn.model.training.train import TrainingEvent

pytestmark = pytest.mark.usefixtures("one_thread")
OTHERWISE = "not shown: measured with another seed or number of sentences"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "words", seed=0)


def _column(records: list[dict[str, Any]], name: str) -> list[Any]:
    return [each[name] for each in records]


def test_figures_of_another_language_model_are_dropped(words: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = run_rows(parse_study(tmp_path, TWO_ROWS), words, out)
    for name in ("lm.pt", "lm.json"):
        (out / name).unlink()
    other = parse_study(tmp_path, TWO_ROWS + "learning_rate = 0.02\n")  # of lm, the last table

    records = run_rows(other, words, out, only=("lm",))

    assert _column(records, "status") == ["measured"] * 3
    assert records[2]["nll"] != before[2]["nll"]
    assert records[1]["over_language_model"] is None
    assert records[1]["language_model_nll"] is None and "LM: run the study again" in records[1]["note"]
    assert (records[0], records[1]["nll"]) == (before[0], before[1]["nll"])
    again = run_rows(other, words, out)
    assert again[1]["language_model_nll"] == again[2]["nll"] == records[2]["nll"]
    beside = {name: again[1][name] for name in again[1] if "language_model" in name}
    assert beside["over_language_model"] == pytest.approx(again[1]["nll"] - records[2]["nll"])
    assert again[1] == before[1] | beside


def test_a_language_model_of_other_settings_is_none_to_measure_against(words: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_rows(parse_study(tmp_path, TWO_ROWS), words, out, only=("lm",))
    other = parse_study(tmp_path, TWO_ROWS + "learning_rate = 0.02\n")

    records = run_rows(other, words, out, only=("vae",))

    assert _column(records, "status") == ["measured", "measured", "not shown: settings changed"]
    assert records[1]["language_model_nll"] is None


def test_figures_of_another_seed_or_number_of_sentences_are_not_shown(words: Path, tmp_path: Path) -> None:
    text = COMMON.replace("seed = 3\n", "") + "[row.a]\nseed = 3\n[row.b]\nseed = 3\n"
    plan, out = parse_study(tmp_path, "seed = 1\n" + text), tmp_path / "out"
    first = run_rows(plan, words, out)

    for study, options in ((plan, {"importance_sentences": 6}), (parse_study(tmp_path, "seed = 2\n" + text), {})):
        records = run_rows(study, words, out, only=("b",), **options)
        assert _column(records, "status") == [OTHERWISE, "measured", "measured"]
        assert records[0]["nll"] is None
    assert run_rows(plan, words, out) == first


def test_figures_of_another_model_are_not_shown(words: Path, tmp_path: Path) -> None:
    plan, out = parse_study(tmp_path, COMMON + "[row.a]\n[row.b]\n"), tmp_path / "out"
    run_rows(plan, words, out)
    trained = load_checkpoint(out / "a.pt")
    bias = {"output.bias": trained.weights["output.bias"] + 1}
    save_checkpoint(replace(trained, weights={**trained.weights, **bias}), out / "a.pt")

    records = run_rows(plan, words, out, only=("b",))

    assert _column(records, "status") == ["not run yet", "measured", "measured"]


@pytest.mark.parametrize("kind", ["pruned", "sizes"])
def test_a_model_that_is_not_as_it_was_trained_is_refused(words: Path, tmp_path: Path, kind: str) -> None:
    plan, out = parse_study(tmp_path, COMMON + "[row.b]\n[row.a]\n"), tmp_path / "out"
    run_rows(plan, words, out)
    if kind == "pruned":
        options = {"threshold": 0.0, "hidden_threshold": 0.0, "sentences": 20}
        prune_model(load_checkpoint(out / "a.pt"), words, out / "a.pt", load_hardware("ideal"), "ideal", **options)
    else:
        trained = load_checkpoint(out / "a.pt")
        save_checkpoint(replace(trained, config=replace(trained.config, max_length=19)), out / "a.pt")

    with pytest.raises(StudyError, match=rf"^row a: .*a\.pt .*{kind}.*Delete .*a\.pt.*--only") as refused:
        run_rows(plan, words, out)
    assert "\n" not in str(refused.value)
    records = run_rows(plan, words, out, only=("b",))
    assert _column(records, "status") == ["measured", "measured", "not shown: settings changed"]


def test_a_row_that_becomes_a_language_model_is_trained_again_once_its_model_is_deleted(
    words: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_rows(parse_study(tmp_path, COMMON + "[row.a]\n"), words, out)
    plan = parse_study(tmp_path, COMMON + '[row.a]\nobjective = "lm"\n')
    with pytest.raises(StudyError, match=r"objective hsr \(now lm\)"):
        run_rows(plan, words, out)

    (out / "a.pt").unlink()

    assert _column(run_rows(plan, words, out), "note") == ["exact: no latent"]


def test_a_sentence_past_a_rows_limit_is_named_before_anything_is_trained(words: Path, tmp_path: Path) -> None:
    plan, out = parse_study(tmp_path, COMMON + "[row.a]\n[row.b]\nmax_length = 5\n"), tmp_path / "out"

    with pytest.raises(StudyError, match=r"^row b: corpus 'words' has a sentence of 6 words in its train split"):
        run_rows(plan, words, out)
    assert not (out / "a.pt").exists()


def test_seconds_are_kept_at_the_end_of_each_epoch(words: Path, tmp_path: Path) -> None:
    """A process that is killed runs no `finally`: what it spent is read while it trains."""
    plan, out = parse_study(tmp_path, COMMON + "[row.a]\n"), tmp_path / "out"
    kept: list[float | None] = []

    def look(event: TrainingEvent) -> None:
        if event.batch == 1 and event.valid_loss is None:
            kept.append(json.loads((out / "study.json").read_text())["seconds"].get("a"))

    run_rows(plan, words, out, screen=Screen(training=lambda: nullcontext(look)))

    first, second = kept
    assert first is None and second is not None
    assert 0 < second < json.loads((out / "study.json").read_text())["seconds"]["a"]


def test_a_damaged_file_of_a_row_that_is_not_run_is_said_before_training(words: Path, tmp_path: Path) -> None:
    plan, out = parse_study(tmp_path, COMMON + "[row.a]\n[row.b]\n"), tmp_path / "out"
    run_rows(plan, words, out, only=("b",))
    (out / "b.json").write_text("{}")

    with pytest.raises(StudyError, match=r"b\.json: is not a file of a study or is damaged"):
        run_rows(plan, words, out, only=("a",))
    assert not (out / "a.pt").exists()
