"""Warnings of the circuit's timing: a Build that is sound, but whose reads will differ from its sums."""

from collections.abc import Callable, Iterator

from hvae_mnn.circuit.amplifiers import added_capacitance
from hvae_mnn.circuit.crossbar import settled_cycle, settling_error, solve_array
from hvae_mnn.circuit.plan import Tile
from hvae_mnn.compiler.build import Build
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.units import show

_MOST_TRIMMED = 0.5  # of an integrator's capacitor; see `feedback_capacitance`
_BITS_UNQUANTISED = 16  # whose LSB settling is held against where there is no ADC


def physics_warnings(build: Build) -> tuple[str, ...]:
    """Return one line for each kind of fault of the circuit's timing, with the worst tile and what mends it."""
    return tuple(_warnings(build))


def _warnings(build: Build) -> Iterator[str]:
    hardware = build.manifest.hardware
    if hardware.drive.pulsed:
        yield from _slow_integrators(build, hardware)
    yield from _unsettled(build, hardware)


def _slow_integrators(build: Build, hardware: HardwareConfig) -> Iterator[str]:
    """Say where an amplifier's bandwidth adds more to an integrator's capacitance than can be trimmed."""
    tile, added = _worst(build, lambda tile: added_capacitance(tile.plan, hardware, solve_array(tile, hardware).load))
    if added > _MOST_TRIMMED:
        yield (
            f"with timing.cycle = {show(hardware.timing.cycle, 's')}, the bandwidth of {tile.plan.name}'s amplifiers "
            f"adds {added:.0%} to their capacitors, more than the half that is trimmed: sums come out too small. "
            f"It needs {show(hardware.timing.cycle * added / _MOST_TRIMMED, 's')}, or more amplifier.gain_bandwidth"
        )


def _unsettled(build: Build, hardware: HardwareConfig) -> Iterator[str]:
    """Say where a read in time would be taken too early, or an integrator's amplifier is too slow for its pulses."""
    tile, error = _worst(build, lambda tile: settling_error(tile, hardware))
    quarter = 0.25 / 2 ** ((hardware.adc.bits or _BITS_UNQUANTISED) - 1)
    if error > quarter:
        needed = show(settled_cycle(tile, hardware, quarter), "s")
        pulses = hardware.drive.pulsed
        affected = "pulses are cut short" if pulses else "reads in time will differ from settled ones"
        yield (
            f"with timing.cycle = {show(hardware.timing.cycle, 's')}, {tile.plan.name} is sampled {error:.2g} of "
            f"a step early, more than 1/4 LSB; {affected}. It needs {needed}"
        )


def _worst(build: Build, measure: Callable[[Tile], float]) -> tuple[Tile, float]:
    found = {name: measure(tile) for name, tile in build.tiles.items()}
    name = max(found, key=lambda each: found[each])
    return build.tiles[name], found[name]
