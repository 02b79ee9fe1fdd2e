"""Cell imperfections: writing, programming error, stuck cells, retention, read noise.

These are sections of `hvae_mnn.hardware.config`, which has the rest of the configuration.
"""

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from hvae_mnn.hardware.units import NotNegative, Positive, Second, Section, Siemens, Volt


class Programming(Section):
    """How cells are written: one rectangular pulse and one read at a time until within tolerance.

    Attributes:
        access: `selector` (a transistor at each cell) or `passive` (the cells of the written
            row and column see half of the pulse).
        v_set: SET pulse, volt.
        v_reset: RESET pulse, volt.
        width_min: Shortest pulse and resolution of widths, second.
        width_max: Longest pulse, second.
        read_time: Length of a verifying read at `drive.v_read`, second.
        tolerance: Accepted |G - target| at a verifying read, as a part of g_max - g_min.
        max_pulses: Pulses after which a cell is given up.
        verify_noise: Standard deviation of a verifying read, as a part of g_max - g_min.
        rate_d2d: Spread of the switching rate from device to device, sigma of its logarithm.
        rate_c2c: The same from pulse to pulse.
    """

    access: Literal["selector", "passive"] = "selector"
    v_set: Volt = Positive
    v_reset: Volt = Field(lt=0)
    width_min: Second = Positive
    width_max: Second = Positive
    read_time: Second = Positive
    tolerance: float = Field(gt=0, le=0.5)
    max_pulses: int = Field(ge=1, le=100_000)
    verify_noise: float = Field(default=0.0, ge=0, le=0.5)
    rate_d2d: float = Field(default=0.0, ge=0, le=2)
    rate_c2c: float = Field(default=0.0, ge=0, le=2)


class ErrorModel(Section):
    """What a cell that was asked for G holds later: G + mean(G, t) + sigma(G, t) n, n ~ N(0, 1).

    Mean and sigma are polynomials of G / g_reference at some times after programming, and linear
    in the logarithm of time in between.

    Attributes:
        source: Where the numbers come from.
        g_low: Lowest target that the source covers, siemens.
        g_high: Highest target that the source covers, siemens.
        g_reference: Unit of G in the polynomials, siemens.
        seconds: Times, rising, second.
        mean: For each time the coefficients from the constant upwards, siemens; unset for 0.
        sigma: The same for the standard deviation.
    """

    source: str
    g_low: Siemens = NotNegative
    g_high: Siemens = Positive
    g_reference: Siemens = Positive
    seconds: tuple[Second, ...] = Field(min_length=1)
    mean: tuple[tuple[float, ...], ...] | None = None
    sigma: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _one_polynomial_a_time(self) -> "ErrorModel":
        times = self.seconds
        if any(t <= 0 for t in times) or any(b <= a for a, b in pairwise(times)):
            raise ValueError(f"has seconds = {list(times)}; expected positive and rising times")
        for name, rows in (("mean", self.mean), ("sigma", self.sigma)):
            if rows is not None and (len(rows) != len(times) or not all(rows)):
                raise ValueError(f"has {len(rows)} polynomials of {name} for {len(times)} times; expected one each")
        return self


class Device(Section):
    """How far conductances are from their targets: as programmed, and from read to read.

    Attributes:
        sigma: Lognormal programming error, standard deviation of ln G.
        error_model: Error as a function of G and time, instead of sigma: a table, the name of
            a shipped one, or a TOML file such as `hvae-mnn program` writes.
        read_sigma: Cycle-to-cycle noise of a cell, drawn anew at each read: standard deviation as a part of g_max.
        seed: Seed of every device's error.
    """

    sigma: float = Field(default=0.0, ge=0, le=2)
    error_model: ErrorModel | None = None
    read_sigma: float = Field(default=0.0, ge=0, le=0.5)
    seed: int = Field(default=0, ge=0)


class Stuck(Section):
    """Cells that do not follow their programming.

    Attributes:
        p_lrs: Probability of a cell stuck at low resistance, 1/r_on.
        p_hrs: Probability of a cell stuck at high resistance, 1/r_off.
    """

    p_lrs: float = Field(default=0.0, ge=0, le=1)
    p_hrs: float = Field(default=0.0, ge=0, le=1)


class Time(Section):
    """When the array is read.

    Attributes:
        seconds: Time since programming, second; unset for the first that the error model knows.
    """

    seconds: Second | None = Field(default=None, gt=0)
