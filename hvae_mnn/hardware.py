"""HardwareConfig: every number of the circuit, with the rules that refuse a bad one.

A configuration is read from TOML (a preset of the package or a file of the user's) and
changed by `--set section.key=value`. Values are SI numbers or strings with a unit
(`"50 mV"`, `"5 kohm"`); inside the package everything is SI base units.
"""

import difflib
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from quantiphy import InvalidNumber, Quantity

from hvae_mnn.errors import HardwareError
from hvae_mnn.resources import presets_folder

_UNIT_SPELLINGS = {
    "ohm": {"ohm", "ohms", "\N{OHM SIGN}", "\N{GREEK CAPITAL LETTER OMEGA}"},
    "V": {"V"},
    "A": {"A"},
    "S": {"S"},
    "s": {"s"},
    "m": {"m"},
    "Hz": {"Hz"},
}


def _in_unit(unit: str) -> BeforeValidator:
    """Return a validator that reads numbers in SI and strings with the given unit."""

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            quantity = Quantity(value)
        except InvalidNumber:
            raise ValueError(f'is "{value}"; expected a number or a string such as "5 {unit}"') from None
        if quantity.units and quantity.units not in _UNIT_SPELLINGS[unit]:
            raise ValueError(f'is "{value}"; expected a value in {unit}, found {quantity.units}')
        return float(quantity)

    return BeforeValidator(convert)


Ohm = Annotated[float, _in_unit("ohm")]
Volt = Annotated[float, _in_unit("V")]
Ampere = Annotated[float, _in_unit("A")]
Siemens = Annotated[float, _in_unit("S")]
Second = Annotated[float, _in_unit("s")]
Metre = Annotated[float, _in_unit("m")]
Hertz = Annotated[float, _in_unit("Hz")]

Positive = Field(gt=0, allow_inf_nan=False)


class _Section(BaseModel):
    """A part of the configuration: immutable, with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Memristor(_Section):
    """AIST memristor of Hu & Yang 2023, eqs. 8-9. SI units.

    Attributes:
        r_on: Resistance at state x = 1, ohm.
        r_off: Resistance at state x = 0, ohm.
        v_set: Positive threshold V_T+, volt; below it the state does not move.
        v_reset: Negative threshold V_T-, volt.
        mobility: Ion mobility, m^2/(V s).
        thickness: Film thickness D, metre.
        i_0: Current of eq. 9's pole, ampere.
        i_off: SET rate constant, ampere (per 1 A: eq. 9 is not dimensionally closed).
        i_on: RESET rate constant, ampere (per 1 A).
        window_p: Exponent p of the window.
    """

    r_on: Ohm = Positive
    r_off: Ohm = Positive
    v_set: Volt = Positive
    v_reset: Volt = Field(lt=0)
    mobility: float = Positive
    thickness: Metre = Positive
    i_0: Ampere = Positive
    i_off: Ampere = Positive
    i_on: Ampere = Positive
    window_p: int = Field(gt=0)

    @property
    def threshold(self) -> float:
        """The lower of the two switching thresholds, volt."""
        return min(self.v_set, -self.v_reset)


class Array(_Section):
    """One crossbar tile and how weights lie in it.

    Attributes:
        scheme: `paired` (eq. 12: a fixed resistor on +V and a memristor on -V at every
            crosspoint) or `reference-column` (one shared column of fixed resistors).
        memristor: `static` (a resistor, for reading) or `dynamic` (eqs. 8-9 with state).
        tile_rows: Largest number of rows of a tile.
        tile_columns: Largest number of columns of a tile.
        g_min: Lowest conductance used, siemens.
        g_max: Highest conductance used, siemens.
        weight_percentile: Percentile of |w| in a tile that maps to the ends of the
            conductance range; weights beyond it clip and are counted.
        parasitics: Wires: `none`.
    """

    scheme: Literal["paired", "reference-column"]
    memristor: Literal["static", "dynamic"] = "static"
    tile_rows: int = Field(ge=1, le=1024)
    tile_columns: int = Field(ge=1, le=1024)
    g_min: Siemens = Positive
    g_max: Siemens = Positive
    weight_percentile: float = Field(default=100.0, gt=0, le=100)
    parasitics: Literal["none"] = "none"


class Drive(_Section):
    """How inputs become row voltages.

    Attributes:
        encoding: `amplitude`: the row voltage is proportional to the input.
        v_read: Row voltage of a full-scale input, volt.
        overshoot: Largest relative overshoot of a row, counted against the thresholds.
    """

    encoding: Literal["amplitude"] = "amplitude"
    v_read: Volt = Positive
    overshoot: float = Field(default=0.0, ge=0, le=1)


class Dac(_Section):
    """Row converters.

    Attributes:
        bits: Resolution with sign; unset passes float64 fractions of full scale.
    """

    bits: int | None = Field(default=None, ge=2, le=24)


class Adc(_Section):
    """Column converters.

    Attributes:
        bits: Resolution with sign; unset passes float64 fractions of full scale.
        v_full_scale: Input of the largest code, volt.
        range_percentile: Percentile of a tile's calibration sums that maps to full scale.
    """

    bits: int | None = Field(default=None, ge=2, le=24)
    v_full_scale: Volt = Positive
    range_percentile: float = Field(default=100.0, gt=0, le=100)


class Amplifier(_Section):
    """Transimpedance amplifiers; with `gain` unset they are ideal (no offset, limit or delay).

    Attributes:
        gain: Open-loop gain, V/V; unset for an ideal amplifier.
        gain_bandwidth: Gain-bandwidth product, hertz (one pole).
        offset: Input-referred offset, volt.
        v_saturation: Output limit of either sign, volt.
    """

    gain: float | None = Field(default=None, gt=1)
    gain_bandwidth: Hertz = Field(default=1e9, gt=0)
    offset: Volt = 0.0
    v_saturation: Volt = Field(default=1.0, gt=0)


class Timing(_Section):
    """One read cycle, for transient reads and waveforms.

    Rows are enabled from 0 to 0.9 of the cycle; the sample-and-hold tracks from 0.1 to
    0.8 and holds to the end.

    Attributes:
        cycle: Length of a cycle, second.
        edge: Rise and fall time of the drives and clocks, second.
    """

    cycle: Second = Positive
    edge: Second = Positive


class HardwareConfig(_Section):
    """The whole hardware, as a preset's TOML says it."""

    memristor: Memristor
    array: Array
    drive: Drive
    dac: Dac = Dac()
    adc: Adc
    amplifier: Amplifier = Amplifier()
    timing: Timing


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets in the package."""
    return tuple(sorted(path.stem for path in presets_folder().glob("*.toml")))


def load_hardware(preset_or_file: str, overrides: Iterable[str] = ()) -> HardwareConfig:
    """Read a preset by name or a TOML file, apply `section.key=value` overrides, check.

    A file may begin with `extends = "default"` and then say only what differs from that preset.

    Raises:
        HardwareError: The name, the file, a key or a value is not acceptable.
    """
    tree = _load_tree(preset_or_file)
    for override in overrides:
        _apply_override(tree, override)
    return parse_hardware(tree, source=preset_or_file)


def parse_hardware(tree: dict[str, Any], source: str) -> HardwareConfig:
    """Turn a tree of values into a checked configuration; `source` names it in errors.

    Raises:
        HardwareError: A key or a value is not acceptable.
    """
    try:
        config = HardwareConfig.model_validate(tree)
    except ValidationError as error:
        raise HardwareError(f"hardware {source}: {_first_problem(error)}") from None
    check_hardware(config, source)
    return config


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
    return f"memristor.r_off is {_show(m.r_off, 'Ω')}; it must be above r_on, {_show(m.r_on, 'Ω')}"


def _rule_can_be_set(config: HardwareConfig) -> str | None:
    m = config.memristor
    limit = m.v_set / m.r_off
    if m.i_0 <= limit * (1 + 1e-9):
        return None
    return (
        f"memristor.i_0 is {_show(m.i_0, 'A')} but v_set / r_off is {_show(limit, 'A')}: "
        "a cell in its high state could never be set; lower i_0 or r_off"
    )


def _rule_conductances(config: HardwareConfig) -> str | None:
    m, a = config.memristor, config.array
    lowest, highest = 1 / m.r_off, 1 / m.r_on
    if lowest * (1 - 1e-9) <= a.g_min < a.g_max <= highest * (1 + 1e-9):
        return None
    return (
        f"array.g_min..g_max is {_show(a.g_min, 'S')}..{_show(a.g_max, 'S')}; it must rise and lie "
        f"within the memristor's 1/r_off..1/r_on, {_show(lowest, 'S')}..{_show(highest, 'S')}"
    )


def _rule_read_disturb(config: HardwareConfig) -> str | None:
    peak = config.drive.v_read * (1 + config.drive.overshoot)
    if peak < config.memristor.threshold:
        return None
    return (
        f"drive.v_read with overshoot is {_show(peak, 'V')}, not below the memristor's threshold of "
        f"{_show(config.memristor.threshold, 'V')}: reading would program the array; lower v_read or overshoot"
    )


def _rule_supplies(config: HardwareConfig) -> str | None:
    if config.amplifier.gain is None or config.amplifier.v_saturation >= config.adc.v_full_scale:
        return None
    return (
        f"amplifier.v_saturation is {_show(config.amplifier.v_saturation, 'V')}, below adc.v_full_scale, "
        f"{_show(config.adc.v_full_scale, 'V')}: the converter's range could not be used; raise it"
    )


def _rule_edges(config: HardwareConfig) -> str | None:
    timing = config.timing
    if timing.edge <= timing.cycle / 50:
        return None
    return (
        f"timing.edge is {_show(timing.edge, 's')}, more than 1/50 of timing.cycle, {_show(timing.cycle, 's')}: "
        "drives and clocks would not reach their levels; lower edge or raise cycle"
    )


_RULES = (
    _rule_resistances,
    _rule_can_be_set,
    _rule_conductances,
    _rule_read_disturb,
    _rule_supplies,
    _rule_edges,
)


def _show(value: float, unit: str) -> str:
    return Quantity(value, unit).render(prec=3)


def _hardware_path(preset_or_file: str) -> Path:
    if preset_or_file in preset_names():
        return presets_folder() / f"{preset_or_file}.toml"
    path = Path(preset_or_file)
    if path.is_file():
        return path
    hint = _did_you_mean(preset_or_file, preset_names())
    raise HardwareError(f"hardware {preset_or_file}: no such preset or file{hint}; presets are {_preset_list()}")


def _load_tree(preset_or_file: str) -> dict[str, Any]:
    """Read a preset or a file, on top of the preset that it extends."""
    tree = _load_toml(_hardware_path(preset_or_file))
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if base not in preset_names():
        raise HardwareError(f"hardware {preset_or_file}: extends is {base!r}; expected one of {_preset_list()}")
    merged = _load_toml(presets_folder() / f"{base}.toml")
    for section, values in tree.items():
        if isinstance(values, dict) and isinstance(merged.get(section), dict):
            merged[section] |= values
        else:
            merged[section] = values
    return merged


def _preset_list() -> str:
    return ", ".join(preset_names())


def _load_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HardwareError(f"hardware file {path}: not valid TOML: {error}") from None
    except OSError as error:
        raise HardwareError(f"hardware file {path}: {error.strerror}") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    """Apply one `section.key=value` to the tree, in place."""
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise HardwareError(f"--set {override}: expected SECTION.KEY=VALUE, for example array.tile_rows=32")
    values = tree.setdefault(section, {})
    if not isinstance(values, dict):
        raise HardwareError(f"--set {override}: {section} is {values!r} in the file; expected a section, [{section}]")
    values[name] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    """Read a TOML value; `none` unsets, and a bare word is a string."""
    if text.lower() == "none":
        return None
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def _first_problem(error: ValidationError) -> str:
    """Return the first problem of a validation as `section.key ...`; misspelt keys come first."""
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        names = _field_names(location[:-1])
        return f'"{key}" is not a known key{_did_you_mean(location[-1], names)}; known: {", ".join(names)}'
    if problem["type"] == "missing":
        return f'"{key}" is missing; give it, or begin the file with extends = "default"'
    if problem["type"] == "value_error":
        return f"{key} {problem['ctx']['error']}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key} is {problem['input']!r}; {message}"


def _field_names(location: list[str]) -> tuple[str, ...]:
    model: type[BaseModel] = HardwareConfig
    for part in location:
        annotation = model.model_fields[part].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return tuple(model.model_fields)


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""
