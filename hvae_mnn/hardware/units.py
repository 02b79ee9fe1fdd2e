"""What configurations are made of: sections, and SI numbers or strings with a unit (`"50 mV"`, `"5 kohm"`)."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from quantiphy import InvalidNumber, Quantity

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


def _check_percentile(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (number and 0 < value <= 100):
        raise ValueError(f"is {value!r}; expected a percentile above 0 and up to 100, or auto")
    return value


Ohm = Annotated[float, _in_unit("ohm")]
Volt = Annotated[float, _in_unit("V")]
Ampere = Annotated[float, _in_unit("A")]
Siemens = Annotated[float, _in_unit("S")]
Second = Annotated[float, _in_unit("s")]
Metre = Annotated[float, _in_unit("m")]
Hertz = Annotated[float, _in_unit("Hz")]
Percentile = Annotated[float | Literal["auto"], BeforeValidator(_check_percentile)]

Positive = Field(gt=0, allow_inf_nan=False)
NotNegative = Field(ge=0, allow_inf_nan=False)


class Section(BaseModel):
    """A part of the configuration: immutable, with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_KINDS = {"ohm": Ohm, "V": Volt, "A": Ampere, "S": Siemens, "s": Second, "m": Metre, "Hz": Hertz}


def unit_of(field: FieldInfo) -> str:
    """Return the SI unit of a configuration value, empty for a pure number."""
    parts = [field, *get_args(field.annotation)]  # `Second | None` has its mark inside
    marks = [mark for part in parts for mark in getattr(part, "metadata", getattr(part, "__metadata__", ()))]
    return next((unit for unit, kind in _KINDS.items() if get_args(kind)[1] in marks), "")


def show(value: float, unit: str) -> str:
    """Return a value with its unit and an SI prefix, as messages give it."""
    return Quantity(value, unit).render(prec=3)
