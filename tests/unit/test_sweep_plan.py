"""Plans of sweeps: files, axes and the points that they make; what is wrong with one is said in one line."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from making import make_checkpoint
from sweeping import plan_of

from hvae_mnn.errors import HardwareError, SweepError
from hvae_mnn.experiments.sweep.plan import Axis, Study, SweepPlan, make_study, read_studies
from hvae_mnn.experiments.sweep.sentences import draw_sentences
from hvae_mnn.hardware.files import load_hardware, override_hardware

FILE = """
trials = 100
[study.programming-error]
axes = { "device.sigma" = [0, 0.02, 0.2] }
[study.wires]
axes = { "array.r_wire" = [0, "500 mohm"], "array.tile_rows,array.tile_columns" = [16, 32] }
set = ["dac.bits=7"]
trials = 5
"""


def study_of(*axes: tuple[str, str], trials: int = 3) -> Study:
    return make_study(axes, trials)


def test_a_plan_file_is_studies_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(FILE)
    plan, points = plan_of(read_studies(tmp_path / "plan.toml"))
    assert [(study.name, study.trials, study.size) for study in plan.studies] == [
        ("programming-error", 100, 3),
        ("wires", 5, 4),
    ]
    assert plan.trials == 320
    assert len(points) == 7
    assert [point.index for point in points] == [0, 1, 2, 0, 1, 2, 3]
    assert [point.hardware.device.sigma for point in points[:3]] == [0, 0.02, 0.2]
    wires = [(point.hardware.array.r_wire, point.hardware.array.tile_rows) for point in points[3:]]
    assert wires == [(0, 16), (0, 32), (0.5, 16), (0.5, 32)]  # the last axis fastest, values in SI
    assert all(point.hardware.array.tile_columns == point.hardware.array.tile_rows for point in points[3:])
    assert {point.hardware.dac.bits for point in points[3:]} == {7}
    assert {point.hardware.dac.bits for point in points[:3]} == {8}
    assert plan.studies[1].axes[0].values == (0.0, 0.5)
    assert [trials.trials for trials in read_studies(tmp_path / "plan.toml", trials=2)] == [
        2,
        5,
    ]


def test_columns_are_numbers_where_all_values_are() -> None:
    plan, _ = plan_of(
        (
            Study(name="a", axes=(Axis(key="dac.bits", values=(4, 8)), Axis(key="adc.bits", values=(4, 6)))),
            Study(name="b", axes=(Axis(key="dac.bits", values=("none", 6)),)),
            Study(name="c", axes=(Axis(key="array.compensate", values=(True, False)),)),
        )
    )
    assert plan.columns() == {"dac.bits": False, "adc.bits": True, "array.compensate": False}


def test_values_are_as_the_hardware_has_them() -> None:
    plan, points = plan_of((study_of(("device.error_model", "none, aist"), ("array.r_wire", "0,500 mohm")),))
    assert plan.studies[0].axes[0].values == ("none", "aist")
    held = [point.hardware.device.error_model for point in points]
    assert held[0] is None
    assert held[2] is not None and held[2] == load_hardware("default", ["device.error_model=aist"]).device.error_model
    assert plan.studies[0].axes[1].values == (0.0, 0.5)


def test_an_error_model_by_name_can_be_set_on_a_configuration() -> None:
    base = load_hardware("default")
    assert override_hardware(base, ["device.error_model=aist"]) == load_hardware("default", ["device.error_model=aist"])
    with pytest.raises(HardwareError, match=r'--set: device\.error_model is "nothing"; no such file or shipped model'):
        override_hardware(base, ["device.error_model=nothing"])


def test_the_base_has_the_seed_of_the_first_die_whatever_it_had() -> None:
    plan, points = plan_of((study_of(("device.sigma", "0,0.1")),), seed=7)
    assert {point.hardware.device.seed for point in points} == {7}
    assert plan.hardware.device.seed == 7


def test_a_plan_comes_back_from_its_json() -> None:
    plan, _ = plan_of(
        (study_of(("device.error_model", "none,aist"), ("array.compensate", "true,false"), ("adc.bits", "6,8")),)
    )
    again = SweepPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    assert json.dumps(again.identity()) == json.dumps(plan.identity())
    kinds = [[type(value) for value in axis.values] for axis in again.studies[0].axes]
    assert kinds == [[str, str], [bool, bool], [int, int]]


def test_the_identity_is_of_what_rows_depend_on() -> None:
    plan, _ = plan_of()
    changed = plan.model_copy(update={"yield_at": 0.5, "model": "other", "software": {"kl": 1.0}})
    assert changed.identity() == plan.identity()
    for name, value in (("seed", 1), ("sentences", (1,)), ("model_hash", "x"), ("points_hash", "x")):
        assert plan.model_copy(update={name: value}).identity() != plan.identity()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no study; expected at least one table"),
        ("trials = 3", "no study; expected at least one table"),
        ("trials = 0", "trials is 0; input should be greater than or equal to 1"),
        ("trials = true", "trials is True; input should be a valid integer"),
        ("trials = [", "not valid TOML"),
        ("trails = 3", '"trails" is not a known key; did you mean trials?; known: trials, study'),
        ("study = 3", "study is 3; expected a table"),
        ("[study.a]", "study.a.axes is missing; expected for example axes = {"),
        ("[study.a]\naxes = {}", "study.a.axes is {}; dictionary should have at least 1 item"),
        ('[study.a]\naxes = {"device.sigma" = []}', "study.a.axes.device.sigma is []; list should have at least 1"),
        ('[study.a]\naxes = {"device.sigma" = 3}', "study.a.axes.device.sigma is 3; expected a list"),
        (
            "[study.a]\naxes = {device.sigma = [0]}",
            'a key with a dot is written in quotes: axes = { "device.sigma" = [...] }',
        ),
        (
            '[study.a]\naxes = {"device.sigma" = [0]}\nset = ["array.r_wire"]',
            'study a: set has "array.r_wire"; expected for example',
        ),
        ('[study.a]\naxes = {"device.sigma" = [0]}\nset = "a.b=1"', "study.a.set is 'a.b=1'; expected a list"),
        ('[study.a]\naxes = {"device.sigma" = [[1]]}', "study.a.axes.device.sigma.0 is [1]; expected a finite"),
        (
            '[study.a]\naxes = {"device.sigma" = [nan]}',
            "study.a.axes.device.sigma.0 is nan; expected a finite number",
        ),
        ('[study.a]\naxes = {"sigma" = [1]}', '"sigma" is no SECTION.KEY; expected for example device.sigma'),
        ('[study.a]\naxes = {"device.seed" = [1]}', "device.seed is no axis: each trial is another seed"),
        ('[study.a]\naxes = {"device.sigma" = [1]}\naxis = 3', '"study.a.axis" is not a known key; did you mean axes?'),
        ('[study.a]\naxes = {"device.sigma" = [1]}\nset = ["device.seed=3"]', "device.seed cannot be set, trials are"),
        ('[study.a]\naxes = {"device.sigma" = [1]}\nset = ["device.sigma=3"]', "device.sigma cannot be set, it is an"),
        ('[study.a]\naxes = {"dac.bits" = [8], "dac.bits,adc.bits" = [8]}', "dac.bits is in more than one axis"),
        ('[study."a/b"]\naxes = {"device.sigma" = [1]}', 'study "a/b": expected a name of letters, digits, - and _'),
    ],
)
def test_a_file_that_is_malformed_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(SweepError) as caught:
        read_studies(path)
    message = str(caught.value)
    assert message.startswith(f"plan {path}: ")
    assert said in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="none: cannot be read: No such file"):
        read_studies(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SweepError, match="binary: not valid TOML"):
        read_studies(tmp_path / "binary")


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ([("device.sigma", "0,0.1"), ("array.tile_row", "8")], '"array.tile_row" is not a known key; did you mean'),
        ([("device.sigma", "0,-1")], "of study sweep, point 1 (device.sigma=-1): device.sigma is -1; input should be"),
        ([("array.scheme", "pared")], "array.scheme is 'pared'; input should be 'paired'"),
        ([("drive.v_read", "0.05,5")], "point 1 (drive.v_read=5): drive.v_read with overshoot is 5.5 V, not below"),
        ([("device.sigma", "0,0.0")], "device.sigma has 0.0 twice"),
        ([("drive.v_read", "0.05,50 mV")], "drive.v_read has 0.05 twice"),
        ([("device.error_model", "missing")], 'device.error_model is "missing"; no such file or shipped model'),
        ([("device.sigma.x", "1")], '"device.sigma.x" is not a known key'),
        ([("nothing.sigma", "1")], '"nothing" is not a known key'),
    ],
)
def test_points_that_cannot_be_are_named(axes: list[tuple[str, str]], said: str) -> None:
    with pytest.raises((HardwareError, SweepError)) as caught:
        plan_of((study_of(*axes),))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        (("device.sigma", "0,,1"), "--values 0,,1: an empty value for device.sigma"),
        (("device.sigma", ""), "--values : an empty value for device.sigma"),
        (("", "1"), '"" is no SECTION.KEY'),
        (("device.sigma,", "1"), '"" is no SECTION.KEY'),
        (("device.seed", "1"), "device.seed is no axis"),
        (("dac.bits,dac.bits", "8"), "dac.bits is in more than one axis"),
    ],
)
def test_axes_that_cannot_be(axis: tuple[str, str], said: str) -> None:
    with pytest.raises(SweepError) as caught:
        make_study([axis], 3)
    assert said in str(caught.value)


def test_two_studies_of_one_name_are_refused() -> None:
    study = study_of(("device.sigma", "0"))
    with pytest.raises(SweepError, match="study sweep is there twice"):
        plan_of((study, study))


def write_test_split(folder: Path, lines: list[str]) -> str:
    folder.mkdir()
    (folder / "made.test.txt").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_sentences_that_the_model_cannot_read_are_left_out(tmp_path: Path) -> None:
    checkpoint: Any = make_checkpoint()
    lines = ["a b", "x y z", "a " * 21, "c", "d x", "e e e"]
    drawn = draw_sentences(checkpoint, write_test_split(tmp_path / "made", lines), 10, 0)
    assert (drawn.places, drawn.left_out) == ((0, 3, 4, 5), 2)
    encode = checkpoint.vocabulary.encode
    assert drawn.ids == tuple(encode(lines[place])[0] for place in drawn.places)
    assert drawn.unknown == pytest.approx(1 / 8)
    some = draw_sentences(checkpoint, str(tmp_path / "made"), 2, 1)
    assert len(some.ids) == 2 and set(some.places) < {0, 3, 4, 5}
    assert some == draw_sentences(checkpoint, str(tmp_path / "made"), 2, 1)
    seeds = {draw_sentences(checkpoint, str(tmp_path / "made"), 2, seed).places for seed in range(20)}
    assert len(seeds) > 1


def test_a_corpus_of_foreign_words_is_refused(tmp_path: Path) -> None:
    folder = write_test_split(tmp_path / "made", ["x y", "z"])
    with pytest.raises(SweepError, match="corpus made: none of its 2 test sentences has at most 20 words of which the"):
        draw_sentences(make_checkpoint(), folder, 10, 0)


def test_the_plan_in_the_documentation_can_be_swept(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    shown = re.search(r"in TOML:\n\n((?:    .*\n|\n)+)", text)
    assert shown is not None
    (tmp_path / "plan.toml").write_text(textwrap.dedent(shown[1]))
    plan, points = plan_of(read_studies(tmp_path / "plan.toml"))
    assert [study.name for study in plan.studies] == ["programming-error", "wires", "schemes", "stuck"]
    assert len(points) == 5 + 12 + 3 + 4
