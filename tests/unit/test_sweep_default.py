"""The default study: which dies it takes, for which hardware, and which sentences."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from making import make_checkpoint

from hvae_mnn.errors import SweepError
from hvae_mnn.experiments.sweep.bench import TrialBench
from hvae_mnn.experiments.sweep.default import default_studies, estimate_seconds, is_random
from hvae_mnn.experiments.sweep.plan import SweepPlan
from hvae_mnn.experiments.sweep.sentences import choose_corpus
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware, preset_names
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.model.text.corpus import Vocabulary
from hvae_mnn.model.text.grammar import ENGLISH

RANDOM = (
    "device.sigma=0.1",
    "device.read_sigma=0.1",
    "stuck.p_hrs=0.1",
    "stuck.p_lrs=0.1",
    "amplifier.offset_sigma=1e-4",
    "amplifier.noise=1e-6",
    "dac.inl=3",
    "adc.inl=3",
)


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        *((preset, ()) for preset in preset_names()),
        *(("default", (each,)) for each in RANDOM),
        ("ideal", ("amplifier.offset_sigma=1e-4",)),
        ("default", ("array.r_wire=1", "adc.bits=4", "amplifier.offset=1e-4", "adc.offset=1")),
    ],
)
def test_what_is_random_is_what_differs_from_die_to_die(preset: str, overrides: tuple[str, ...]) -> None:
    hardware = load_hardware(preset, overrides)
    one, other = TrialBench(make_checkpoint(), [(4, 5, 6)]).measure(hardware, [0, 1])
    assert is_random(hardware) is (one != other)


def trials(hardware: HardwareConfig, wanted: int | None = None) -> dict[str, int]:
    return {study.name: study.trials for study in default_studies(make_checkpoint(), hardware, wanted)}


def test_where_nothing_is_random_one_die_says_it_all() -> None:
    one = {"wires": 1, "converter-bits": 1}
    assert trials(load_hardware("default")) == {"programming-error": 50, "amplifier-offset": 50, **one}
    assert trials(load_hardware("default"), 7) == {"programming-error": 7, "amplifier-offset": 7, **one}
    assert trials(load_hardware("ideal")) == {"programming-error": 50, **one}
    assert set(trials(load_hardware("realistic"), 7).values()) == {7}


def test_dies_that_cost_much_are_few() -> None:
    assert set(trials(load_hardware("realistic")).values()) == {10}
    wired = {"programming-error": 10, "amplifier-offset": 10, "wires": 1, "converter-bits": 1}
    assert trials(load_hardware("default", ["array.r_driver=1"])) == wired
    large = make_checkpoint(hidden=200, embedding=200)
    assert max(study.trials for study in default_studies(large, load_hardware("default"))) == 10


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_has_its_points(preset: str) -> None:
    hardware = load_hardware(preset)
    studies = default_studies(make_checkpoint(), hardware)
    named = {"program_version": "0", "model": "m", "model_hash": "", "hardware_name": preset, "corpus": "c"}
    plan = SweepPlan(**named, hardware=hardware, studies=studies, sentences=(0,), sentences_hash="")  # type: ignore[arg-type]
    settled, points = plan.settled()
    assert len(points) == sum(study.size for study in settled.studies)
    sigmas = [point.hardware.device for point in points if point.study == "programming-error"]
    assert sigmas[0].sigma == 0 and {each.error_model for each in sigmas} == {None}


class TimedBench:
    """Takes one second to compile a hardware and two a die, five where words are lost, by a clock of its own."""

    def __init__(self) -> None:
        self.now, self.compiled = 0.0, ""

    def measure(self, hardware: HardwareConfig, seeds: Sequence[int]) -> list[dict[str, float]]:
        text = hardware.model_dump_json()
        lost = max(hardware.device.sigma, hardware.amplifier.offset_sigma * 1e3) >= 0.1
        self.now += (5.0 if lost else 2.0) * len(seeds) + (text != self.compiled)
        self.compiled = text
        return [{}]


def test_the_time_is_that_of_all_dies_on_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = TimedBench()
    monkeypatch.setattr("hvae_mnn.experiments.sweep.default.time.perf_counter", lambda: bench.now)
    monkeypatch.setattr("hvae_mnn.experiments.sweep.default._START", 0.0)
    hardware = load_hardware("default")
    named = {"program_version": "0", "model": "m", "model_hash": "", "hardware_name": "d", "corpus": "c"}
    studies = default_studies(make_checkpoint(), hardware, 10)
    plan = SweepPlan(**named, hardware=hardware, studies=studies, sentences=(0,), sentences_hash="")  # type: ignore[arg-type]
    _, points = plan.settled()
    one = 13 * (10 * 3 + 1) + 14 * (2 + 1)
    assert estimate_seconds(points, bench, 0, 1) == pytest.approx(one)  # type: ignore[arg-type]
    two = 13 * (10 * 3 + 2) / 2 + 14 * (2 + 1) / 2
    assert estimate_seconds(points, bench, 0, 2) == pytest.approx(two)  # type: ignore[arg-type]


def knowing(*words: str, **provenance: str) -> Checkpoint:
    """Return a model with other words; nothing but the words counts here."""
    made = make_checkpoint()
    vocabulary = Vocabulary.from_sentences([list(words)])
    config = replace(made.config, vocabulary_size=len(vocabulary))
    changed = object.__new__(Checkpoint)
    for name, value in (("config", config), ("vocabulary", vocabulary), ("provenance", provenance)):
        object.__setattr__(changed, name, value)
    return changed


def test_sentences_are_in_the_words_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_corpus(knowing(*ENGLISH.words(), corpus="ptb")) == "grammar"
    trained = {"corpus": "ptb", "command": "hvae-mnn train --corpus 'my texts/ptb' --out m.pt"}
    with pytest.raises(SweepError, match=r"trained on ptb, whose test sentences are not here; .* --corpus FOLDER"):
        choose_corpus(knowing("a", "b", **trained))
    Path("ptb").mkdir()
    Path("ptb", "ptb.train.txt").write_text("a b\n")
    with pytest.raises(SweepError):
        choose_corpus(knowing("a", "b", **trained))
    Path("ptb", "ptb.test.txt").write_text("a b\n")
    assert choose_corpus(knowing("a", "b", **trained)) == "ptb"
    Path("my texts/ptb").mkdir(parents=True)
    Path("my texts/ptb/test.txt").write_text("a b\n")
    assert choose_corpus(knowing("a", "b", **trained)) == "my texts/ptb"
    assert choose_corpus(knowing("a", "b", corpus="ptb", command="--corpus 'ptb")) == "ptb"
    with pytest.raises(SweepError, match="a corpus of its own"):
        choose_corpus(knowing("a", "b"))
