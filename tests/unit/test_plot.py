"""Figures hold the Run's and the Build's own numbers, with units and readable names."""

import subprocess
import sys
from pathlib import Path
from typing import cast

import making
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hvae_mnn.circuit.plan import GroupPlan, LayerPlan, Tile, TilePlan
from hvae_mnn.compiler.build import Build, Manifest
from hvae_mnn.engines.base import EngineInfo, Waveform
from hvae_mnn.errors import ArtifactError
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.reports.figures.conductances import assemble_tiles, row_groups
from hvae_mnn.reports.figures.waveforms import words_read
from hvae_mnn.reports.plot import plot_artifact, plot_conductances, plot_errors, plot_run, plot_waveforms, save_figure
from hvae_mnn.simulation.run import LayerTrace, Run, Transcript, save_run

CYCLE = 4e-6
TILE = "encoder1.f.r0c0"


def make_waveform(cycles: int, whole_codes: bool = True) -> Waveform:
    rng = np.random.default_rng(cycles)
    time = np.linspace(0, cycles * CYCLE, 40 * cycles + 1)
    names = ["en", "clk", *(f"rp{j}" for j in range(5)), *(f"{n}{k}" for n in ("out", "hold") for k in range(4))]
    signals = {name: rng.uniform(-0.3, 0.3, len(time)) for name in names}
    codes = rng.uniform(-1, 1, (4, len(time)))
    signals |= {f"adc{k}": np.rint(127 * codes[k]) if whole_codes else codes[k] for k in range(4)}
    return Waveform(time, signals, CYCLE)


def make_side(*words: str) -> Transcript:
    return Transcript(words, " ".join(words), np.zeros(2), np.zeros(2), np.zeros(2))


def make_trace(name: str, steps: int, size: float) -> LayerTrace:
    rng = np.random.default_rng(steps)
    parts = [[rng.uniform(-1, 1, (1, 6)) for _ in range(steps)] for _ in range(3)]
    return LayerTrace(name, *parts, [size * rng.uniform(-1, 1, (1, 6)) for _ in range(steps)])


def make_run(waveforms: dict[str, Waveform] | None = None, size: float = 0.01) -> Run:
    return Run(
        sentence="the clock cost $ 5",
        tokens=("the", "clock", "cost", "$", "5"),
        unknown=(),
        hardware=make_side("the", "clock", "cost"),
        software=make_side("the", "clock"),
        layers=(make_trace("encoder1", 7, size), make_trace("encoder2", 7, size), make_trace("decoder", 4, size)),
        engine=EngineInfo("spice", "39.3"),
        hardware_preset="default",
        model_hash="0" * 64,
        seed=3,
        seconds=1.5,
        waveforms={TILE: make_waveform(7)} if waveforms is None else waveforms,
    )


def make_tile(place: str, inputs: tuple[int, ...], start: int, stop: int, gate: str = "f") -> Tile:
    name = f"encoder1.{gate}.{place}"
    plan = TilePlan(
        name=name,
        gate=gate,
        deck=f"decks/{place}.cir",
        inputs=inputs,
        column_start=start,
        column_stop=stop,
        weight_per_siemens=1.0,
        r_s=11e3,
        r_f=1e4,
        r_reference=None,
        full_scale=1.0,
        scale=-1.0,
        clipped_weights=2,
    )
    g = np.random.default_rng(start + len(inputs)).uniform(20e-6, 160e-6, (len(inputs), stop - start))
    return Tile(plan, g, g + 1e-6)


def make_build() -> Build:
    """Two row tiles by two column tiles of gate f, and one small gate o."""
    tiles = [
        make_tile("r0c0", (0, 1, 2), 0, 3),
        make_tile("r0c1", (0, 1, 2), 3, 5),
        make_tile("r1c0", (3, 4, -1, -1), 0, 3),
        make_tile("r1c1", (3, 4, -1, -1), 3, 5),
        make_tile("r0c0", (0, 1, -1), 0, 5, gate="o"),
    ]
    groups = (GroupPlan(name="x", size=2, x_max=1.0), GroupPlan(name="h", size=3, x_max=1.0))
    plans = tuple(tile.plan for tile in tiles)
    layer = LayerPlan(name="encoder1", cell="lstm", hidden=5, groups=groups, gates=("f", "o"), tiles=plans)
    hardware = load_hardware("default")
    manifest = Manifest(model_hash="0" * 64, hardware_name="default", hardware=hardware, layers=(layer,))
    return Build(manifest, {tile.plan.name: tile for tile in tiles}, cast(Checkpoint, None), {})


def lines_of(axis: Axes) -> dict[str, np.ndarray]:
    """Return the labelled lines of an axis: (2, points) by label."""
    return {str(line.get_label()): np.array(line.get_data()) for line in axis.lines if line.get_label()[0] != "_"}


def marks_of(axis: Axes) -> list[float]:
    """Return where the vertical lines of an axis stand."""
    return [float(line.get_xdata()[0]) for line in axis.lines if str(line.get_label())[0] == "_"]


def heads_of(axis: Axes) -> list[str]:
    """Return the words above the cycles."""
    return [label.get_text() for label in axis.child_axes[0].get_xticklabels()]


def labels_of(figure: Figure) -> list[str]:
    return [axis.get_ylabel().replace("\n", " ") for axis in figure.axes]


def test_the_default_selection_has_a_panel_a_kind_with_units():
    figure = plot_waveforms(make_run())
    expected = ["control, V", "row drive, mV", "amplifier and held value, mV", "ADC code"]
    assert labels_of(figure) == expected
    assert figure.axes[-1].get_xlabel() == "time of the tile's cycles, µs"
    assert list(lines_of(figure.axes[1])) == ["rp0", "rp2", "rp4"]
    assert list(lines_of(figure.axes[2])) == ["out0", "out1", "out3", "hold0", "hold1", "hold3"]


def test_lines_are_the_runs_arrays_in_the_units_of_the_axes():
    run = make_run()
    figure = plot_waveforms(run, [f"{TILE}.rp1", f"{TILE}.hold3", f"{TILE}.adc2"])
    waveform = run.waveforms[TILE]
    for axis, node, scale in zip(figure.axes, ("rp1", "hold3", "adc2"), (1e3, 1e3, 1), strict=True):
        time, values = lines_of(axis)[node]
        np.testing.assert_allclose(time, waveform.time * 1e6)
        np.testing.assert_allclose(values, waveform.signals[node] * scale)


def test_cycles_are_marked_and_headed_by_the_words_read():
    figure = plot_waveforms(make_run())
    for axis in figure.axes:
        np.testing.assert_allclose(marks_of(axis), [4, 8, 12, 16, 20, 24])
    assert heads_of(figure.axes[0]) == ["<sos>", "the", "clock", "cost", r"\$", "5", "<eos>"]


def test_the_decoder_reads_what_the_hardware_said():
    assert words_read(make_run(), "decoder", 4) == ["<sos>", "the", "clock", "cost"]


def test_steps_beyond_the_words_are_numbered():
    assert words_read(make_run(), "decoder", 6)[-2:] == ["<eos>", "step 6"]


def test_signals_of_two_layers_stand_under_cycle_numbers_with_their_full_names():
    run = make_run({"decoder.i.r0c0": make_waveform(4), TILE: make_waveform(7)})
    figure = plot_waveforms(run, [f"{TILE}.out0", "decoder.i.r0c0.out0"])
    assert heads_of(figure.axes[0]) == ["1", "2", "3", "4", "5", "6", "7"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    first, second = lines[f"{TILE}.out0"], lines["decoder.i.r0c0.out0"]
    assert len(second.get_xdata()) == 161
    assert first.get_color() != second.get_color()


def test_the_first_tile_is_of_the_first_layer():
    run = make_run({"decoder.i.r0c0": make_waveform(4), TILE: make_waveform(7)})
    assert len(heads_of(plot_waveforms(run).axes[0])) == 7


def test_nodes_of_a_column_share_a_colour_and_columns_do_not():
    figure = plot_waveforms(make_run(), [f"{TILE}.{node}" for node in ("out1", "hold1", "adc1", "adc2")])
    colour = {line.get_label(): line.get_color() for axis in figure.axes for line in axis.lines}
    assert colour["out1"] == colour["hold1"] == colour["adc1"] != colour["adc2"]


def test_unquantised_readings_are_parts_of_full_scale():
    run = make_run({TILE: make_waveform(2, whole_codes=False)})
    assert labels_of(plot_waveforms(run))[-1] == "ADC, parts of full scale"


def test_memristor_states_and_other_nodes_have_their_own_panels():
    waveform = make_waveform(2)
    signals = {**waveform.signals, "x0_1": waveform.time, "c3": waveform.time}
    run = make_run({TILE: Waveform(waveform.time, signals, CYCLE)})
    figure = plot_waveforms(run, [f"{TILE}.c3", f"{TILE}.x0_1"])
    assert labels_of(figure) == ["memristor state", "other nodes, V"]


def test_a_tile_of_which_only_other_nodes_were_kept_shows_those():
    waveform = make_waveform(2)
    kept = {f"x{j}_1": waveform.time for j in (10, 2, 0, 1)}
    figure = plot_waveforms(make_run({TILE: Waveform(waveform.time, kept, CYCLE)}))
    (legend,) = [axis.get_legend() for axis in figure.axes]
    assert [text.get_text() for text in legend.get_texts()] == ["x0_1", "x1_1", "x10_1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{TILE}.oot3", rf"signal {TILE}.oot3: no such node; did you mean {TILE}.out3\?; .* has 19, such as adc0, "),
        ("encoder1.f.r0c1.out3", rf"no waveforms of that tile in the run; did you mean {TILE}\?; .* tiles are {TILE}"),
        ("out3", rf"signal out3: no waveforms of that tile in the run; expected TILE.NODE, tiles are {TILE}"),
    ],
)
def test_an_unknown_signal_is_refused(name, message):
    with pytest.raises(ArtifactError, match=message):
        plot_waveforms(make_run(), [name])


def test_a_run_without_waveforms_says_how_to_get_them():
    with pytest.raises(ArtifactError, match=rf"{TILE}.out3: the run has no waveforms; .*simulate --waveforms TILE"):
        plot_waveforms(make_run({}), [f"{TILE}.out3"])


def test_errors_are_the_traces_in_percent():
    run = make_run()
    figure = plot_errors(run)
    assert [axis.get_title().split(":")[0] for axis in figure.axes] == ["encoder1", "encoder2", "decoder"]
    assert figure.axes[0].get_ylabel() == "read error,\n% of ADC full scale"
    for axis, layer in zip(figure.axes, run.layers, strict=True):
        lines = lines_of(axis)
        np.testing.assert_allclose(lines["rms of all columns"][1], 100 * layer.rms_by_step())
        largest = [100 * np.abs(step).max() for step in layer.error]
        np.testing.assert_allclose(lines["largest of all columns"][1], largest)
    assert [t.get_text() for t in figure.axes[2].get_xticklabels()] == ["<sos>", "the", "clock", "cost"]


def test_the_title_names_sentences_engine_and_preset():
    title = plot_errors(make_run()).get_suptitle()
    expected = "sentence: the clock cost \\$ 5\nhardware: the clock cost\nngspice 39.3, hardware preset default, seed 3"
    assert title == expected


@pytest.mark.parametrize(("size", "unit"), [(1e-6, "ppm"), (1e-10, "1e-12"), (0.0, "%")])
def test_small_errors_get_a_small_unit(size, unit):
    figure = plot_errors(make_run(size=size))
    assert figure.axes[0].get_ylabel() == f"read error,\n{unit} of ADC full scale"


def test_a_run_is_waveforms_over_errors_and_without_waveforms_errors_alone():
    assert len(plot_run(make_run()).axes) == 7
    assert len(plot_run(make_run({})).axes) == 3


def test_a_gate_is_its_tiles_put_together():
    build = make_build()
    tiles = {name.rpartition(".")[2]: tile.g for name, tile in build.tiles.items() if ".f." in name}
    figure = plot_conductances(build, "encoder1.f")
    shown = figure.axes[0].images[0].get_array() / 1e6
    assert shown.shape == (7, 5)
    np.testing.assert_allclose(shown[:3, :3], tiles["r0c0"])
    np.testing.assert_allclose(shown[:3, 3:], tiles["r0c1"])
    np.testing.assert_allclose(shown[3:, :3], tiles["r1c0"])
    np.testing.assert_allclose(shown[3:, 3:], tiles["r1c1"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["x", "h", "bias"]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0", "4"]
    assert figure.get_suptitle() == "encoder1.f: 7 x 5 memristors, 8 weights clipped; hardware default, paired"


def test_a_tile_is_shown_with_its_own_columns_and_the_range_of_the_hardware():
    figure = plot_conductances(make_build(), "encoder1.f.r1c1")
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array() / 1e6, make_build().tiles["encoder1.f.r1c1"].g)
    np.testing.assert_allclose(image.get_clim(), (10.1, 168))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["3", "4"]
    assert "programmed conductance, µS" in [axis.get_xlabel() for axis in figure.axes]


def test_a_whole_build_shows_every_gate():
    titles = [axis.get_title() for axis in plot_conductances(make_build()).axes]
    assert titles[:3] == ["encoder1.f", "encoder1.o", "encoder1, all gates"]


def test_a_compiled_build_is_drawn_whole_and_by_gate(tmp_path):
    overrides = ["array.tile_rows=7", "array.tile_columns=4"]
    build = making.make_build(tmp_path / "build", overrides=overrides, cells=("gru", "rnn"))
    titles = {axis.get_title() for axis in plot_conductances(build).axes}
    gates = {f"{layer.name}.{gate}": layer for layer in build.manifest.layers for gate in layer.gates}
    assert set(gates) <= titles
    for gate in ("encoder1.n_x", "encoder1.n_h", "encoder2.h"):
        layer = gates[gate]
        image = plot_conductances(build, gate).axes[0].images[0].get_array() / 1e6
        rows = {tile.name.rpartition("c")[0]: tile.rows for tile in layer.tiles if f"{layer.name}.{tile.gate}" == gate}
        assert image.shape == (sum(rows.values()), layer.hidden)
        np.testing.assert_allclose(image[0, 0], build.tiles[f"{gate}.r0c0"].g[0, 0])
    out = tmp_path / "a.png"
    assert plot_artifact(tmp_path / "build", [], out) == [out]
    assert out.read_bytes().startswith(b"\x89PNG")


def test_row_groups_follow_the_inputs():
    build = make_build()
    layer = build.manifest.layers[0]
    inputs = assemble_tiles([build.tiles["encoder1.o.r0c0"]])[1]
    assert row_groups(layer, inputs) == [("x", 0, 2), ("bias", 2, 3)]


def test_an_unknown_tile_is_refused():
    with pytest.raises(
        ArtifactError, match=r"encoder1.g: no such tile or gate .* did you mean encoder1.\w\?; expected"
    ):
        plot_conductances(make_build(), "encoder1.g")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_saved_run_is_drawn_with_the_same_bytes_twice(tmp_path, suffix):
    save_run(make_run(), tmp_path / "run")
    files = [tmp_path / f"{i}" / f"figure.{suffix}" for i in (1, 2)]
    for file in files:
        assert plot_artifact(tmp_path / "run", [f"{TILE}.out3"], file) == [file]
        assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(("name", "found"), [("a.gif", "suffix .gif"), ("a", "no suffix")])
def test_a_format_that_cannot_be_written_is_refused_first(tmp_path, name, found):
    with pytest.raises(ArtifactError, match=rf"{found}; expected a figure ending in .png, .pdf, .svg"):
        plot_artifact(tmp_path / "missing", [], tmp_path / name)


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no run \(run.json\), build .*, programming .*, sweep .* or study"):
        plot_artifact(tmp_path, [], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ArtifactError, match=r"a.png: cannot be written: Is a directory; choose another --out"):
        save_figure(plot_errors(make_run()), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_build_takes_one_name(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"--signal: 2 names for a build; expected one, a TILE or LAYER.GATE"):
        plot_artifact(tmp_path, ["encoder1.f", "encoder1.i"], tmp_path / "a.png")


def test_importing_plot_loads_neither_pyplot_nor_torch_nor_pandas():
    code = (
        "import sys, hvae_mnn.reports.plot; print({'matplotlib.pyplot', 'torch', 'pandas', 'dask'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "set()", done.stderr
