"""Tile to SPICE text: one deck a tile, with its drivers, amplifiers and converters.

Names in a deck say where a part stands: `Rm_12_7` is the memristor of row 12, column 7.
Nodes: `code<j>` input code, `rp<j>`/`rn<j>` row at +V/-V, `c<k>` bit line, `out<k>`
amplifier, `hold<k>` sample-and-hold, `adc<k>` output code, `en` row enable, `clk` sampling
clock; with pulse-width input `level<j>` a pulse's signed length, `tick` the pulses' clock, `reset`
that of the integrators; where cells have read noise `noisy<k>`, the amplifier with `Vread_<k>` added.
Functions named `emit_*` yield lines and touch no file.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.circuit.amplifiers import feedback_capacitance
from hvae_mnn.circuit.converters import Converter
from hvae_mnn.circuit.crossbar import solve_array
from hvae_mnn.circuit.die import TileErrors
from hvae_mnn.circuit.encoding import driver, split_cycles
from hvae_mnn.circuit.plan import BIAS, LayerPlan, Tile
from hvae_mnn.circuit.spice import names
from hvae_mnn.circuit.spice.array_deck import emit_array
from hvae_mnn.circuit.spice.device_library import DEVICE_LIBRARY
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.timing import (
    C_HOLD,
    ENABLE_STOP,
    LONGEST_PULSE,
    PULSE_START,
    R_RESET,
    R_SWITCH,
    RESET_STOP,
    SAMPLE_START,
    SAMPLE_STOP,
    cycles_per_read,
    pulse_ramp,
    pulse_step,
    pulse_ticks,
    pulse_time,
)

Array = NDArray[np.float64]

EVEN_STEPS, FINE_STEPS = "1e6", "1"
"""ngspice's `trtol` that leaves time steps as they are asked for, and the one that lets truncation errors choose."""

_SAMPLE_HOLD = f"r_switch={R_SWITCH:.9g} c_hold={C_HOLD:.9g}"
_SHORT_HOLD = 0.02  # of a cycle; an edge is 1/50 at most

_WIRES = {"full": "every segment in the deck", "reduced": "reduced to the exact admittance of the columns"}


def format_deck(tile: Tile, layer: LayerPlan, config: HardwareConfig, inputs: Array) -> str:
    """Return a tile's deck.

    Args:
        tile: Conductances and scales.
        layer: The layer it belongs to.
        config: The hardware.
        inputs: Calibration vector that a bare run replays, fractions of full scale, (inputs,).
    """
    ports, errors = solve_array(tile, config), TileErrors.of_tile(tile.plan, config)
    lines: list[str] = []
    lines += emit_header(tile, layer, config)
    lines += (f".include ../../../lib/{name}.lib" for name in library_names(config))
    lines += emit_options(config)
    lines += emit_clocks(config)
    lines += emit_drivers(tile, config, inputs, errors)
    lines += emit_array(tile, config, ports)
    lines += emit_columns(tile, config, ports.load, errors)
    lines += emit_analysis(tile, config)
    return "\n".join(lines) + "\n.end\n"


def library_names(config: HardwareConfig) -> tuple[str, ...]:
    """Return the libraries a configuration's decks use, in order of inclusion."""
    pulses = config.drive.pulsed
    column = ("integrator" if pulses else "transimpedance") + ("" if config.amplifier.gain else "_ideal")
    reference = pulses and config.array.scheme == "reference-column"
    amplifiers = [column, column.replace("integrator", "transimpedance")] if reference else [column]
    dynamic = config.array.memristor == "dynamic"
    memristor = [config.dynamic_memristor("array.memristor = dynamic").library] if dynamic else []
    device = [] if config.array.wires == "reduced" else [DEVICE_LIBRARY]
    width = ["pulse_width"] if pulses else []
    return (_dac_name(config), *width, _adc_name(config), *amplifiers, "sample_hold", *memristor, *device)


def _dac_name(config: HardwareConfig) -> str:
    dac = config.dac
    if dac.bits is None:
        return "dac_ideal"
    settles = dac.settling and not config.drive.pulsed
    return "dac_real" if dac.offset or dac.gain_error or dac.inl or settles else "dac"


def _adc_name(config: HardwareConfig) -> str:
    adc = config.adc
    if adc.bits is None:
        return "adc_ideal"
    return "adc_real" if adc.offset or adc.gain_error or adc.inl else "adc"


def emit_header(tile: Tile, layer: LayerPlan, config: HardwareConfig) -> Iterator[str]:
    """Yield the title and what a reader needs to use the deck on its own."""
    plan = tile.plan
    inputs = sum(group.size for group in layer.groups)
    bias = plan.inputs.count(BIAS)
    yield f"* {plan.name}: {layer.cell} layer {layer.name}, gate {plan.gate}"
    yield f"* rows: {plan.rows - bias} of the layer's {inputs} inputs and {bias} of bias"
    yield f"* columns: hidden units {plan.column_start} to {plan.column_stop - 1} of {layer.hidden}"
    if config.array.wires != "none":
        array = config.array
        yield f"* wires: {array.r_wire:g} ohm a segment, drivers {array.r_driver:g} ohm, {_WIRES[array.wires]}"
    weight = "w = k (G+ - G-)" if plan.r_s is None else "w = k (1/r_s - G)"
    yield f"* weights: {config.array.scheme}, {weight}, k = {plan.weight_per_siemens:.6g} per siemens"
    yield "* units: volt, ampere, ohm, second; on code nodes 1 V is 1 code (1 V is full scale where unquantised)"
    yield "* ports: vcode_<row> input code, v(adc<column>) output code, v(hold<column>) the same before the ADC"
    if config.device.read_sigma:
        yield "* read noise: vread_<column>, volt, at the amplifier's output; every read has its own, 0 here"
    yield from _describe_read(plan.scale, config)


def _describe_read(scale: float, config: HardwareConfig) -> Iterator[str]:
    """Yield how codes become a gate sum, and when."""
    cycle = config.timing.cycle
    yield f"* read: gate sum = {scale:.6g} x code / code_max, added to the gate's other row tiles"
    if config.drive.bit_serial:
        yield f"*       {cycles_per_read(config)} cycles, one a bit of the magnitudes, codes shifted and added;"
        yield "*       the sources here replay the highest bit"
    if config.drive.pulsed:
        yield f"* cycle: {cycle:g} s; integrators reset until {RESET_STOP * cycle:g} s; rows pulsed from"
        length, ticks = pulse_time(config), pulse_ticks(config)
        yield f"*        {PULSE_START * cycle:g} s, full scale for {length:g} s = {ticks} ticks;"
        yield f"*        sampled until {SAMPLE_STOP * cycle:g} s, held to the end"
        return
    yield f"* cycle: {cycle:g} s; rows driven until {ENABLE_STOP * cycle:g} s, sampled from "
    yield f"*        {SAMPLE_START * cycle:g} s to {SAMPLE_STOP * cycle:g} s, held to the end"
    yield "*        `op` is the sampling state"


def emit_options(config: HardwareConfig) -> Iterator[str]:
    """Yield the solver's tolerances: tight, so that a reading is the network's and not the solver's.

    Pulses are integrated by even steps, each exactly (`hvae_mnn.circuit.encoding.pulse_step`): Gear's
    method damps what the amplifiers' poles ring with, and no truncation error cuts a step.
    """
    yield ".options reltol=1e-6 abstol=1e-14 vntol=1e-9 gmin=1e-15"
    if config.drive.pulsed:
        yield f".options method=gear trtol={EVEN_STEPS} chgtol=1e-18"


def emit_clocks(config: HardwareConfig) -> Iterator[str]:
    """Yield the clocks: row enable and sampling, with the sampling state for DC value; with pulses reset and ticks."""
    cycle, edge = config.timing.cycle, config.timing.edge
    if config.drive.pulsed:
        yield _clock(names.RESET, 1, 0, RESET_STOP, 1.0, config)
        yield _clock(names.CLOCK, 0, 1, RESET_STOP, SAMPLE_STOP - RESET_STOP, config)
        tick = pulse_time(config) / pulse_ticks(config)
        before, after = PULSE_START * cycle / tick, (1 - PULSE_START) * cycle / tick
        yield f"{_source(names.TICK)} PWL(0 {-before:.17g} {cycle:.9g} {after:.17g})"
        yield f"{_source(names.ON)} 1"
        return
    start, width = SAMPLE_START * cycle, (SAMPLE_STOP - SAMPLE_START) * cycle
    driven, period = ENABLE_STOP * cycle, 2 * cycle
    yield f"{_source(names.ENABLE)} DC 1 PULSE(0 1 {edge:.9g} {edge:.9g} {edge:.9g} {driven:.9g} {period:.9g})"
    yield f"{_source(names.CLOCK)} DC 1 PULSE(0 1 {start:.9g} {edge:.9g} {edge:.9g} {width - edge:.9g} {period:.9g})"


def _source(clock: str) -> str:
    return f"{names.clock_source(clock)} {clock} 0"


def _clock(name: str, before: int, during: int, start: float, width: float, config: HardwareConfig) -> str:
    """Return a clock that changes once in a cycle for a time; start and width are parts of the cycle.

    Its edges are short against a time step, for a switch turns at the first step that is past the middle of one.
    """
    cycle, edge = config.timing.cycle, min(config.timing.edge, pulse_step(config) / 10)
    times = f"{start * cycle:.9g} {edge:.9g} {edge:.9g} {width * cycle - edge:.9g} {2 * cycle:.9g}"
    return f"{_source(name)} PULSE({before} {during} {times})"


def emit_drivers(tile: Tile, config: HardwareConfig, inputs: Array, errors: TileErrors) -> Iterator[str]:
    """Yield a code source and a DAC for each row, and what makes pulses of it where rows have them."""
    dac, circuit = Converter(config.dac.bits), driver(config)
    name, pulses = _dac_name(config), config.drive.pulsed
    model = name if circuit.bits is None else f"{name} code_max={circuit.code_max:g}"
    if name == "dac_real":
        model += f" lsb={1 / dac.code_max:.17g}" + (f" settling={config.dac.settling:.17g}" if not pulses else "")
    replayed = split_cycles(dac.encode(inputs)[None], config)[-1]
    ticks = f"ticks={pulse_ticks(config)} ramp={pulse_ramp(config):.17g} longest={LONGEST_PULSE:.9g}"
    width = f"v_ref={config.drive.v_read:.17g} {ticks}"
    for j, place in enumerate(tile.plan.inputs):
        code = circuit.code_max if place == BIAS else float(replayed[place])
        own = f" {errors.dac.parameters(j)}" if errors.dac else ""
        node, level, lines = names.code(j), names.level(j), f"{names.line('p', j)} {names.line('n', j)}"
        yield f"{names.code_source(j)} {node} 0 {code:.17g}"
        if pulses:
            yield f"Xdac_{j} {node} {names.ON} {level} n{level} {model} v_ref=1{own}"
            settling = f"settling={config.dac.settling:.17g}"
            yield f"Xpulse_{j} {level} {names.TICK} {lines} pulse_width {width} {settling}"
        else:
            yield f"Xdac_{j} {node} {names.ENABLE} {lines} {model} v_ref={config.drive.v_read:.17g}{own}"


def emit_columns(tile: Tile, config: HardwareConfig, load: Array, errors: TileErrors) -> Iterator[str]:
    """Yield each column's amplifier, sample-and-hold and ADC, and the reference column's amplifier.

    Args:
        tile: Conductances and scales.
        config: The hardware.
        load: Admittance between the bit lines, siemens, (amplifiers, amplifiers), which trims integrators.
        errors: What the die gives the tile.
    """
    adc, name, columns = Converter(config.adc.bits), _adc_name(config), tile.plan.columns
    model = name if adc.bits is None else f"{name} code_max={adc.code_max:g}"
    offsets, pulses = errors.offsets.tolist(), config.drive.pulsed
    c_f = feedback_capacitance(tile.plan, config, load) if pulses else 0.0
    sampled = names.noisy if config.device.read_sigma else names.out
    if tile.plan.r_reference is not None:
        reference = names.REFERENCE
        model_of_reference = _transimpedance(config, tile.plan.r_reference, offsets[-1])
        yield f"{names.amplifier(reference)} {names.bit(reference)} {reference} {model_of_reference}"
    for k in range(columns):
        if tile.plan.r_reference is not None:
            yield f"Rref_{k} {names.REFERENCE} {names.bit(k)} {tile.plan.r_reference:.17g}"
        amplifier, hold = f"{names.amplifier(k)} {names.bit(k)} {names.out(k)}", names.hold(k)
        if pulses:
            yield f"{amplifier} {names.RESET} {_integrator(config, c_f, offsets[k])}"
        else:
            yield f"{amplifier} {_transimpedance(config, tile.plan.r_f, offsets[k])}"
        own = f" {errors.adc.parameters(k)}" if errors.adc else ""
        if config.device.read_sigma:
            yield f"{names.read_noise_source(k)} {names.noisy(k)} {names.out(k)} 0"
        yield f"Xhold_{k} {sampled(k)} {hold} {names.CLOCK} sample_hold {_SAMPLE_HOLD}"
        yield f"Xadc_{k} {hold} {names.adc(k)} {model} v_full_scale={config.adc.v_full_scale:.17g}{own}"


def _transimpedance(config: HardwareConfig, r_f: float, offset: float) -> str:
    if config.amplifier.gain is None:
        return f"transimpedance_ideal r_f={r_f:.17g}"
    return f"transimpedance r_f={r_f:.17g} {_operational_amplifier(config, offset)}"


def _integrator(config: HardwareConfig, c_f: float, offset: float) -> str:
    if config.amplifier.gain is None:
        return f"integrator_ideal c_f={c_f:.17g} r_reset={R_RESET:.9g}"
    return f"integrator c_f={c_f:.17g} r_reset={R_RESET:.9g} {_operational_amplifier(config, offset)}"


def _operational_amplifier(config: HardwareConfig, offset: float) -> str:
    a = config.amplifier
    return (
        f"gain={a.gain:.17g} gain_bandwidth={a.gain_bandwidth:.17g} "
        f"offset={offset:.17g} v_saturation={a.v_saturation:.17g}"
    )


def format_cycle(config: HardwareConfig, hold: bool = True) -> str:
    """Return the `tran` command of one read cycle, with or without most of the time that it only holds its values."""
    cycle = config.timing.cycle
    if config.drive.pulsed:
        step, stop = pulse_step(config), cycle if hold else (SAMPLE_STOP + _SHORT_HOLD) * cycle
        return f"tran {step:.17g} {stop:.9g} 0 {step:.17g}"
    return f"tran {cycle / 200:.9g} {cycle:.9g} 0 {cycle / 100:.9g}"


def emit_analysis(tile: Tile, config: HardwareConfig) -> Iterator[str]:
    """Yield what a bare run computes and saves: an operating point, or a cycle where time matters.

    `ngspice -b` prints every saved node of an operating point by itself.
    """
    signals = [f"v({node})" for node in saved_nodes(tile.plan.rows, tile.plan.columns, config)]
    for start in range(0, len(signals), 16):
        yield ".save " + " ".join(signals[start : start + 16])
    if config.array.memristor == "dynamic" or config.drive.pulsed:
        yield f".{format_cycle(config)}"
        shown = " ".join(f"v({node(0)})" for node in (names.out, names.hold, names.adc))
        yield f".print tran {shown}"  # so that a bare run shows something
    else:
        yield ".op"


def saved_nodes(rows: int, columns: int, config: HardwareConfig) -> list[str]:
    """Return the nodes of a tile that its deck saves."""
    nodes = [names.RESET if config.drive.pulsed else names.ENABLE, names.CLOCK]
    nodes += [names.line("p", j) for j in range(rows)]
    nodes += [node(k) for node in (names.out, names.hold, names.adc) for k in range(columns)]
    if config.array.memristor == "dynamic":
        nodes += [names.state(j, k) for j in range(rows) for k in range(columns)]
    return nodes
