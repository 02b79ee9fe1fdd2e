"""HardwareConfig: every number of the circuit and its devices.

Inside the package everything is SI base units. Cell imperfections (writing, programming error, stuck cells,
retention, read noise) are in `hvae_mnn.hardware.cells`, memristor models in `hvae_mnn.hardware.memristors`. Files and
`--set` are read in `hvae_mnn.hardware.files`, the rules that refuse a configuration are in `hvae_mnn.hardware.rules`.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.cells import Device, Programming, Stuck, Time
from hvae_mnn.hardware.memristors import MODELS, AnyMemristor, DynamicMemristor
from hvae_mnn.hardware.units import Hertz, Ohm, Percentile, Positive, Second, Section, Siemens, Volt


class Array(Section):
    """One crossbar tile and how weights lie in it.

    Attributes:
        scheme: `paired` (eq. 12: a fixed resistor on +V and a memristor on -V at every
            crosspoint), `reference-column` (one shared column of fixed resistors), or
            `differential` (a memristor on +V and one on -V).
        memristor: `static` (a resistor, for reading) or `dynamic` (eqs. 8-9 with state).
        tile_rows: Largest number of rows of a tile.
        tile_columns: Largest number of columns of a tile.
        g_min: Lowest conductance used, siemens.
        g_max: Highest conductance used, siemens.
        weight_percentile: Percentile of |w| in a tile that maps to the ends of the
            conductance range; weights beyond it clip and are counted.
        r_wire: Resistance of a segment of a row or bit line between two crosspoints, ohm.
        r_driver: Resistance of the driver of each row line, ohm.
        compensate: Program conductances that amount to the weights behind the wires.
        parasitics: How wires and drivers are in the decks: `full`, every segment; `reduced`, the
            tile's exact port admittance; `none`; `auto`, reduced where there are any.
    """

    scheme: Literal["paired", "reference-column", "differential"]
    memristor: Literal["static", "dynamic"] = "static"
    tile_rows: int = Field(ge=1, le=1024)
    tile_columns: int = Field(ge=1, le=1024)
    g_min: Siemens = Positive
    g_max: Siemens = Positive
    weight_percentile: float = Field(default=100.0, gt=0, le=100)
    r_wire: Ohm = Field(default=0.0, ge=0)
    r_driver: Ohm = Field(default=0.0, ge=0)
    compensate: bool = False
    parasitics: Annotated[
        Literal["auto", "none", "reduced", "full"],
        BeforeValidator(lambda value: "none" if value is None else value),  # `--set` reads none as unset
    ] = "auto"

    @property
    def wires(self) -> Literal["none", "reduced", "full"]:
        """How wires and drivers are in the decks, `auto` decided."""
        if self.parasitics != "auto":
            return self.parasitics
        return "reduced" if self.r_wire or self.r_driver else "none"


class Drive(Section):
    """How inputs become row voltages.

    Attributes:
        encoding: `amplitude`: the row voltage is proportional to the input. `pulse-width`: the row is
            at +-v_read for a time proportional to the input, and columns integrate. `bit-serial`: one
            bit plane of the input a cycle at +-v_read, the cycles' codes shifted and added in digital.
        v_read: Row voltage of a full-scale input, volt.
        overshoot: Largest relative overshoot of a row, counted against the thresholds.
    """

    encoding: Literal["amplitude", "pulse-width", "bit-serial"] = "amplitude"
    v_read: Volt = Positive
    overshoot: float = Field(default=0.0, ge=0, le=1)

    @property
    def pulsed(self) -> bool:
        """Whether rows are pulsed and columns integrate."""
        return self.encoding == "pulse-width"

    @property
    def bit_serial(self) -> bool:
        """Whether rows carry one bit plane a cycle."""
        return self.encoding == "bit-serial"


class _ConverterSection(Section):
    """What both directions have: resolution and errors.

    Attributes:
        bits: Resolution with sign; unset passes float64 fractions of full scale.
        offset: Offset, LSB.
        gain_error: Relative error of the full scale.
        inl: Bound of the integral nonlinearity, LSB; each converter draws a smooth profile of its own.
    """

    bits: int | None = Field(default=None, ge=2, le=24)
    offset: float = Field(default=0.0, ge=-100, le=100)
    gain_error: float = Field(default=0.0, gt=-1, le=1)
    inl: float = Field(default=0.0, ge=0, le=100)


class Dac(_ConverterSection):
    """Row converters.

    Attributes:
        range_percentile: Percentile of |input| in calibration that maps to full scale, for each group of
            inputs; `auto` takes the one of least squared error.
        settling: Time constant of a row drive, second.
    """

    range_percentile: Percentile = 100.0
    settling: Second = Field(default=0.0, ge=0)


class Adc(_ConverterSection):
    """Column converters.

    Attributes:
        v_full_scale: Input of the largest code, volt.
        range_percentile: Percentile of calibration sums that maps to full scale; `auto` takes the one
            of least squared error.
        range_scope: What shares a full scale: each `tile`, or all tiles of a `layer`.
    """

    v_full_scale: Volt = Positive
    range_percentile: Percentile = 100.0
    range_scope: Literal["tile", "layer"] = "tile"


class Amplifier(Section):
    """Column amplifiers and integrators; with `gain` unset they are ideal (no offset, limit, delay or noise).

    Attributes:
        gain: Open-loop gain, V/V; unset for an ideal amplifier.
        gain_bandwidth: Gain-bandwidth product, hertz (one pole).
        offset: Input-referred offset of every amplifier, volt.
        offset_sigma: Standard deviation of the offset from column to column, volt.
        v_saturation: Output limit of either sign, volt.
        noise: Input-referred white noise density, V/sqrt(Hz); 0 leaves thermal noise out too.
    """

    gain: float | None = Field(default=None, gt=1)
    gain_bandwidth: Hertz = Field(default=1e9, gt=0)
    offset: Volt = 0.0
    offset_sigma: Volt = Field(default=0.0, ge=0)
    v_saturation: Volt = Field(default=1.0, gt=0)
    noise: float = Field(default=0.0, ge=0)


class Timing(Section):
    """One read cycle, for transient reads and waveforms.

    Rows are enabled from 0 to 0.9 of the cycle; the sample-and-hold tracks from 0.1 to
    0.8 and holds to the end. With pulse-width input integrators are reset until 0.05, the
    sample-and-hold tracks from there, and pulses of full scale last from 0.1 to 0.7.

    Attributes:
        cycle: Length of a cycle, second.
        edge: Rise and fall time of the drives and clocks, second.
    """

    cycle: Second = Positive
    edge: Second = Positive


class Periphery(Section):
    """The digital half, as fixed-point arithmetic; unset parts are float64.

    Attributes:
        gate_bits: Bits with sign of gate sums and of gate outputs.
        state_bits: Bits with sign of c and h.
        sum_max: Largest gate sum; larger ones saturate.
        c_max: Largest |c|; larger ones saturate.
        table_bits: Address bits of the sigmoid and tanh lookup tables.
    """

    gate_bits: int | None = Field(default=None, ge=2, le=24)
    state_bits: int | None = Field(default=None, ge=2, le=24)
    sum_max: float = Field(default=8.0, gt=0)
    c_max: float = Field(default=8.0, gt=0)
    table_bits: int | None = Field(default=None, ge=2, le=16)


class HardwareConfig(Section):
    """The whole hardware, as a preset's TOML says it."""

    memristor: AnyMemristor
    array: Array
    drive: Drive
    dac: Dac = Dac()
    adc: Adc
    amplifier: Amplifier = Amplifier()
    timing: Timing
    periphery: Periphery = Periphery()
    programming: Programming | None = None
    device: Device = Device()
    stuck: Stuck = Stuck()
    time: Time = Time()

    def dynamic_memristor(self, purpose: str) -> DynamicMemristor:
        """Return the memristor with its dynamics.

        Raises:
            HardwareError: It has none; `purpose` says what needs them.
        """
        if isinstance(self.memristor, DynamicMemristor):
            return self.memristor
        models = " or ".join(name for name, model in MODELS.items() if issubclass(model, DynamicMemristor))
        raise HardwareError(
            f"memristor.model is {self.memristor.model}, a device without dynamics; {purpose} needs model {models}"
        )

    def write_pulses(self) -> Programming:
        """Return how cells are written.

        Raises:
            HardwareError: The configuration does not say it.
        """
        if self.programming is None:
            raise HardwareError(
                "the hardware has no section [programming], which says how cells are written; "
                'add one, or begin the file with extends = "default"'
            )
        return self.programming
