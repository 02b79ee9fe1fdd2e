"""The table of a study: what stands in its lines, and how they are shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studying import COMMON, parse_study

from hvae_mnn.experiments.model_table.results import format_table, make_records
from hvae_mnn.model.evaluation.protocols import PTB_PAPER
from hvae_mnn.model.training.objectives import OBJECTIVES


@pytest.fixture
def study(tmp_path: Path) -> Callable[[str], Any]:
    return lambda text: parse_study(tmp_path, text)


def _figures(published: Any) -> dict[str, Any]:
    plain = {"nll": 80.0, "standard_error": 0.5, "perplexity": 50.0, "tokens": 20.5}
    evaluation = {"corpus": "ptb", "plain": plain, "published": published, "paper": None, "honest": None}
    return {"best_epoch": 2, "seconds": 3.25, "evaluation": evaluation}


def test_published_rows_stand_beside_the_penn_treebank_alone(study: Callable[[str], Any]) -> None:
    plan = study(COMMON + '[row.lm]\nobjective = "lm"\n')

    assert len(make_records(plan, {"lm": _figures(None)})) == 1
    records = make_records(plan, {"lm": _figures(PTB_PAPER.to_json())})

    published = [each for each in records if each["status"] == "published"]
    assert [(each["corpus"], each["nll"], each["perplexity"], each["kl"]) for each in published] == [
        ("ptb", 79.4, 30.2, 9.1),
        ("yahoo", 310.4, 45.6, 8.8),
        ("yahoo", 290.7, 35.8, 8.7),
    ]
    assert {each["protocol"] for each in published} == {"paper"}
    for each in published:
        assert each["nll"] / np.log(each["perplexity"]) == pytest.approx(each["tokens"], abs=0.03)
    absent = [each for each in records if each["status"] == "not run: data not available"]
    assert [each["corpus"] for each in absent] == ["yelp", "yahoo"]
    for each in absent:
        assert not [value for value in each.values() if isinstance(value, int | float)]


def test_the_table_is_markdown_with_columns_in_line(study: Callable[[str], Any]) -> None:
    plan = study(COMMON + '[row.lm]\nobjective = "lm"\n[row.later]\n')
    lines = format_table(make_records(plan, {"lm": _figures(PTB_PAPER.to_json())}))

    assert len({len(line) for line in lines}) == 1
    assert len({line.count("|") for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    lm = dict(zip(cells[0], cells[2], strict=True))
    assert (lm["model"], lm["protocol"], lm["NLL"], lm["KL"]) == ("lm", "honest", "80.00", "")
    assert (lm["epochs"], lm["seconds"], lm["note"]) == ("2 (best 2)", "3", "exact: no latent")
    assert cells[3][:1] == ["later"] and "not run yet" in cells[3]
    assert {"79.4", "30.2", "9.1", "published"} <= set(cells[4])


def test_a_little_less_than_nothing_is_shown_as_nothing(study: Callable[[str], Any]) -> None:
    plan = study(COMMON + '[row.lm]\nobjective = "lm"\n')
    (record,) = make_records(plan, {"lm": _figures(None)})

    lines = format_table([record | {"mi": -0.001, "mi_ceiling": 4.158, "kl": -0.006}])

    assert "0.00 (4.16)" in lines[2] and "-0.00" not in lines[2] and "-0.01" in lines[2]


def test_every_paper_line_says_what_its_kl_is(study: Callable[[str], Any]) -> None:
    rows = "".join(f'[row.{name}]\nobjective = "{name}"\n' for name in OBJECTIVES if name != "lm")
    plan = study(COMMON + rows + '[row.steps]\nobjective = "vae"\nlatent_mode = "per-step"\n')
    numbers: dict[str, Any] = dict.fromkeys(("nll", "perplexity", "kl", "mutual_information", "ceiling", "tokens"), 1.0)
    bound = {"nll": 1.0, "standard_error": 0.1, "perplexity": 2.0}
    honest = numbers | {"elbo": bound, "importance": {"50": bound, "500": bound}, "importance_sentences": 7}
    evaluation = {
        "corpus": "a",
        "plain": None,
        "over_plain": None,
        "published": None,
        "paper": numbers,
        "honest": honest | {"active_units": 1, "latent": 2},
    }
    figures = {"best_epoch": 1, "seconds": 1.0, "evaluation": evaluation}

    records = make_records(plan, dict.fromkeys((row.name for row in plan.rows), figures))

    notes = {each["model"]: each["note"] for each in records if each["protocol"] == "paper"}
    charged = dict.fromkeys(("hsr", "twr", "prior", "steps"), "no bound")
    others = "no bound; averages KLs of steps that training did not charge"
    assert notes == charged | dict.fromkeys(("vae", "cyclical", "lagging", "bn", "sa"), others) | {
        "short-run": "no bound; KL of the last token over T: no encoder",
        "flow": "no bound; KL of the last token over T: a flow after the last token",
    }
    assert {each["note"] for each in records if each["protocol"] == "honest"} == {"bounds; IW on 7 sentences"}
