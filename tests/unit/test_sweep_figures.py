"""Figures of a sweep hold its rows: dies, medians, intervals, maps, places and names."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure
from sweeping import plan_of
from test_sweep_summary import SIGMA, make_plan, make_rows

from hvae_mnn.errors import ArtifactError
from hvae_mnn.experiments.sweep import store
from hvae_mnn.experiments.sweep.metrics import METRICS
from hvae_mnn.experiments.sweep.plan import make_study
from hvae_mnn.experiments.sweep.statistics import median_ranks, share_interval
from hvae_mnn.experiments.sweep.store import make_row
from hvae_mnn.reports.figures.sweep_axes import choose_scale, find_unit, format_number, place_axis
from hvae_mnn.reports.figures.sweeps import draw_studies, plot_sweep, save_sweep_figures

SIGMAS = (0.0, 0.02, 0.05, 0.1)


@dataclasses.dataclass
class FakeSweep:
    plan: Any
    rows: pd.DataFrame


def falling(points: int, dies: int, seed: int = 0) -> np.ndarray:
    """Return shares that fall from point to point, each die its own way: (points, dies)."""
    slopes = np.random.default_rng(seed).uniform(0.05, 0.3, dies)
    return np.clip(1 - slopes * np.arange(points)[:, None], 0, 1)


def make_sweep(*studies: tuple[str, dict[str, Any]], **columns: Any) -> FakeSweep:
    plan = make_plan(*studies)
    return FakeSweep(plan, make_rows(plan, **columns))


def one_axis(values: Sequence[Any] = SIGMAS, dies: int = 9, key: str = SIGMA, **columns: Any) -> FakeSweep:
    table = falling(len(values), dies)
    return make_sweep(("study", {key: values}), **({"agreement_free": table} | columns))


def figure_of(sweep: FakeSweep, *names: str) -> Figure:
    (figure,) = plot_sweep(sweep, names).values()
    return figure


def panel_of(sweep: FakeSweep, name: str) -> Axes:
    return figure_of(sweep, name).axes[0]


def line_of(axis: Axes, label: str) -> np.ndarray:
    """Return the points of a labelled line: (2, points)."""
    (line,) = [line for line in axis.lines if line.get_label() == label]
    return np.array(line.get_data(), dtype=float)


def band_of(axis: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper ends of a band at each x."""
    (band,) = [each for each in axis.collections if isinstance(each, PolyCollection) and each.get_label() == label]
    corners = band.get_paths()[0].vertices
    x = np.unique(corners[:, 0])
    sides = [corners[corners[:, 0] == each, 1] for each in x]
    return np.array([side.min() for side in sides]), np.array([side.max() for side in sides])


def mesh_of(axis: Axes) -> np.ma.MaskedArray:
    (mesh,) = [each for each in axis.collections if isinstance(each, QuadMesh)]
    return mesh.get_array()


def names_of(axis: Axes, side: str = "x") -> list[str]:
    return [label.get_text() for label in (axis.get_xticklabels() if side == "x" else axis.get_yticklabels())]


def test_a_panel_has_the_median_its_interval_and_every_die() -> None:
    sweep = one_axis()
    axis, values = panel_of(sweep, "agreement_free"), 100 * falling(4, 9)
    x, middle = line_of(axis, "median")
    np.testing.assert_allclose(x, SIGMAS)
    np.testing.assert_allclose(middle, np.median(values, axis=1))
    ordered, (first, last) = np.sort(values, axis=1), median_ranks(9)
    low, high = band_of(axis, "_95 % interval")
    np.testing.assert_allclose(low, ordered[:, first])
    np.testing.assert_allclose(high, ordered[:, last])
    (dies,) = [each for each in axis.collections if isinstance(each, LineCollection)]
    np.testing.assert_allclose([line[:, 1] for line in dies.get_segments()], values.T)
    np.testing.assert_allclose([line[:, 0] for line in dies.get_segments()], np.tile(SIGMAS, (9, 1)))
    assert axis.get_xlabel() == SIGMA
    assert axis.get_ylabel().replace("\n", " ") == "words equal to software, free-running, %"


def test_many_dies_are_their_5_to_95_percent_range() -> None:
    values = falling(4, 300)
    axis = panel_of(one_axis(dies=300), "agreement_free")
    assert not any(isinstance(each, LineCollection) for each in axis.collections)
    low, high = band_of(axis, "_5 to 95 % of dies")
    np.testing.assert_allclose(low, 100 * np.quantile(values, 0.05, axis=1))
    np.testing.assert_allclose(high, 100 * np.quantile(values, 0.95, axis=1))


def test_the_yield_is_the_share_of_good_dies_with_wilsons_interval() -> None:
    axis = panel_of(one_axis(), "yield")
    good = (falling(4, 9) >= 0.9 - 1e-9).sum(axis=1)
    assert 0 < good[1] < 9
    np.testing.assert_allclose(line_of(axis, "median")[1], 100 * good / 9)
    np.testing.assert_allclose(np.array(band_of(axis, "_95 % interval")).T, [
        100 * np.array(share_interval(int(count), 9)) for count in good
    ], atol=1e-9)  # fmt: skip


def test_the_software_is_a_line_across_and_within_sight() -> None:
    axis = panel_of(one_axis(elbo=50 + falling(4, 9)), "elbo")
    assert (line_of(axis, "software")[1] == 40.3).all()
    assert axis.get_ylim()[0] < 40.3
    assert axis.get_ylabel().replace("\n", " ") == "NLL on hardware, ELBO, nats"


def test_the_usual_panels_are_drawn_and_only_the_lowest_name_their_values() -> None:
    figure = figure_of(one_axis())
    labels = [axis.get_ylabel().replace("\n", " ").split(",")[0] for axis in figure.axes]
    assert labels == [
        "words equal to software", "words equal to software", "yield", "NLL on hardware",
        "KL of hardware's posterior from software's", "rms read error",
    ]  # fmt: skip
    assert [axis.get_xlabel() for axis in figure.axes] == [""] * 3 + [SIGMA] * 3
    assert figure.get_suptitle() == "study: 9 dies a point, 3 sentences of grammar; hardware realistic"
    assert figure.get_figwidth() == 7.2 and figure_of(one_axis(), "elbo").get_figwidth() == 3.5


def test_the_layers_read_errors_share_a_panel_in_percent_of_full_scale() -> None:
    tables = {f"rms_{layer}": (i + 1) * falling(4, 9) for i, layer in enumerate(("encoder1", "encoder2", "decoder"))}
    axis = panel_of(one_axis(**tables), "rms")
    for i, layer in enumerate(("encoder1", "encoder2", "decoder")):
        expected = 100 * (i + 1) * np.median(falling(4, 9), axis=1)
        np.testing.assert_allclose(line_of(axis, layer)[1], expected)
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["encoder1", "encoder2", "decoder"]


def test_the_place_of_the_first_10_percent_is_marked_in_the_axis_unit() -> None:
    means = np.array([[1.0] * 4, [0.8] * 4])
    axis = panel_of(one_axis((20e-6, 60e-6), key="array.g_max", agreement_free=means), "agreement_free")
    assert axis.get_xlabel() == "array.g_max, µS"
    assert line_of(axis, "loss")[0] == pytest.approx([40, 40])
    assert not any(line.get_label() == "loss" for line in panel_of(one_axis(), "elbo").lines)


def test_choices_stand_side_by_side_with_each_die_in_its_place() -> None:
    values = ("paired", "reference-column", "differential")
    axis, table = panel_of(one_axis(values, key="array.scheme"), "agreement_free"), 100 * falling(3, 9)
    assert [name.replace("\n", "") for name in names_of(axis)] == list(values)
    x, y = line_of(axis, "dies")
    np.testing.assert_allclose(y.reshape(3, 9), table)
    places = x.reshape(3, 9) - np.arange(3)[:, None]
    np.testing.assert_allclose(places, np.tile(places[0], (3, 1)))  # a die is as far aside at every choice
    assert np.abs(places).max() < 0.2 and len(np.unique(places[0])) == 9
    (bars,) = axis.containers
    data, _, (spans,) = bars.lines
    np.testing.assert_allclose(data.get_ydata(), np.median(table, axis=1))
    ordered, (first, last) = np.sort(table, axis=1), median_ranks(9)
    np.testing.assert_allclose([span[:, 1] for span in spans.get_segments()], ordered[:, [first, last]])


@pytest.mark.parametrize(
    ("values", "names"), [((0.05,), ["0.05"]), ((4, 8, "none"), ["4", "8", "none"]), ((True, False), ["true", "false"])]
)
def test_one_value_and_values_that_are_not_all_numbers_are_choices(values: Any, names: list[str]) -> None:
    assert names_of(panel_of(one_axis(values, key="adc.bits"), "agreement_free")) == names


def test_values_that_are_not_finite_are_left_out_and_told() -> None:
    elbo = 40 + falling(4, 9)
    elbo[2, :3], elbo[3] = np.inf, np.nan
    axis = panel_of(one_axis(elbo=elbo), "elbo")
    assert line_of(axis, "median")[1][2] == np.median(elbo[2, 3:])
    assert np.isnan(line_of(axis, "median")[1][3])
    assert [text.get_text() for text in axis.texts] == ["12 not finite"]


def test_a_die_far_from_all_others_gets_no_room_and_is_told() -> None:
    elbo = 40 + falling(4, 60)
    elbo[3, 0] = 1e9
    axis = panel_of(one_axis(dies=60, elbo=elbo), "elbo")
    assert axis.get_ylim()[1] < 50
    assert [text.get_text() for text in axis.texts] == ["1 outside"]


def test_shares_that_are_all_equal_stand_below_the_top_of_their_axis() -> None:
    axis = panel_of(one_axis(agreement_free=np.ones((4, 3))), "agreement_free")
    low, high = axis.get_ylim()
    assert low < 96 and 100 < high < 101
    assert max(axis.get_yticks()) == 100


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.1, 1, 2), "linear"), ((0.1, 1, 10), "log"), ((0, 0.1, 1, 10), "symlog"), ((0, 1, 10), "linear"),
        ((-1, 1, 100), "linear"), ((5, 5), "linear"), ((0.0,), "linear"),
    ],
)  # fmt: skip
def test_values_over_decades_get_a_logarithmic_axis(values: tuple[float, ...], scale: str) -> None:
    assert choose_scale(np.array(values, dtype=float)) == scale


def test_zero_among_decades_is_drawn_apart_and_named() -> None:
    axis = panel_of(one_axis((0.0, 0.01, 0.1, 1.0, 10.0), key="array.r_wire"), "agreement_free")
    assert axis.get_xscale() == "symlog" and axis.get_xlabel() == "array.r_wire, Ω"
    assert names_of(axis) == ["0", "0.01", "0.1", "1", "10"]
    at = axis.transData.transform([(x, 0) for x in (0.0, 0.01, 0.1, 1.0, 10.0)])[:, 0]
    assert (np.diff(at) > 0.1 * (at[-1] - at[0])).all()


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("array.r_wire", "Ω"), ("array.g_max", "S"), ("device.sigma", ""), ("time.seconds", "s"), ("adc.bits", ""),
        ("amplifier.offset", "V"), ("amplifier.noise", "V/√Hz"), ("adc.offset", "LSB"), ("dac.inl", "LSB"),
        ("memristor.r_on", "Ω"), ("programming.v_set", "V"), ("amplifier.gain_bandwidth", "Hz"),
        ("array.tile_rows,array.tile_columns", ""), ("no.such", ""),
    ],
)  # fmt: skip
def test_keys_have_the_units_of_the_hardware(key: str, unit: str) -> None:
    assert find_unit(key) == unit


def place(key: str, *values: Any) -> Any:
    return place_axis(SimpleNamespace(key=key, values=values))


def test_small_and_large_values_get_a_prefix_and_keys_that_move_together_are_both_named() -> None:
    small = place("amplifier.offset_sigma", 0.0, 1e-3, 2e-3)
    assert small.label == "amplifier.offset_sigma, mV" and small.names == ("0", "1", "2")
    large = place("amplifier.gain_bandwidth", 1e6, 1e7)
    assert large.label == "amplifier.gain_bandwidth, MHz" and large.names == ("1", "10")
    assert place("device.sigma", 0.001, 0.002).names == ("0.001", "0.002")
    assert place("array.tile_rows,array.tile_columns", 32, 64).label == "array.tile_rows = array.tile_columns"
    assert [format_number(value) for value in (0.05, 128, 1e6, 3e7)] == ["0.05", "128", "$10^{6}$", r"$3\times10^{7}$"]


def test_names_of_crowded_values_do_not_touch() -> None:
    for values in ((0.0, 0.001, 0.002, 0.05, 0.1, 0.2), tuple(np.linspace(0, 0.2, 30)), (1.0, 1e2, 1e4, 1e6, 3e7)):
        figure = figure_of(one_axis(values))
        figure.draw_without_rendering()
        for axis in figure.axes[3:]:
            boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
            assert len(boxes) >= 3
            assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


GRID = {SIGMA: (0.0, 0.1), "array.r_wire": (0.0, 1.0, 5.0)}


def test_a_grid_is_a_map_of_means_with_its_numbers_beside_the_yield() -> None:
    values = falling(6, 5)
    figure = figure_of(make_sweep(("grid", GRID), agreement_free=values))
    left, right = figure.axes[:2]
    np.testing.assert_allclose(mesh_of(left), 100 * values.mean(axis=1).reshape(2, 3))
    np.testing.assert_allclose(mesh_of(right), 100 * (values >= 0.9 - 1e-9).mean(axis=1).reshape(2, 3))
    assert (names_of(left), names_of(left, "y")) == (["0", "1", "5"], ["0", "0.1"])
    assert (left.get_xlabel(), left.get_ylabel()) == ("array.r_wire, Ω", SIGMA)
    shown = {(text.get_position()): float(text.get_text()) for text in left.texts}
    for (row, column), value in np.ndenumerate(mesh_of(left)):
        assert shown[column, row] == pytest.approx(value, abs=0.051)
    bars = [axis.get_xlabel() for axis in figure.axes[2:]]
    assert bars == ["mean words equal to software, free-running, %", "yield, % of dies"]


def contours_of(axis: Axes) -> list[float]:
    return [float(each.levels[0]) for each in axis.collections if hasattr(each, "levels")]


def test_contours_are_where_10_percent_is_lost_and_at_what_the_yield_asks() -> None:
    means = np.array([1.0, 0.7, 0.4, 0.8, 0.5, 0.2])[:, None].repeat(3, axis=1)
    sweep = make_sweep(("grid", GRID), agreement_free=means)
    assert contours_of(figure_of(sweep).axes[0]) == pytest.approx([90])  # both are the same: one is drawn
    sweep.plan.yield_at = 0.5
    assert contours_of(figure_of(sweep).axes[0]) == pytest.approx([50, 90])
    assert contours_of(figure_of(sweep).axes[1]) == []
    choices = {"array.scheme": ("paired", "differential"), "array.r_wire": (0.0, 1.0, 5.0)}
    assert contours_of(figure_of(make_sweep(("grid", choices), agreement_free=means)).axes[0]) == []


def test_cells_without_a_value_are_grey_and_say_none() -> None:
    elbo = 40 + falling(6, 5)
    elbo[4] = np.inf
    axis = figure_of(make_sweep(("grid", GRID), elbo=elbo), "elbo").axes[0]
    assert mesh_of(axis).mask.ravel().tolist() == [False] * 4 + [True, False]
    assert [text.get_text() for text in axis.texts].count("none") == 1


def test_large_maps_have_no_numbers() -> None:
    axes = {SIGMA: tuple(np.linspace(0, 0.2, 9)), "array.r_wire": (0.0, 1.0)}
    assert not list(figure_of(make_sweep(("grid", axes), agreement_free=falling(18, 2))).axes[0].texts)


def test_a_third_axis_is_small_multiples_and_what_is_left_out_is_told() -> None:
    axes = {SIGMA: (0.0, 0.1), "array.r_wire": (0.0, 1.0, 5.0), "adc.bits": (4, 5, 6, 7, 8, 9, 10), "dac.bits": (6, 8)}
    values = np.random.default_rng(0).uniform(size=(2 * 3 * 7 * 2, 3))
    figure = figure_of(make_sweep(("grid", axes), agreement_free=values))
    cube = 100 * values.mean(axis=1).reshape(2, 3, 7, 2)
    for i, axis in enumerate(figure.axes[:6]):
        np.testing.assert_allclose(mesh_of(axis), cube[:, :, i, 0])
        assert axis.get_title() == f"adc.bits: {4 + i}"
    assert len({tuple(axis.collections[0].get_clim()) for axis in figure.axes[:6]}) == 1
    title = " ".join(figure.get_suptitle().split())
    assert "not drawn: adc.bits beyond its first 6 of 7 values; dac.bits other than 6; the metric yield" in title


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(
        ArtifactError, match=r"signal elbow: no such metric of a sweep; did you mean elbo\?; .* yield, "
    ):
        plot_sweep(one_axis(), ["elbow"])


def test_a_metric_is_drawn_once_and_many_in_rows_of_three() -> None:
    figure = figure_of(one_axis(), "elbo", "kl", "elbo", "whole", "z_shift")
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 4
    figure = figure_of(one_axis(), "elbo", "kl", "whole", "z_shift", "mu_shift")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_xlabel() for axis in shown] == ["", "", SIGMA, SIGMA, SIGMA]


def test_each_study_has_its_file_and_one_study_the_name_alone(tmp_path: Path) -> None:
    two = make_sweep(("wires", {"array.r_wire": (0.0, 1.0)}), ("noise", {SIGMA: (0.0, 0.1)}))
    assert [path.name for path in draw_studies(two, tmp_path)] == ["figure-wires.png", "figure-noise.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure-noise.png", "figure-wires.png"]
    out = tmp_path / "a.pdf"
    assert save_sweep_figures(one_axis(), ["elbo"], out) == [out]
    assert out.read_bytes().startswith(b"%PDF")


def test_a_study_without_a_trial_is_left_out_and_a_sweep_without_any_is_refused(tmp_path: Path) -> None:
    two = make_sweep(("wires", {"array.r_wire": (0.0, 1.0)}), ("noise", {SIGMA: (0.0, 0.1)}))
    two.rows = two.rows[two.rows["study"] == "noise"]
    assert list(plot_sweep(two)) == ["noise"]
    two.rows = two.rows[:0]
    with pytest.raises(ArtifactError, match="the sweep has no trial yet; expected at least one"):
        save_sweep_figures(two, [], tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_sweep_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    table = falling(4, 9)
    files = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for i, file in enumerate(files):
        sweep = one_axis(agreement_free=table)
        sweep.rows = sweep.rows.sample(frac=1, random_state=i)
        save_sweep_figures(sweep, ["agreement_free", "yield"], file)
    assert files[0].read_bytes() == files[1].read_bytes()


EVERY_KIND: dict[str, tuple[dict[str, Any], int]] = {
    "lines": ({SIGMA: SIGMAS}, 100),
    "decades": ({"array.r_wire": (0.0, *np.geomspace(0.01, 20, 19))}, 30),
    "choices": ({"array.scheme": ("paired", "reference-column", "differential")}, 30),
    "one point": ({SIGMA: (0.05,)}, 30),
    "one die": ({SIGMA: SIGMAS}, 1),
    "map": (GRID, 5),
    "map of choices": ({"array.scheme": ("paired", "differential"), "drive.encoding": ("amplitude", "bit-serial")}, 5),
    "maps": ({**GRID, "adc.bits": (4, 6, 8)}, 3),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_texts_are_inside_the_figure_apart_and_large_enough(kind: str) -> None:
    axes, dies = EVERY_KIND[kind]
    size = int(np.prod([len(values) for values in axes.values()]))
    table = falling(size, dies) ** 0.5
    figure = figure_of(make_sweep(("study", axes), agreement_free=table, elbo=60 - 10 * table, kl_shift=1.1 - table))
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    titles = [figure._suptitle, *(axis.title for axis in figure.axes)]
    labels = [each for axis in figure.axes for each in (axis.xaxis.label, axis.yaxis.label)]
    ticks = [each for axis in figure.axes if axis.get_visible() for each in axis.get_xticklabels()]
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    texts = [text for text in (*titles, *labels, *ticks, *legends) if text is not None and text.get_text()]
    boxes = []
    for text in texts:
        box = text.get_window_extent()
        assert text.get_fontsize() >= 7
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text.get_text()
        if not text.get_rotation() % 90:  # the box of a slanted text is larger than the text
            boxes.append((text.get_text(), box.shrunk(0.98, 0.9)))
    for i, (name, box) in enumerate(boxes):
        assert not [other for other, its in boxes[i + 1 :] if box.overlaps(its)], name


@pytest.mark.parametrize("kind", ["lines", "choices", "map", "maps"])
def test_hardware_so_broken_that_nothing_is_finite_is_drawn(kind: str, tmp_path: Path) -> None:
    axes, _ = EVERY_KIND[kind]
    gone = np.full((int(np.prod([len(values) for values in axes.values()])), 2), np.nan)
    sweep = make_sweep(("study", axes), agreement_free=gone, elbo=np.full_like(gone, np.inf), rms_decoder=gone)
    for names in ([], ["elbo"], ["rms"]):
        save_sweep_figures(sweep, names, tmp_path / "a.png")


def test_a_users_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    save_sweep_figures(one_axis(), ["elbo"], tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        save_sweep_figures(one_axis(), ["elbo"], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_saved_sweep_is_plotted_by_study_without_loading_torch_or_dask(tmp_path: Path) -> None:
    studies = (make_study((("array.r_wire", "0,1"),), 3), make_study((("array.scheme", "paired,differential"),), 2))
    names = ("wires", "way")
    plan, points = plan_of(tuple(s.model_copy(update={"name": n}) for s, n in zip(studies, names, strict=True)))
    rows = [
        make_row(plan, point, trial, {metric.name: 0.5 + 0.1 * trial for metric in METRICS}, "nodal")
        for point in points
        for trial in range(point.trials)
    ]
    store.save_sweep(plan, pa.Table.from_pylist(rows, schema=store.row_schema(plan)), None, tmp_path / "sweep")
    code = (
        "import sys; from pathlib import Path; from hvae_mnn.reports.plot import plot_artifact\n"
        f"files = plot_artifact(Path({str(tmp_path / 'sweep')!r}), ['elbo'], Path({str(tmp_path / 'a.png')!r}))\n"
        "print([file.name for file in files], {'torch', 'dask', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "['a-wires.png', 'a-way.png'] set()", done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a-way.png", "a-wires.png"]
