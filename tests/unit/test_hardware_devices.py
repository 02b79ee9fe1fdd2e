"""Devices in hardware files: presets that scale as they say, errors, and what write pulses may be."""

from pathlib import Path

import pytest
from unit.test_hardware import refuses, write

from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware, override_hardware
from hvae_mnn.hardware.memristors import AistMemristor

TABLE = """
source = "a test"
g_low = "10 uS"
g_high = "170 uS"
g_reference = "100 uS"
seconds = [1, "1 ks"]
sigma = [[1e-6, 2e-6], [3e-6]]
"""


def aist(name: str) -> AistMemristor:
    return load_hardware(name).dynamic_memristor("this test")


def test_aist_is_the_device_of_default() -> None:
    assert aist("aist") == aist("default")
    assert load_hardware("aist").device.error_model is not None
    assert load_hardware("default").device.error_model is None


def test_aist_fast_scales_time_only() -> None:
    slow, fast = aist("aist"), aist("aist-fast")
    assert fast.mobility == pytest.approx(1e4 * slow.mobility)
    assert fast.model_copy(update={"mobility": slow.mobility}) == slow
    pulses, scaled = load_hardware("aist").programming, load_hardware("aist-fast").programming
    assert pulses is not None and scaled is not None
    assert pulses.width_min / scaled.width_min == pytest.approx(1e4)
    assert pulses.width_max / scaled.width_max == pytest.approx(1e4)


def test_aist_low_g_keeps_the_motion_of_the_state() -> None:
    """Eq. 9 is unchanged by (R, i_0, i_off) -> (s R, i_0 / s, i_off / s^2)."""
    a, b = aist("aist"), aist("aist-low-g")
    s = b.r_on / a.r_on
    assert s == pytest.approx(10)
    assert (b.r_off / a.r_off, a.i_0 / b.i_0, a.i_off / b.i_off) == pytest.approx((s, s, s * s))
    array, scaled = load_hardware("aist").array, load_hardware("aist-low-g").array
    assert (array.g_min / scaled.g_min, array.g_max / scaled.g_max) == pytest.approx((s, s))


@pytest.mark.parametrize("name", ["ta-hfo2", "rram-wan2022"])
def test_static_devices_have_no_dynamics(name: str) -> None:
    config = load_hardware(name)
    with pytest.raises(HardwareError, match=r"memristor.model is static, a device without dynamics; waiting needs"):
        config.dynamic_memristor("waiting")
    refuses("array.memristor is dynamic but memristor.model is static", "array.memristor=dynamic", preset=name)


def test_read_noise_is_a_part_of_g_max() -> None:
    assert load_hardware("default").device.read_sigma == 0
    assert load_hardware("default", ["device.read_sigma=0.5"]).device.read_sigma == 0.5
    refuses("device.read_sigma is 0.51; input should be less than or equal to 0.5", "device.read_sigma=0.51")
    refuses("device.read_sigma is -0.01; input should be greater than or equal to 0", "device.read_sigma=-0.01")


def test_unknown_models_and_keys_of_either_model() -> None:
    refuses('memristor.model is "aits"; expected one of aist, static; did you mean aist?', "memristor.model=aits")
    refuses('"memristor.i0" is not a known key; did you mean i_0?; known: r_on, r_off, model, v_set', "memristor.i0=1")
    refuses('"memristor.v_set" is not a known key; known: r_on, r_off, model', "memristor.v_set=1 V", preset="ta-hfo2")
    refuses('"programming.width" is not a known key; did you mean width_m', "programming.width=1 ms")


def test_a_memristor_that_is_no_section(tmp_path: Path) -> None:
    refuses("memristor is 3; ", preset=write(tmp_path, 'extends = "default"\nmemristor = 3\n'))


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        (
            "programming.v_set=0.101",
            "programming.v_set is 101 mV in magnitude, within 2 mV of the threshold",
        ),
        ("programming.v_reset=-0.09", "programming.v_reset is 90 mV in magnitude, within 2 mV"),
        ("programming.width_max=50 ns", "programming.width_min is 100 ns; it must be below width_max, 50 ns"),
    ],
)
def test_pulses_that_do_nothing(override: str, shown: str) -> None:
    refuses(shown, override)


def test_passive_arrays_take_less_than_twice_the_threshold() -> None:
    passive = "programming.access=passive"
    refuses("programming.v_set is 200 mV in magnitude with passive access; half of it reaches", passive)
    refuses("must stay below 200 mV, twice the cell's threshold", passive, "programming.v_set=0.19")
    config = load_hardware("default", [passive, "programming.v_set=0.19", "programming.v_reset=-0.199"])
    assert config.programming is not None and config.programming.v_reset == -0.199


def test_an_error_model_by_name_by_file_and_as_a_table(tmp_path: Path) -> None:
    """A file's own error model lies beside it, one of --set in the working folder."""
    (tmp_path / "errors.toml").write_text(TABLE)
    beside = write(tmp_path, 'extends = "default"\n[device]\nerror_model = "errors.toml"\n')
    inline = tmp_path / "inline.toml"
    inline.write_text('extends = "default"\n[device.error_model]' + TABLE)
    found = [
        load_hardware(beside).device.error_model,
        load_hardware(str(inline)).device.error_model,
        load_hardware("default", [f"device.error_model={tmp_path / 'errors.toml'}"]).device.error_model,
    ]
    assert found[0] is not None and found == [found[0]] * 3
    assert found[0].seconds == (1.0, 1000.0)
    assert load_hardware("aist-low-g", ["device.error_model=rram-wan2022"]).device.error_model is not None


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (("[1, ", "[2000, "), "has seconds = [2000.0, 1000.0]; expected positive and rising times"),
        (("[[1e-6, 2e-6], [3e-6]]", "[[1e-6]]"), "has 1 polynomials of sigma for 2 times; expected one each"),
        (('source = "a test"', ""), '"device.error_model.source" is missing'),
        (("g_low", "g_lowest"), '"device.error_model.g_lowest" is not a known key; did you mean g_low?'),
        (('"10 uS"', '"10 us"'), 'device.error_model.g_low is "10 us"; expected a value in S, found s'),
        (('"170 uS"', '"160 uS"'), "device.error_model (a test) covers 10 uS..160 uS only"),
    ],
)
def test_error_models_that_are_refused(tmp_path: Path, change: tuple[str, str], shown: str) -> None:
    path = tmp_path / "errors.toml"
    path.write_text(TABLE.replace(*change))
    refuses(shown, f"device.error_model={path}")


def test_one_error_and_one_time() -> None:
    model = "device.error_model=aist"
    refuses(
        'device.error_model is "nosuch"; no such file or shipped model; shipped are aist', "device.error_model=nosuch"
    )
    refuses("device.sigma is 0.1 and device.error_model is set too", model, "device.sigma=0.1")
    refuses("time.seconds is 5 s but device.error_model, which says what time does, is unset", "time.seconds=5")
    refuses("time.seconds is 200 ks; device.error_model (Wan", "time.seconds=200 ks", preset="rram-wan2022")
    refuses("stuck.p_lrs + stuck.p_hrs is 1.2; it must not pass 1", "stuck.p_lrs=0.6", "stuck.p_hrs=0.6")


def test_a_configuration_is_overridden_and_checked_again() -> None:
    config = load_hardware("aist")
    changed = override_hardware(config, ["programming.tolerance=0.02"])
    assert isinstance(changed, HardwareConfig)
    assert changed.programming is not None and changed.programming.tolerance == 0.02
    assert override_hardware(config, []) == config
    with pytest.raises(HardwareError, match=r"hardware --set: programming\.width_min is 1 s"):
        override_hardware(config, ["programming.width_min=1 s"])
