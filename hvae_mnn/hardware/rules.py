"""The rules that refuse a configuration whose parts contradict each other or the device."""

from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.cells import Programming
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.memristors import DynamicMemristor
from hvae_mnn.hardware.timing import LONGEST_PULSE, PULSE_SHARE, PULSE_START, SAMPLE_STOP, pulse_ticks
from hvae_mnn.hardware.units import show


def check_hardware(config: HardwareConfig, source: str = "configuration") -> None:
    """Refuse a configuration whose parts contradict each other or the device.

    Raises:
        HardwareError: With the number that violates the rule.
    """
    for rule in _RULES:
        problem = rule(config)
        if problem:
            raise HardwareError(f"hardware {source}: {problem}")


def _rule_resistances(config: HardwareConfig) -> str | None:
    m = config.memristor
    if m.r_off > m.r_on:
        return None
    return f"memristor.r_off is {show(m.r_off, 'Ω')}; it must be above r_on, {show(m.r_on, 'Ω')}"


def _rule_device(config: HardwareConfig) -> str | None:
    return config.memristor.problem()


def _rule_conductances(config: HardwareConfig) -> str | None:
    m, a = config.memristor, config.array
    lowest, highest = 1 / m.r_off, 1 / m.r_on
    if lowest * (1 - 1e-9) <= a.g_min < a.g_max <= highest * (1 + 1e-9):
        return None
    return (
        f"array.g_min..g_max is {show(a.g_min, 'S')}..{show(a.g_max, 'S')}; it must rise and lie "
        f"within the memristor's 1/r_off..1/r_on, {show(lowest, 'S')}..{show(highest, 'S')}"
    )


def _rule_read_disturb(config: HardwareConfig) -> str | None:
    m, peak = config.memristor, config.drive.v_read * (1 + config.drive.overshoot)
    if not isinstance(m, DynamicMemristor) or peak < m.threshold:
        return None
    return (
        f"drive.v_read with overshoot is {show(peak, 'V')}, not below the memristor's threshold of "
        f"{show(m.threshold, 'V')}: reading would program the array; lower v_read or overshoot"
    )


def _rule_supplies(config: HardwareConfig) -> str | None:
    if config.amplifier.gain is None or config.amplifier.v_saturation >= config.adc.v_full_scale:
        return None
    return (
        f"amplifier.v_saturation is {show(config.amplifier.v_saturation, 'V')}, below adc.v_full_scale, "
        f"{show(config.adc.v_full_scale, 'V')}: the converter's range could not be used; raise it"
    )


def _rule_edges(config: HardwareConfig) -> str | None:
    timing = config.timing
    if timing.edge <= timing.cycle / 50:
        return None
    return (
        f"timing.edge is {show(timing.edge, 's')}, more than 1/50 of timing.cycle, {show(timing.cycle, 's')}: "
        "drives and clocks would not reach their levels; lower edge or raise cycle"
    )


def _rule_dynamic_cells(config: HardwareConfig) -> str | None:
    if config.array.memristor == "static" or isinstance(config.memristor, DynamicMemristor):
        return None
    model = config.memristor.model
    return f"array.memristor is dynamic but memristor.model is {model}, a device without dynamics; set it to static"


def _rule_dynamic_scheme(config: HardwareConfig) -> str | None:
    if config.array.memristor == "static" or config.array.scheme != "differential":
        return None
    return "array.memristor is dynamic, which array.scheme = differential has no subcircuit for; set it to static"


def _magnitudes(m: DynamicMemristor, p: Programming) -> tuple[tuple[str, float, float], ...]:
    """Return name, magnitude and threshold of the write pulses of either sign, volt."""
    v_reset, v_set = m.thresholds
    return ("v_set", p.v_set, v_set), ("v_reset", -p.v_reset, -v_reset)


def _rule_pulses_move(config: HardwareConfig) -> str | None:
    m, p = config.memristor, config.programming
    if p is None or not isinstance(m, DynamicMemristor):
        return None
    for key, pulse, threshold in _magnitudes(m, p):
        if pulse < threshold + m.threshold_width:
            return (
                f"programming.{key} is {show(pulse, 'V')} in magnitude, within {show(m.threshold_width, 'V')} of the "
                f"threshold, {show(threshold, 'V')}: a pulse would not move a cell; raise it"
            )
    return None


def _rule_half_selected(config: HardwareConfig) -> str | None:
    m, p = config.memristor, config.programming
    if p is None or p.access == "selector" or not isinstance(m, DynamicMemristor):
        return None
    for key, pulse, threshold in _magnitudes(m, p):
        if pulse >= 2 * threshold:
            return (
                f"programming.{key} is {show(pulse, 'V')} in magnitude with passive access; half of it reaches the "
                f"other cells of the row and column, so it must stay below {show(2 * threshold, 'V')}, twice "
                f"the cell's threshold; lower it or use access = selector"
            )
    return None


def _rule_widths(config: HardwareConfig) -> str | None:
    p = config.programming
    if p is None or p.width_min < p.width_max:
        return None
    return f"programming.width_min is {show(p.width_min, 's')}; it must be below width_max, {show(p.width_max, 's')}"


def _rule_one_error(config: HardwareConfig) -> str | None:
    device, seconds = config.device, config.time.seconds
    if device.error_model is None:
        if seconds is None:
            return None
        return (
            f"time.seconds is {show(seconds, 's')} but device.error_model, which says what time does, is unset; "
            "set it or leave time.seconds out"
        )
    if device.sigma > 0:
        return f"device.sigma is {device.sigma:g} and device.error_model is set too; leave one out"
    first, last = device.error_model.seconds[0], device.error_model.seconds[-1]
    if seconds is None or first <= seconds <= last:
        return None
    return (
        f"time.seconds is {show(seconds, 's')}; device.error_model ({device.error_model.source}) covers "
        f"{show(first, 's')} to {show(last, 's')}"
    )


def _rule_error_range(config: HardwareConfig) -> str | None:
    a, error = config.array, config.device.error_model
    if error is None or (error.g_low <= a.g_min * (1 + 1e-9) and a.g_max <= error.g_high * (1 + 1e-9)):
        return None
    return (
        f"array.g_min..g_max is {show(a.g_min, 'S')}..{show(a.g_max, 'S')}; device.error_model ({error.source}) "
        f"covers {show(error.g_low, 'S')}..{show(error.g_high, 'S')} only"
    )


def _rule_stuck(config: HardwareConfig) -> str | None:
    total = config.stuck.p_lrs + config.stuck.p_hrs
    return None if total <= 1 else f"stuck.p_lrs + stuck.p_hrs is {total:g}; it must not pass 1"


def _rule_wires(config: HardwareConfig) -> str | None:
    a = config.array
    if a.wires == "none" and (a.r_wire or a.r_driver):
        return (
            f"array.parasitics is none, but array.r_wire is {show(a.r_wire, 'Ω')} and array.r_driver "
            f"{show(a.r_driver, 'Ω')}; set it to reduced or full, or both to 0"
        )
    if a.wires == "full" and not a.r_wire:
        return "array.parasitics is full, but array.r_wire is 0 Ω; set r_wire, or parasitics to reduced"
    if a.wires == "reduced" and a.memristor == "dynamic":
        return "array.memristor is dynamic, whose conductances move; array.parasitics must be full or none"
    return None


def _rule_converter_errors(config: HardwareConfig) -> str | None:
    for name, section in (("dac", config.dac), ("adc", config.adc)):
        given = [key for key in ("offset", "gain_error", "inl") if getattr(section, key)]
        given += ["settling"] if name == "dac" and config.dac.settling and not config.drive.pulsed else []
        if section.bits is None and given:
            return f"{name}.{given[0]} is set but {name}.bits is unset, an ideal converter; set bits or leave it out"
    return None


def _rule_bit_planes(config: HardwareConfig) -> str | None:
    if not config.drive.bit_serial or config.dac.bits is not None:
        return None
    return "drive.encoding is bit-serial but dac.bits, which says how many bit planes there are, is unset; set it"


_MOST_PULSE_BITS = 14  # 8191 ticks: ngspice takes seconds for a read
_SETTLED = 15.0  # time constants from the last edge of full scale to sampling


def _rule_pulses_fit(config: HardwareConfig) -> str | None:
    if not config.drive.pulsed:
        return None
    dac, ticks = config.dac, pulse_ticks(config)
    if dac.bits is not None and dac.bits > _MOST_PULSE_BITS:
        return (
            f"dac.bits is {dac.bits}, and with drive.encoding = pulse-width a read lasts {ticks} clock ticks; "
            f"expected at most {_MOST_PULSE_BITS} bits"
        )
    longest, most = (1 + dac.gain_error) * (ticks + abs(dac.offset) + dac.inl), ticks * LONGEST_PULSE
    if dac.bits is not None and longest > most:
        return (
            f"drive.encoding is pulse-width, and with dac.offset, gain_error and inl a pulse lasts up to {longest:.4g} "
            f"clock ticks; the driver ends it after {most:.4g}; lower the errors"
        )
    slowest = (SAMPLE_STOP - PULSE_START - PULSE_SHARE) * config.timing.cycle / _SETTLED
    if dac.settling > slowest:
        return (
            f"dac.settling is {show(dac.settling, 's')}; with drive.encoding = pulse-width the last pulse must have "
            f"settled when columns are sampled: expected at most {show(slowest, 's')}, or a longer timing.cycle"
        )
    return None


_RULES = (
    _rule_resistances,
    _rule_device,
    _rule_conductances,
    _rule_read_disturb,
    _rule_supplies,
    _rule_edges,
    _rule_dynamic_cells,
    _rule_dynamic_scheme,
    _rule_pulses_move,
    _rule_half_selected,
    _rule_widths,
    _rule_one_error,
    _rule_error_range,
    _rule_stuck,
    _rule_wires,
    _rule_converter_errors,
    _rule_bit_planes,
    _rule_pulses_fit,
)
