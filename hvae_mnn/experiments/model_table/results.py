"""The table of a study: figures of every model by both protocols, and what was published beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.model_table.plan import ModelStudy, Row
from hvae_mnn.model.evaluation.protocols import NOT_AVAILABLE, PTB_PAPER, PUBLISHED, Published
from hvae_mnn.runtime.folders import write_file

if TYPE_CHECKING:
    import pandas as pd

MEASURED, PUBLISHED_STATUS, NOT_YET = "measured", "published", "not run yet"
NO_DATA = "not run: data not available"
CHANGED = "not shown: settings changed"
OTHERWISE = "not shown: measured with another seed or number of sentences"

RESULTS = "results.csv"
"""Name of the table in a study's folder."""
COLUMNS = (
    "model",
    "objective",
    "cells",
    "corpus",
    "protocol",
    "status",
    "nll",
    "nll_error",
    "perplexity",
    "kl",
    "mi",
    "mi_ceiling",
    "active_units",
    "latent",
    "iw50_nll",
    "iw500_nll",
    "language_model_nll",
    "over_language_model",
    "over_language_model_error",
    "tokens",
    "epochs",
    "best_epoch",
    "seconds",
    "note",
)
"""Columns of `results.csv`; likelihoods in nats a sentence."""

Record = dict[str, Any]

_HEADS = {
    "model": "model",
    "objective": "objective",
    "cells": "cells",
    "corpus": "corpus",
    "protocol": "protocol",
    "status": "status",
    "nll": "NLL",
    "perplexity": "PPL",
    "kl": "KL",
    "mi": "MI (ceiling)",
    "active_units": "active units",
    "iw50_nll": "IW 50",
    "iw500_nll": "IW 500",
    "language_model_nll": "LM",
    "over_language_model": "less LM",
    "tokens": "tokens",
    "epochs": "epochs",
    "seconds": "seconds",
    "note": "note",
}
_LEFT = ("model", "objective", "cells", "corpus", "protocol", "status", "note")
_SHORT = (
    "model",
    "corpus",
    "protocol",
    "status",
    "nll",
    "perplexity",
    "kl",
    "mi",
    "active_units",
    "iw500_nll",
    "language_model_nll",
)
_ONE_KL = {"short-run": "no encoder", "flow": "a flow after the last token"}
_CHARGED = ("hsr", "twr", "prior")  # objectives that charge the KL of every step
_WITHOUT_ENCODER = ("short-run", "lm")
_EXPLANATION = """\
Nats a sentence; PPL is exp(NLL / tokens). Published rows were not measured here.

- `honest`: words and `<eos>` of the file as it is; z sampled; the KL of all latents that drive the decoder. NLL is a
  bound on -log p(x), IW 50 and IW 500 are importance-weighted bounds; of a plain language model NLL is exact.
- `paper`: TWR-VAE's way of counting, by which the published rows were made: text split again, `<sos>` counted too, z
  at its mean, KL averaged over steps. It is no bound, and no claim follows from it.
- MI cannot pass its ceiling: ln N in `honest`, ln 64 in `paper`. LM is the exact NLL of the study's plain language
  model; "less LM" is the mean difference of the `honest` NLL from it, sentence by sentence, and its standard error.
- seconds: training alone, on the machine that it ran on.
"""


def make_records(
    study: ModelStudy, found: Mapping[str, Mapping[str, Any]], hidden: Mapping[str, str] = MappingProxyType({})
) -> list[Record]:
    """Return the lines of a study's table.

    Args:
        study: Its rows.
        found: What each finished row's file holds, by the row's name.
        hidden: Status of each row whose figures are not shown, by its name.
    """
    records: list[Record] = []
    for row in study.rows:
        if row.name in found:
            records += measured(row, found[row.name])
        else:
            records.append(_line(**_describe(row), status=hidden.get(row.name, NOT_YET)))
    if any(each["evaluation"]["published"] for each in found.values()):
        records += _beside()
    return records


def measured(row: Row, found: Mapping[str, Any]) -> list[Record]:
    """Return the lines of a finished row: one a protocol, or the exact one of a plain language model.

    Args:
        row: The row.
        found: What its file holds.

    Raises:
        KeyError: Something is missing in it.
        TypeError: Something else stands there.
    """
    evaluation = found["evaluation"]
    own = _describe(row) | {
        "corpus": evaluation["corpus"],
        "status": MEASURED,
        "best_epoch": found["best_epoch"],
        "seconds": found["seconds"],
    }
    plain = evaluation["plain"]
    if evaluation["honest"] is None:  # by the file: it may be of a row that had a latent, or had none, before
        exact = {"nll": plain["nll"], "nll_error": plain["standard_error"], "perplexity": plain["perplexity"]}
        return [_line(**own, **exact, protocol="honest", tokens=plain["tokens"], note="exact: no latent")]
    less, beside = evaluation["over_plain"], {}
    if plain is not None:  # counted as in `honest`
        beside = {
            "language_model_nll": plain["nll"],
            "over_language_model": less["value"],
            "over_language_model_error": less["standard_error"],
        }
    honest = _honest_line(own | beside, evaluation["honest"], found.get("note"))
    return [_paper_line(row, own, evaluation["paper"]), honest]


def without_language_model(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row's file holds without the figures of a language model that is no longer the study's."""
    evaluation = found["evaluation"] | {"plain": None, "over_plain": None}
    return {**found, "evaluation": evaluation, "note": "LM: run the study again"}


def write_results(folder: Path, records: Sequence[Record], language_model: str | None) -> None:
    """Write `results.csv` and `results.md`, each whole or not at all.

    Raises:
        ArtifactError: The disk failed.
    """
    import pandas as pd

    table = pd.DataFrame(list(records), columns=list(COLUMNS))
    for name in ("active_units", "latent", "epochs", "best_epoch"):
        table[name] = table[name].astype("Int64")
    write_file(folder / RESULTS, table.to_csv(index=False, lineterminator="\n"))
    text = "\n".join(format_table(records))
    if language_model is not None:
        text += f"\n\nThe plain language model is the row `{language_model}`."
    write_file(folder / "results.md", f"# Results\n\n{text}\n\n{_EXPLANATION}")


def load_results(folder: Path) -> "pd.DataFrame":
    """Read the table of a study.

    Returns:
        The lines of `results.csv`; at least one row is measured.

    Raises:
        ArtifactError: There is none, it is damaged, or no row has been measured.
    """
    import pandas as pd

    path = folder / RESULTS
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; run the study again") from None
    if missing := [name for name in COLUMNS if name not in table]:
        raise ArtifactError(f"{path}: has no column {missing[0]}; expected the table of a study. Run the study again")
    if not (table["status"] == MEASURED).any():
        raise ArtifactError(f"{path}: no row has been measured; expected one at least. Go on with the study")
    return table


def format_table(records: Sequence[Record], short: bool = False) -> list[str]:
    """Return the lines of a Markdown table, columns aligned; `short` leaves the less important ones out."""
    names = _SHORT if short else tuple(_HEADS)
    cells = [[_HEADS[name] for name in names], *([_show(record, name) for name in names] for record in records)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(names))]
    left = [name in _LEFT for name in names]
    lines = [
        "| "
        + " | ".join(
            f"{cell:<{width}}" if to_left else f"{cell:>{width}}"
            for cell, width, to_left in zip(row, widths, left, strict=True)
        )
        + " |"
        for row in cells
    ]
    rule = [("-" * width if to_left else "-" * (width - 1) + ":") for width, to_left in zip(widths, left, strict=True)]
    return [lines[0], "| " + " | ".join(rule) + " |", *lines[1:]]


def _line(**values: Any) -> Record:
    return dict.fromkeys(COLUMNS) | values


def _describe(row: Row) -> Record:
    config = row.config
    encoder = "" if row.plain or config.objective in _WITHOUT_ENCODER else "+".join(config.encoder)
    return {
        "model": row.name,
        "objective": config.objective,
        "cells": f"{encoder} > {config.decoder}" if encoder else config.decoder,
        "epochs": config.epochs,
    }


def _paper_line(row: Row, own: Record, paper: Mapping[str, Any]) -> Record:
    return _line(
        **own,
        protocol="paper",
        nll=paper["nll"],
        perplexity=paper["perplexity"],
        kl=paper["kl"],
        mi=paper["mutual_information"],
        mi_ceiling=paper["ceiling"],
        tokens=paper["tokens"],
        note=_paper_note(row),
    )


def _paper_note(row: Row) -> str:
    objective = row.config.objective
    if objective in _ONE_KL:
        return f"no bound; KL of the last token over T: {_ONE_KL[objective]}"
    if objective in _CHARGED or row.config.latent_mode == "per-step":
        return "no bound"
    return "no bound; averages KLs of steps that training did not charge"


def _honest_line(own: Record, honest: Mapping[str, Any], note: str | None) -> Record:
    bound, weighted = honest["elbo"], honest["importance"]
    return _line(
        **own,
        protocol="honest",
        nll=bound["nll"],
        nll_error=bound["standard_error"],
        perplexity=bound["perplexity"],
        kl=honest["kl"],
        mi=honest["mutual_information"],
        mi_ceiling=honest["ceiling"],
        active_units=honest["active_units"],
        latent=honest["latent"],
        iw50_nll=weighted["50"]["nll"],
        iw500_nll=weighted["500"]["nll"],
        tokens=honest["tokens"],
        note=f"bounds; IW on {honest['importance_sentences']} sentences{f'; {note}' if note else ''}",
    )


def _beside() -> list[Record]:
    """Return the published rows, and the corpora that cannot be run."""
    lines = [_line(model="HSR-VAE", corpus=corpus, status=NO_DATA) for corpus in NOT_AVAILABLE]
    return [_published(each) for each in PUBLISHED] + lines


def _published(row: Published) -> Record:
    note = "counted as in `paper`; no bound"
    if row is PTB_PAPER:
        note += f"; baselines of its table counted {row.baseline_tokens} tokens"
    return _line(
        model=row.name,
        corpus=row.corpus,
        protocol=row.protocol,
        status=PUBLISHED_STATUS,
        nll=row.nll,
        perplexity=row.perplexity,
        kl=row.kl,
        tokens=row.tokens,
        note=note,
    )


def _show(record: Record, name: str) -> str:
    value = record[name]
    if value is None:
        return ""
    if name == "mi" and record["mi_ceiling"] is not None:
        return f"{_round(value)} ({_round(record['mi_ceiling'])})"
    if name == "over_language_model":
        return f"{_round(value)} ± {_round(record['over_language_model_error'])}"
    if name == "active_units":
        return f"{value} of {record['latent']}"
    if name == "epochs" and record["best_epoch"] is not None:
        return f"{value} (best {record['best_epoch']})"
    if name == "seconds":
        return f"{value:.0f}"
    if name in ("nll", "perplexity", "kl") and record["status"] == PUBLISHED_STATUS:
        return f"{value:.1f}"  # as printed there
    return _round(value) if isinstance(value, float) else str(value)


def _round(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no minus before zero
