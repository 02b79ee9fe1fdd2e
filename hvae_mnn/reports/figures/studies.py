"""A study of models: what each protocol says of each, and what its latent holds."""

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hvae_mnn.reports.figures.style import COLOURS, WIDTH, format_word

if TYPE_CHECKING:
    import pandas as pd

_ROW_HEIGHT, _MARGIN = 0.24, 1.1  # inch
_HONEST, _PAPER, _INFORMATION = COLOURS[0], COLOURS[1], COLOURS[2]
_LINEAR = 1.0  # nats up to which the axis of KL and MI is linear


def draw_study(table: "pd.DataFrame") -> Figure:
    """Draw the measured rows of a study's table: NLL by both protocols on the left, KL and MI on the right.

    Args:
        table: What `hvae_mnn.experiments.model_table.results.load_results` returns; at least one row of it is measured.
    """
    measured = table[table["status"] == "measured"]
    names = list(dict.fromkeys(measured["model"]))
    honest, paper = (
        measured[measured["protocol"] == protocol].set_index("model").reindex(names) for protocol in ("honest", "paper")
    )
    figure = Figure(figsize=(WIDTH, _ROW_HEIGHT * len(names) + _MARGIN), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    _draw_likelihoods(left, honest, paper)
    _draw_latent(right, honest)
    left.set_yticks(range(len(names)), [format_word(name) for name in names])
    left.set_ylim(len(names) - 0.5, -0.5)
    return figure


def _draw_likelihoods(axes: Axes, honest: "pd.DataFrame", paper: "pd.DataFrame") -> None:
    places = range(len(honest))
    for place, ends in enumerate(zip(paper["nll"], honest["nll"], strict=True)):
        axes.plot(ends, (place, place), color="0.85", zorder=1)
    plain = honest[honest["kl"].isna() & honest["nll"].notna()]
    if len(plain):
        axes.axvline(plain["nll"].iloc[0], color="0.3", linestyle="--", label="plain language model, exact")
    axes.plot(paper["nll"], places, "o", color=_PAPER, fillstyle="none", label="paper protocol: no bound")
    axes.plot(honest["nll"], places, "o", color=_HONEST, label="honest: $-$ELBO")
    axes.plot(honest["iw500_nll"], places, "|", color=_HONEST, markersize=9, label="honest: IW, k = 500")
    axes.set_xlabel("NLL, nats a sentence")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _draw_latent(axes: Axes, honest: "pd.DataFrame") -> None:
    places = range(len(honest))
    axes.barh(places, honest["kl"], height=0.5, color=_HONEST, alpha=0.35, label="KL of what drives the decoder")
    axes.plot(honest["mi"], places, "D", markersize=4, color=_INFORMATION, label="MI of sentence and latent")
    ceiling = honest["mi_ceiling"].max()
    if ceiling == ceiling:  # not NaN: there is a model with a latent
        axes.axvline(ceiling, color=_INFORMATION, linestyle=":", label="its ceiling")
    axes.set_xscale("symlog", linthresh=_LINEAR)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"nats a sentence, linear up to {_LINEAR:g}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
