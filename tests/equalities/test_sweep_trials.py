"""Trials of a sweep in ngspice and by the nodal engine: the same devices, the same codes in each of eight dies."""

import pytest
from making import make_checkpoint, random_sentences

from hvae_mnn.experiments.sweep.bench import TrialBench
from hvae_mnn.hardware.files import load_hardware

pytestmark = [pytest.mark.ngspice, pytest.mark.usefixtures("one_thread")]

TRIALS = 8
EVERYTHING = (
    "device.sigma=0.1",
    "device.read_sigma=0.01",
    "stuck.p_lrs=0.02",
    "stuck.p_hrs=0.05",
    "amplifier.gain=1e4",
    "amplifier.offset_sigma=0.001",
    "amplifier.noise=1e-8",
    "dac.inl=0.3",
    "adc.inl=0.5",
    "array.r_wire=1",
    "array.tile_rows=7",
)
RELAXED = ("time.seconds=86400", "device.read_sigma=0.01")
PLANES = ("drive.encoding=bit-serial", "device.sigma=0.1")


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("default", EVERYTHING),
        ("rram-wan2022", RELAXED),
        ("default", PLANES),
    ],
    ids=["everything", "relaxed", "bit-serial"],
)
def test_every_die_is_the_same_in_ngspice(preset: str, overrides: tuple[str, ...]) -> None:
    checkpoint = make_checkpoint(cells=("rnn", "rnn"), decoder="gru")
    bench = TrialBench(checkpoint, random_sentences(3, seed=1, vocabulary_size=9, longest=4))
    hardware = load_hardware(preset, overrides)
    nodal = bench.measure(hardware, range(TRIALS))
    assert len({row["mu_shift"] for row in nodal}) == TRIALS
    for seed in range(TRIALS):
        spice, check = bench.measure_spice(hardware, seed, workers=1, check=True)
        assert check["values"] > 1_000
        assert check["largest_lsb"] <= 1
        assert check["equal_codes"] >= 0.999
        assert check["largest_analog"] < 1e-4
        assert spice["mu_shift"] == pytest.approx(nodal[seed]["mu_shift"], rel=0.05)
