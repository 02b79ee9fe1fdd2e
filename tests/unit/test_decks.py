"""Decks as text: golden decks of a 2 x 3 tile, names, libraries and analyses.

`HVAE_MNN_GOLDEN=write pytest tests/unit/test_decks.py` writes `tests/golden/*.cir` anew; read the
difference before keeping it.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from hvae_mnn.circuit.plan import GroupPlan, LayerPlan, Tile, TilePlan
from hvae_mnn.circuit.spice.tile_deck import format_deck, library_names
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware

HOLD = "sample_hold r_switch=1000 c_hold=1e-12"
GOLDEN = Path(__file__).parent.parent / "golden"
PAIRED_DYNAMIC = ("array.memristor=dynamic",)
REFERENCE = ("array.scheme=reference-column",)
ERRORS = (
    "dac.offset=0.25",
    "dac.inl=0.5",
    "dac.settling=5 ns",
    "adc.gain_error=0.02",
    "adc.inl=1",
    "amplifier.offset_sigma=1 mV",
)
CASES = {
    "paired": ("default", ()),
    "reference_column": ("default", REFERENCE),
    "paired_ideal": ("ideal", ()),
    "paired_dynamic": ("default", PAIRED_DYNAMIC),
    "reference_column_dynamic": ("ideal", (*REFERENCE, *PAIRED_DYNAMIC)),
    "pulse_width": ("pulse-width", ()),
    "pulse_width_ideal_reference_column": ("ideal", (*REFERENCE, "drive.encoding=pulse-width")),
    "bit_serial_errors": ("bit-serial", ERRORS),
}


def make_deck(preset: str, overrides: tuple[str, ...]) -> tuple[str, HardwareConfig]:
    """Return the deck of a tile of 2 rows (input 1 and a bias) and 3 columns (hidden units 4 to 6)."""
    config = load_hardware(preset, overrides)
    plan = TilePlan(
        name="encoder2.g.r1c2",
        gate="g",
        deck="decks/encoder2/g/r1c2.cir",
        inputs=(1, -1),
        column_start=4,
        column_stop=7,
        weight_per_siemens=25000.0,
        r_s=12500.0,
        r_f=8000.0,
        r_reference=6250.0 if config.array.scheme == "reference-column" else None,
        full_scale=3.5,
        scale=3.5 if config.array.scheme == "reference-column" else -3.5,
        clipped_weights=0,
    )
    g = 1 / np.array([[20e3, 50e3, 80e3], [25e3, 40e3, 64e3]])
    groups = (GroupPlan(name="x", size=2, x_max=1.0), GroupPlan(name="h", size=9, x_max=1.0))
    layer = LayerPlan(name="encoder2", cell="lstm", hidden=9, groups=groups, gates=("g",), tiles=(plan,))
    inputs = np.array([0.9, -0.25, *[0.0] * 9])
    return format_deck(Tile(plan, g, g), layer, config, inputs), config


def normalise(text: str) -> list[str]:
    """Return lines with single spaces, without empty ones."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", CASES)
def test_golden_deck(name: str) -> None:
    text, _ = make_deck(*CASES[name])
    path = GOLDEN / f"{name}.cir"
    if os.environ.get("HVAE_MNN_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert normalise(text) == normalise(path.read_text(encoding="utf-8"))


def lines_named(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_codes_are_those_of_the_vector_and_full_scale_for_the_bias() -> None:
    """-0.25 of full scale is code floor(-31.75 + 0.5) = -32 of 127."""
    text, _ = make_deck("default", ())
    assert lines_named(text, "Vcode") == ["Vcode_0 code0 0 -32", "Vcode_1 code1 0 127"]
    ideal, _ = make_deck("ideal", ())
    assert lines_named(ideal, "Vcode") == ["Vcode_0 code0 0 -0.25", "Vcode_1 code1 0 1"]


def values(text: str, name: str) -> dict[str, tuple[str, str, float]]:
    parts = [line.split() for line in lines_named(text, name)]
    return {part[0]: (part[1], part[2], ohm(part[3])) for part in parts}


def ohm(value: str) -> float:
    """Return a resistance: a number, or the law of a cell, 5k x + 100k (1 - x), at its state."""
    if not value.startswith("{"):
        return float(value)
    x = float(value.removeprefix("{aist(").removesuffix(")}"))
    return 5e3 * x + 100e3 * (1 - x)


def test_paired_crosspoints() -> None:
    text, _ = make_deck("default", ())
    memristors, fixed = values(text, "Rm_"), values(text, "Rs_")
    assert set(memristors) == {f"Rm_{j}_{k}" for j in range(2) for k in range(3)}
    assert memristors["Rm_0_2"] == ("rn0", "c2", pytest.approx(80e3, rel=1e-15))
    assert memristors["Rm_1_0"] == ("rn1", "c0", pytest.approx(25e3, rel=1e-15))
    assert fixed["Rs_1_2"] == ("rp1", "c2", 12500)
    assert len(fixed) == 6


def test_reference_column() -> None:
    text, _ = make_deck("default", REFERENCE)
    assert values(text, "Rm_")["Rm_1_0"] == ("rp1", "c0", pytest.approx(25e3, rel=1e-15))
    assert values(text, "Rs_") == {"Rs_0": ("rp0", "cref", 12500), "Rs_1": ("rp1", "cref", 12500)}
    assert values(text, "Rref_") == {f"Rref_{k}": ("ref", f"c{k}", 6250) for k in range(3)}
    assert len(lines_named(text, "Xref cref ref transimpedance r_f=6250 gain=1000000")) == 1


def test_read_noise_is_a_source_between_amplifier_and_sample_and_hold() -> None:
    """Nothing else changes; without it there is none."""
    plain, noisy = (make_deck("default", each)[0].splitlines() for each in ((), ("device.read_sigma=0.01",)))
    added = [line for line in noisy if line not in plain]
    assert added[0].startswith("* read noise: vread_<column>")
    assert added[1:] == [
        line for k in range(3) for line in (f"Vread_{k} noisy{k} out{k} 0", f"Xhold_{k} noisy{k} hold{k} clk {HOLD}")
    ]
    assert [line for line in plain if line not in noisy] == [f"Xhold_{k} out{k} hold{k} clk {HOLD}" for k in range(3)]


def test_dynamic_cells_start_at_the_state_of_their_resistance() -> None:
    """R = 5k x + 100k (1 - x): 20 kohm is x = 80/95, 64 kohm is x = 36/95."""
    text, _ = make_deck("default", PAIRED_DYNAMIC)
    states = [float(found) for found in re.findall(r" x0=(\S+)", text)]
    assert states == pytest.approx([80 / 95, 50 / 95, 20 / 95, 75 / 95, 60 / 95, 36 / 95], rel=1e-13)
    assert lines_named(text, "Xm_1_2")[0].startswith("Xm_1_2 rn1 c2 x1_2 aist x0=")
    assert not lines_named(text, "Rm_")
    text, _ = make_deck("default", (*REFERENCE, *PAIRED_DYNAMIC))
    assert lines_named(text, "Xm_1_2")[0].startswith("Xm_1_2 rp1 c2 x1_2 aist x0=")


@pytest.mark.parametrize(
    ("name", "libraries"),
    [
        ("paired", ["dac", "adc", "transimpedance", "sample_hold", "device"]),
        ("reference_column", ["dac", "adc", "transimpedance", "sample_hold", "device"]),
        ("paired_ideal", ["dac_ideal", "adc_ideal", "transimpedance_ideal", "sample_hold", "device"]),
        (
            "paired_dynamic",
            ["dac", "adc", "transimpedance", "sample_hold", "memristor_dynamic", "device"],
        ),
        (
            "reference_column_dynamic",
            ["dac_ideal", "adc_ideal", "transimpedance_ideal", "sample_hold", "memristor_dynamic", "device"],
        ),
        ("pulse_width", ["dac", "pulse_width", "adc", "integrator", "sample_hold", "device"]),
        (
            "pulse_width_ideal_reference_column",
            [
                "dac_ideal",
                "pulse_width",
                "adc_ideal",
                "integrator_ideal",
                "transimpedance_ideal",
                "sample_hold",
                "device",
            ],
        ),
        ("bit_serial_errors", ["dac_real", "adc_real", "transimpedance", "sample_hold", "device"]),
    ],
)
def test_libraries_are_those_that_are_used(name: str, libraries: list[str]) -> None:
    text, config = make_deck(*CASES[name])
    assert list(library_names(config)) == libraries
    assert lines_named(text, ".include") == [f".include ../../../lib/{each}.lib" for each in libraries]


def test_a_bare_run_reads_the_sampling_state_or_one_cycle() -> None:
    static, _ = make_deck("default", ())
    assert static.splitlines()[-2:] == [".op", ".end"]
    dynamic, _ = make_deck("default", PAIRED_DYNAMIC)
    assert dynamic.splitlines()[-3] == ".tran 2.5e-08 5e-06 0 5e-08"
    pulsed, _ = make_deck("pulse-width", ("dac.bits=5", "timing.cycle=5 us"))
    step = 3e-6 / 15 / 7  # 15 ticks to full scale, 7 steps a tick
    tstep, tstop, start, most = (float(part) for part in pulsed.splitlines()[-3].split()[1:])
    assert (tstop, start) == (5e-6, 0)
    assert tstep == most == pytest.approx(step, rel=1e-14)
    saved = " ".join(lines_named(dynamic, ".save")).replace(".save ", "").split()
    assert {"v(rp1)", "v(out2)", "v(hold2)", "v(adc2)", "v(x1_2)", "v(en)", "v(clk)"} <= set(saved)
    assert len(saved) == len(set(saved)) == 2 + 2 + 9 + 6
    assert "v(x1_2)" not in static


def test_bit_serial_replays_the_highest_bit() -> None:
    """-0.25 of full scale is code -32 of 127, bits 0100000: at the highest bit, of 64, it rests; the bias is on."""
    text, _ = make_deck("bit-serial", ())
    assert lines_named(text, "Vcode") == ["Vcode_0 code0 0 0", "Vcode_1 code1 0 1"]
    assert lines_named(text, "Xdac_1") == ["Xdac_1 code1 en rp1 rn1 dac code_max=1 v_ref=0.050000000000000003"]
    real, _ = make_deck("bit-serial", ERRORS)
    assert f" lsb={1 / 127:.17g} " in lines_named(real, "Xdac_1")[0]


def test_clocks_of_pulses_follow_the_cycle() -> None:
    """4 us: reset until 0.2 us, sampling to 3.2 us; 127 ticks take 2.4 us from 0.4 us."""
    text, _ = make_deck("pulse-width", ())
    assert "Vreset reset 0 PULSE(1 0 2e-07 1e-09 1e-09 3.999e-06 8e-06)" in text.splitlines()
    assert "Vclk clk 0 PULSE(0 1 2e-07 1e-09 1e-09 2.999e-06 8e-06)" in text.splitlines()
    tick = [float(part) for part in re.findall(r"Vtick tick 0 PWL\((\S+) (\S+) (\S+) (\S+)\)", text)[0]]
    assert tick == pytest.approx([0, -0.4e-6 * 127 / 2.4e-6, 4e-6, 3.6e-6 * 127 / 2.4e-6], rel=1e-8)
    assert lines_named(text, "Xamp_1")[0].startswith("Xamp_1 c1 out1 reset integrator c_f=")
    capacitance = float(re.findall(r"Xamp_1 .* c_f=(\S+)", text)[0])
    columns = 6 / 12500 + np.sum(1 / np.array([[20e3, 50e3, 80e3], [25e3, 40e3, 64e3]]))  # siemens of all three
    assert capacitance == pytest.approx(2.4e-6 / 8000 - columns / 3 / (2 * np.pi * 1e9), rel=1e-13)


def test_clocks_follow_the_cycle() -> None:
    """5 us: rows until 4.5 us, sampling from 0.5 us for 3.5 us less an edge of 1 ns."""
    text, _ = make_deck("default", ())
    assert "Ven en 0 DC 1 PULSE(0 1 1e-09 1e-09 1e-09 4.5e-06 1e-05)" in text.splitlines()
    assert "Vclk clk 0 DC 1 PULSE(0 1 5e-07 1e-09 1e-09 3.499e-06 1e-05)" in text.splitlines()
