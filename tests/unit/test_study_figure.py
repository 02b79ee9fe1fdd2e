"""The figure of a study, and what is said where there is none to draw."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.model_table.results import COLUMNS, load_results
from hvae_mnn.reports.figures.studies import draw_study
from hvae_mnn.reports.plot import plot_artifact


def _line(model: str, protocol: str, status: str = "measured", **values: Any) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {"model": model, "protocol": protocol, "status": status} | values


def _write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(folder / "results.csv", index=False)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    lines = [
        _line("lm", "honest", nll=110.0),
        _line("hsr_$", "paper", nll=84.0, kl=2.0, mi=4.0, mi_ceiling=4.16),
        _line("hsr_$", "honest", nll=125.0, kl=40.0, mi=8.0, mi_ceiling=8.23, iw500_nll=121.0),
        _line("vae", "paper", nll=109.0, kl=0.01, mi=0.0, mi_ceiling=4.16),
        _line("vae", "honest", nll=111.0, kl=0.1, mi=0.05, mi_ceiling=8.23, iw500_nll=110.9),
        _line("flow", "", status="not run yet"),
        _line("HSR-VAE", "paper", status="published", nll=79.4),
    ]
    return _write(tmp_path / "study", lines)


def _points(axes: Axes, label: str) -> list[float]:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(found.get_xdata(), dtype=float).tolist()


def test_each_measured_row_has_its_figures(study: Path) -> None:
    left, right = draw_study(load_results(study)).axes

    assert [each.get_text() for each in left.get_yticklabels()] == ["lm", r"hsr_\$", "vae"]
    np.testing.assert_equal(_points(left, "paper protocol: no bound"), [np.nan, 84.0, 109.0])
    np.testing.assert_equal(_points(left, "honest: $-$ELBO"), [110.0, 125.0, 111.0])
    np.testing.assert_equal(_points(left, "honest: IW, k = 500"), [np.nan, 121.0, 110.9])
    assert _points(left, "plain language model, exact") == [110.0, 110.0]
    np.testing.assert_equal(_points(right, "MI of sentence and latent"), [np.nan, 8.0, 0.05])
    assert _points(right, "its ceiling") == [8.23, 8.23]
    np.testing.assert_equal([each.get_width() for each in right.patches], [np.nan, 40.0, 0.1])


def test_a_study_is_drawn_by_plot(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "figure.svg"

    assert plot_artifact(study, (), out) == [out]
    assert out.stat().st_size > 1000

    with pytest.raises(ArtifactError, match=r"--signal elbo: a study has no signals"):
        plot_artifact(study, ("elbo",), out)


def test_a_language_model_alone_can_be_drawn(tmp_path: Path) -> None:
    left, right = draw_study(load_results(_write(tmp_path / "study", [_line("lm", "honest", nll=110.0)]))).axes

    assert _points(left, "honest: $-$ELBO") == [110.0]
    assert "its ceiling" not in [line.get_label() for line in right.lines]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("a,b\n1,2\n", "has no column model"),
        (",".join(COLUMNS) + "\n" + "x" + "," * (len(COLUMNS) - 1) + "\n", "no row has been measured"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results.csv").write_text(content)

    with pytest.raises(ArtifactError, match=message) as caught:
        plot_artifact(tmp_path, (), tmp_path / "figure.png")
    assert "\n" not in str(caught.value) and not (tmp_path / "figure.png").exists()
