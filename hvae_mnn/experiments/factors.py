"""The parts of a hardware that ideal hardware has not, and a Build with some of them only."""

from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from hvae_mnn.circuit.plan import Tile, TilePlan
from hvae_mnn.compiler.build import Build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.hardware.cells import Device, Stuck, Time
from hvae_mnn.hardware.config import HardwareConfig

INPUT, OUTPUT, CLIPPING = "input quantisation", "output quantisation", "clipping"

_EXACT_CONVERTER = {"bits": None, "offset": 0.0, "gain_error": 0.0, "inl": 0.0}


def _with_exact_inputs(hardware: HardwareConfig) -> HardwareConfig:
    """Bit planes need bits: without, bit-serial input is amplitude input."""
    dac = hardware.dac.model_copy(update={**_EXACT_CONVERTER, "settling": 0.0})
    encoding = hardware.drive.encoding
    drive = hardware.drive.model_copy(update={"encoding": "amplitude" if encoding == "bit-serial" else encoding})
    return hardware.model_copy(update={"dac": dac, "drive": drive})


def _with_exact_conductances(hardware: HardwareConfig) -> HardwareConfig:
    array = hardware.array.model_copy(update={"weight_percentile": 100.0})
    device = Device(seed=hardware.device.seed)  # other parts draw from it too
    return hardware.model_copy(update={"array": array, "device": device, "stuck": Stuck(), "time": Time()})


def _without_wires(hardware: HardwareConfig) -> HardwareConfig:
    if not (hardware.array.r_wire or hardware.array.r_driver):
        return hardware
    bare = {"r_wire": 0.0, "r_driver": 0.0, "compensate": False, "parasitics": "none"}
    return hardware.model_copy(update={"array": hardware.array.model_copy(update=bare)})


def _with_ideal_amplifiers(hardware: HardwareConfig) -> HardwareConfig:
    return hardware.model_copy(update={"amplifier": hardware.amplifier.model_copy(update={"gain": None})})


def _with_exact_outputs(hardware: HardwareConfig) -> HardwareConfig:
    return hardware.model_copy(update={"adc": hardware.adc.model_copy(update=_EXACT_CONVERTER)})


def _without_clipping(hardware: HardwareConfig) -> HardwareConfig:
    return hardware  # a matter of the values, not of the hardware alone: see `widen_range`


def _with_float_periphery(hardware: HardwareConfig) -> HardwareConfig:
    unset = {"gate_bits": None, "state_bits": None, "table_bits": None}
    return hardware.model_copy(update={"periphery": hardware.periphery.model_copy(update=unset)})


_IDEAL: Mapping[str, Callable[[HardwareConfig], HardwareConfig]] = {
    INPUT: _with_exact_inputs,
    "conductance": _with_exact_conductances,
    "wires": _without_wires,
    "amplifier": _with_ideal_amplifiers,
    OUTPUT: _with_exact_outputs,
    CLIPPING: _without_clipping,
    "periphery": _with_float_periphery,
}
FACTORS = tuple(_IDEAL)
"""In the order of the signal's way, which is the order they add up in."""


def hardware_with(full: HardwareConfig, active: Set[str]) -> HardwareConfig:
    """Return hardware with some factors only, ideal in all others."""
    for factor, make_ideal in _IDEAL.items():
        if factor not in active:
            full = make_ideal(full)
    return full


def compile_with(build: Build, active: Set[str]) -> Build:
    """Compile a Build's model for its hardware with some factors only.

    Full scales are chosen by converters and encoding, so those stay as they are until the tiles are compiled.
    """
    full = build.manifest.hardware
    hardware = hardware_with(full, active)
    planned = hardware.model_copy(update={"dac": full.dac, "adc": full.adc, "drive": full.drive})
    compiled = compile_model(build.checkpoint, planned, build.manifest.hardware_name)
    return replace(compiled, manifest=compiled.manifest.model_copy(update={"hardware": hardware}))


def widen_range(build: Build, bits: int, factor: float) -> Build:
    """Return a Build whose ADCs have other bits and `factor` times the full scale; the circuit is the same."""
    hardware = build.manifest.hardware
    adc = hardware.adc.model_copy(update={"bits": bits, "v_full_scale": factor * hardware.adc.v_full_scale})

    def widen(plan: TilePlan) -> TilePlan:
        return plan.model_copy(update={"scale": factor * plan.scale, "full_scale": factor * plan.full_scale})

    layers = tuple(
        layer.model_copy(update={"tiles": tuple(widen(plan) for plan in layer.tiles)})
        for layer in build.manifest.layers
    )
    tiles = {name: Tile(widen(tile.plan), tile.g_target, tile.g) for name, tile in build.tiles.items()}
    changed = {"hardware": hardware.model_copy(update={"adc": adc}), "layers": layers}
    return replace(build, manifest=build.manifest.model_copy(update=changed), tiles=tiles)
