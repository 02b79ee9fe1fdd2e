"""Hardware files: values in SI, and a message with the number for each rule that refuses."""

import re
from pathlib import Path

import pytest

from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.files import load_hardware, parse_hardware, preset_names


def refuses(expected: str, *overrides: str, preset: str = "default") -> None:
    with pytest.raises(HardwareError, match=re.escape(expected)):
        load_hardware(preset, overrides)


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_presets() -> None:
    devices = {"aist": 5e3, "aist-fast": 5e3, "aist-low-g": 50e3, "ta-hfo2": 1e3, "rram-wan2022": 20e3}
    devices |= {"default": 5e3, "ideal": 5e3, "realistic": 50e3, "pulse-width": 5e3, "bit-serial": 5e3}
    assert {name: load_hardware(name).memristor.r_on for name in preset_names()} == devices
    assert all(load_hardware(name).drive.encoding == name for name in ("pulse-width", "bit-serial"))
    ideal = load_hardware("ideal")
    assert (ideal.dac.bits, ideal.adc.bits, ideal.amplifier.gain) == (None, None, None)
    for name, percentile in {"ideal": 100.0, "default": "auto", "realistic": "auto", "pulse-width": "auto"}.items():
        hardware = load_hardware(name)
        assert (hardware.dac.range_percentile, hardware.adc.range_percentile) == (percentile, percentile)


def test_values_are_si() -> None:
    config = load_hardware("default")
    m = config.memristor
    assert (m.r_on, m.r_off, m.v_set, m.v_reset) == (5e3, 100e3, 0.1, -0.1)
    assert (m.thickness, m.i_0, m.i_off) == pytest.approx((3e-9, 1e-6, 0.2e-9), rel=1e-15)
    assert config.array.g_min == pytest.approx(10.1e-6, rel=1e-15)
    assert config.drive.v_read == pytest.approx(0.05, rel=1e-15)
    assert config.amplifier.gain_bandwidth == 1e9
    assert config.timing.cycle == pytest.approx(5e-6, rel=1e-15)


@pytest.mark.parametrize(("text", "volt"), [("25 mV", 0.025), ("0.04", 0.04), ("4e-2 V", 0.04), ('"30mV"', 0.03)])
def test_set_takes_units_and_plain_numbers(text: str, volt: float) -> None:
    assert load_hardware("default", [f"drive.v_read={text}"]).drive.v_read == pytest.approx(volt, rel=1e-15)


def test_ohm_has_three_spellings() -> None:
    for text in ("6 kohm", "6 k\N{OHM SIGN}", "6 k\N{GREEK CAPITAL LETTER OMEGA}"):
        config = load_hardware("default", [f"memristor.r_on={text}", "array.g_max=150 uS"])
        assert config.memristor.r_on == 6e3


def test_set_none_unsets_and_later_ones_win() -> None:
    config = load_hardware("default", ["adc.bits=none", "array.tile_rows=7", " array.tile_rows = 9 "])
    assert config.adc.bits is None
    assert config.array.tile_rows == 9
    assert load_hardware("default").adc.bits == 8


@pytest.mark.parametrize("override", ["array.tile_rows", "tile_rows=3", ".tile_rows=3", "array.=3", "=", ""])
def test_set_malformed(override: str) -> None:
    refuses(f"--set {override}: expected SECTION.KEY=VALUE, for example array.tile_rows=32", override)


def test_unknown_keys_get_a_suggestion() -> None:
    refuses('"array.tile_row" is not a known key; did you mean tile_rows?; known: scheme,', "array.tile_row=3")
    refuses('"arrray" is not a known key; did you mean array?; known: memristor,', "arrray.tile_rows=3")
    refuses('"dac.qqq" is not a known key; known: bits', "dac.qqq=3")


def test_wrong_unit_and_no_number() -> None:
    refuses('drive.v_read is "50 ms"; expected a value in V, found s', "drive.v_read=50 ms")
    refuses('memristor.r_on is "5 kS"; expected a value in ohm, found S', "memristor.r_on=5 kS")
    refuses('drive.v_read is "much"; expected a number or a string such as "5 V"', "drive.v_read=much")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("memristor.r_on=-5 kohm", "memristor.r_on is -5000.0; input should be greater than 0"),
        ("array.tile_rows=0", "array.tile_rows is 0; input should be greater than or equal to 1"),
        ("array.scheme=diagonal", "array.scheme is 'diagonal'; input should be 'paired', 'reference-column' or"),
        ("dac.bits=1", "dac.bits is 1; input should be greater than or equal to 2"),
        ("drive.v_read=nan", "drive.v_read is nan; input should be"),
        ("drive.v_read=inf", "drive.v_read is inf; input should be a finite number"),
        ("memristor.v_reset=0.1", "memristor.v_reset is 0.1; input should be less than 0"),
        ("timing.cycle=none", "timing.cycle is None; input should be a valid number"),
    ],
)
def test_values_out_of_range(override: str, expected: str) -> None:
    refuses(f"hardware default: {expected}", override)


def test_reading_must_stay_below_the_threshold() -> None:
    """50 mV and 10 % are 55 mV; 95 mV and 10 % are 104.5 mV; -60 mV is the lower threshold here."""
    refuses(
        "drive.v_read with overshoot is 104.5 mV, not below the memristor's threshold of 100 mV", "drive.v_read=0.095"
    )
    refuses("overshoot is 55 mV, not below the memristor's threshold of 54 mV", "memristor.v_reset=-54 mV")
    refuses("drive.v_read with overshoot is 100 mV, not below", "drive.v_read=0.1", "drive.overshoot=0")
    assert load_hardware("default", ["memristor.v_reset=-56 mV"]).memristor.threshold == 0.056


def test_resistances_must_rise() -> None:
    refuses("memristor.r_off is 4 kΩ; it must be above r_on, 5 kΩ", "memristor.r_off=4 kohm")


def test_a_cell_must_be_settable() -> None:
    """0.1 V over 100 kohm is 1 uA."""
    refuses("memristor.i_0 is 1.1 uA but v_set / r_off is 1 uA", "memristor.i_0=1.1 uA")
    assert load_hardware("default", ["memristor.i_0=0.9 uA"]).memristor.i_0 == pytest.approx(0.9e-6)


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("array.g_max=201 uS", "10.1 uS..201 uS"),
        ("array.g_min=9.9 uS", "9.9 uS..168 uS"),
        ("array.g_min=170 uS", "170 uS..168 uS"),
    ],
)
def test_conductances_must_rise_within_the_device(override: str, shown: str) -> None:
    refuses(f"array.g_min..g_max is {shown}; it must rise and lie within", override)
    refuses("1/r_off..1/r_on, 10 uS..200 uS", override)


def test_amplifier_must_reach_the_converters_full_scale() -> None:
    low = ("amplifier.v_saturation=0.4 V",)
    refuses("amplifier.v_saturation is 400 mV, below adc.v_full_scale, 500 mV", *low)
    assert load_hardware("default", [*low, "amplifier.gain=none"]).amplifier.gain is None


def test_unknown_preset_and_missing_file(tmp_path: Path) -> None:
    refuses(
        "hardware defualt: no such preset or file; did you mean default?; presets are aist, aist-fast, aist-low-g, "
        "bit-serial, default, ideal",
        preset="defualt",
    )
    refuses("no.toml: no such preset or file", preset=str(tmp_path / "no.toml"))
    refuses(f"hardware {tmp_path}: no such preset or file", preset=str(tmp_path))


def test_bad_toml_and_bad_bytes(tmp_path: Path) -> None:
    refuses("mine.toml: not valid TOML: ", preset=write(tmp_path, "[array\nscheme = 3"))
    refuses("mine.toml: not valid TOML: 'utf-8' codec", preset=write(tmp_path, b'extends = "default"\n# \xff\xfe'))


def test_a_missing_section_says_what_to_do(tmp_path: Path) -> None:
    refuses(
        '"memristor" is missing; give it, or begin the file with extends', preset=write(tmp_path, "[dac]\nbits = 4\n")
    )


def test_extends_says_only_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "default"\n[array]\ntile_rows = 5\n[adc]\nbits = 6\n')
    config, base = load_hardware(path, ["array.tile_columns=11"]), load_hardware("default")
    assert (config.array.tile_rows, config.array.tile_columns, config.adc.bits) == (5, 11, 6)
    assert config.array.g_max == base.array.g_max
    assert config.memristor == base.memristor
    assert config.adc.v_full_scale == base.adc.v_full_scale


def test_extends_of_an_unknown_preset(tmp_path: Path) -> None:
    refuses("extends is 'best'; expected one of aist, aist-fast", preset=write(tmp_path, 'extends = "best"\n'))
    refuses("extends is 3; expected one of", preset=write(tmp_path, "extends = 3\n"))


def test_a_section_that_is_no_section(tmp_path: Path) -> None:
    path = write(tmp_path, 'extends = "default"\narray = 3\n')
    refuses("hardware " + path + ": array is 3; ", preset=path)
    refuses("--set array.tile_rows=4: array is 3 in the file; expected a section", "array.tile_rows=4", preset=path)


def test_a_tree_names_its_source() -> None:
    with pytest.raises(HardwareError, match=r'^hardware here: "memristor" is missing'):
        parse_hardware({}, "here")


def test_edges_too_slow_for_the_cycle_are_refused() -> None:
    with pytest.raises(HardwareError, match=r"timing.edge is 1 s, more than 1/50 of timing.cycle, 5 us"):
        load_hardware("default", ["timing.edge=1"])
    assert load_hardware("default", ["timing.edge=80 ns"]).timing.edge == pytest.approx(80e-9)


def test_wires_are_reduced_unless_said_otherwise() -> None:
    assert load_hardware("default").array.wires == "none"
    for key in ("r_wire", "r_driver"):
        assert load_hardware("default", [f"array.{key}=2"]).array.wires == "reduced"
    assert load_hardware("default", ["array.r_wire=2", "array.parasitics=full"]).array.wires == "full"
    assert load_hardware("realistic").array.wires == "reduced"


def test_wires_that_contradict_the_decks() -> None:
    refuses("array.parasitics is none, but array.r_wire is 2 Ω", "array.parasitics=none", "array.r_wire=2")
    refuses("and array.r_driver 3 Ω; set it to reduced or full", "array.parasitics=none", "array.r_driver=3")
    refuses("array.parasitics is full, but array.r_wire is 0 Ω", "array.parasitics=full", "array.r_driver=3")
    dynamic = "array.memristor=dynamic"
    refuses(
        "array.memristor is dynamic, whose conductances move; array.parasitics must be full", dynamic, "array.r_wire=2"
    )
    refuses("array.memristor is dynamic, which array.scheme = differential", dynamic, "array.scheme=differential")
    assert load_hardware("default", [dynamic, "array.r_wire=2", "array.parasitics=full"]).array.wires == "full"
    refuses("array.r_wire is -1; input should be greater than or equal to 0", "array.r_wire=-1")


def test_errors_of_converters_that_are_ideal_are_refused() -> None:
    refuses("dac.inl is set but dac.bits is unset", "dac.bits=none", "dac.inl=0.5")
    refuses("adc.gain_error is set but adc.bits is unset", "adc.bits=none", "adc.gain_error=0.01")
    refuses("dac.settling is set but dac.bits is unset", "dac.bits=none", "dac.settling=5 ns")


def test_what_an_encoding_cannot_have() -> None:
    pulses = "drive.encoding=pulse-width"
    refuses("drive.encoding is bit-serial but dac.bits", "drive.encoding=bit-serial", "dac.bits=none")
    refuses("a read lasts 8388607 clock ticks; expected at most 14 bits", pulses, "dac.bits=24")
    refuses("a pulse lasts up to 190.5 clock ticks; the driver ends it after 142", pulses, "dac.gain_error=0.5")
    refuses("dac.settling is 1 s; with drive.encoding = pulse-width", pulses, "dac.settling=1")
    assert load_hardware("default", [pulses, "dac.gain_error=0.05", "dac.settling=20 ns"]).dac.gain_error == 0.05
