"""What the command line shows: results on stdout, progress on stderr and only on a terminal."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from quantiphy import Quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvae_mnn.compiler.ir_drop import IrDrop
    from hvae_mnn.experiments.calibrate import CalibrationReport
    from hvae_mnn.experiments.device import DeviceCurves
    from hvae_mnn.experiments.explain import Explanation, Measurement
    from hvae_mnn.experiments.programmed import Programmed
    from hvae_mnn.hardware.config import HardwareConfig
    from hvae_mnn.model.training.train import Progress as TrainingProgress
    from hvae_mnn.runtime.progress import Progress as SimulationProgress
    from hvae_mnn.simulation.run import Run


def print_run(run: "Run") -> None:
    """Print both sentences, where they part, and the error of each layer."""
    click.echo(f"sentence   {' '.join(run.tokens)}")
    if run.unknown:
        click.echo(f"unknown    {' '.join(run.unknown)}")
    click.echo(f"software   {run.software.text}")
    click.echo(f"hardware   {run.hardware.text}")
    place = run.parts_at
    if place is None:
        click.echo("           the same words")
    else:
        words = [_word(side.tokens, place) for side in (run.hardware, run.software)]
        click.echo(f"           they part at word {place + 1}: {words[0]} instead of {words[1]}")
    click.echo(f"agreement  {run.agreement:.0%} of words")
    click.echo(_LAYER_HEADING)
    for layer in run.layers:
        _print_layer(layer.to_json())
    version = f" (ngspice {run.engine.version})" if run.engine.version else ""
    click.echo(f"{run.engine.name}{version}, hardware {run.hardware_preset}, seed {run.seed}, {run.seconds:.2f} s")


_LAYER_HEADING = "layer      steps  rms error  max error  clipped in  clipped out   (errors in % of full scale)"


def _print_layer(summary: dict[str, Any]) -> None:
    click.echo(
        f"{summary['name']:<10} {summary['steps']:>5}  {100 * summary['rms_error']:>8.3f}%  "
        f"{100 * summary['max_error']:>8.3f}%  {summary['clipped_inputs']:>10}  {summary['clipped_outputs']:>11}"
    )


def print_lines(lines: "Sequence[dict[str, Any]]") -> None:
    """Print how many of many sentences came out as in software, and the error of each layer."""
    agreements = [line["agreement"] for line in lines]
    mean, whole = sum(agreements) / len(lines), sum(value == 1 for value in agreements)
    spread = sum((value - mean) ** 2 for value in agreements) / max(len(lines) - 1, 1)
    first = lines[0]
    click.echo(f"sentences  {len(lines)}, seeds {first['seed']} to {lines[-1]['seed']}")
    click.echo(
        f"agreement  {mean:.1%} +- {math.sqrt(spread / len(lines)):.1%} of words; {whole} sentences the same words"
    )
    click.echo(_LAYER_HEADING)
    for i, layer in enumerate(first["layers"]):
        each = [line["layers"][i] for line in lines]
        steps = sum(found["steps"] for found in each)
        squares = sum(found["steps"] * found["rms_error"] ** 2 for found in each)
        clipped = {name: sum(found[name] for found in each) for name in ("clipped_inputs", "clipped_outputs")}
        largest = max(found["max_error"] for found in each)
        _print_layer(
            {**layer, **clipped, "steps": steps, "rms_error": math.sqrt(squares / steps), "max_error": largest}
        )
    engine, seconds = first["engine"], sum(line["seconds"] for line in lines)
    version = f" (ngspice {engine['version']})" if engine["version"] else ""
    click.echo(f"{engine['name']}{version}, hardware {first['hardware_preset']}, {seconds:.1f} s")


def print_device(curves: "DeviceCurves") -> None:
    """Print a device's numbers and how far numpy is from ngspice on its staircase."""
    found, stairs = curves.to_json(), curves.staircase
    apart = abs(stairs.spice - stairs.numpy).max() / (found["g_max"] - found["g_min"])

    def show(key: str, unit: str) -> str:
        return Quantity(found[key], unit).render(prec=3)

    rows = {
        "resistance": f"{show('r_on', 'ohm')} to {show('r_off', 'ohm')}",
        "conductance used": f"{show('g_min', 'S')} to {show('g_max', 'S')}",
        "reads": f"{show('v_read', 'V')}, threshold {show('threshold', 'V')}",
        "SET": f"{show('v_set', 'V')}, {show('set_time', 's')} from end to end (closed form without window)",
        "RESET": f"{show('v_reset', 'V')}, {show('reset_time', 's')} from end to end (closed form without window)",
        "staircase": f"numpy and ngspice apart by at most {apart:.2g} of the range",
    }
    print_table(rows)


def print_ir_drop(found: "Sequence[IrDrop]", config: "HardwareConfig") -> None:
    """Print what wires cost, a line a tile size and layer."""
    array = config.array
    click.echo(
        f"IR drop with {Quantity(array.r_wire, 'ohm').render(prec=3)} a segment, drivers of "
        f"{Quantity(array.r_driver, 'ohm').render(prec=3)}, {Quantity(array.g_min, 'S').render(prec=3)} to "
        f"{Quantity(array.g_max, 'S').render(prec=3)}, {array.scheme}; rms error of tile sums, % of their rms"
    )
    click.echo("tile  layer      tiles  random inputs  calibration inputs  weakest crosspoint")
    for row in found:
        click.echo(
            f"{row.tile_size:<5} {row.layer:<10} {row.tiles:<6} {row.random:>12.2%}  {row.calibration:>18.2%}  "
            f"{row.weakest:>18.1%}"
        )


def print_programmed(programmed: "Programmed") -> None:
    """Print how many cells reached their target, in how many pulses, and how numpy and SPICE compare."""
    summary = programmed.to_json()
    click.echo("by     cells    stuck  given up  within 1 %  rms error  pulses: mean  99 %  most     energy")
    for name, found in (("numpy", summary["numpy"]), ("SPICE", summary["spice"])):
        if found is not None and found["rms_error"] is not None:
            energy = Quantity(found["energy"], "J").render(prec=3)
            click.echo(
                f"{name:<6} {found['cells']:<8} {found['stuck']:<6} {found['given_up']:<9} "
                f"{found['within_1_percent']:<11.2%} {found['rms_error']:<10.3%} {found['mean_pulses']:>12.2f} "
                f"{found['p99_pulses']:>5.0f} {found['max_pulses']:>5} {energy:>10}"
            )
    if summary["spice"] is not None:
        both = summary["spice"]
        click.echo(
            f"SPICE and numpy: equal pulse counts in {both['equal_pulses']} of {both['cells']} cells, "
            f"G apart by at most {both['largest_difference']:.2g} of range"
        )
    click.echo(f"errors in parts of the conductance range, hardware {programmed.hardware_name}, seed {programmed.seed}")


def print_calibration(found: "CalibrationReport") -> None:
    """Print full scales, what is clipped and how far sums are off, before and after."""
    click.echo("layer      build   clipped in  clipped out  rms error  rms error of gate sums  full scales")
    for layer in found.layers:
        rows = (("before", layer.before, layer.x_max_before), ("after", layer.after, layer.x_max_after))
        for name, errors, scales in rows:
            click.echo(
                f"{layer.name:<10} {name:<6} {errors.clipped_inputs:>11.3%}  {errors.clipped_sums:>11.3%}  "
                f"{errors.rms_error:>9.3%}  {errors.gate_rms_error:>22.4f}  "
                + ", ".join(f"{group} {x_max:.3g}" for group, x_max in scales.items())
            )
    click.echo(
        f"{found.sentences} training sentences of {found.corpus} and {found.held_out} held out, "
        f"{found.unknown:.1%} of words unknown; rms error in % of each tile's full scale; "
        f"hardware {found.hardware_name}, seed {found.seed}"
    )


def print_explanation(found: "Explanation") -> None:
    """Print the error of each layer and the words kept, a line a factor: alone, and with those before it."""
    width = 2 + max(8, *(len(name) for name in found.layers))
    names = "".join(f"{name:>{width}}" for name in (*found.layers, "words"))

    def show(measured: "Measurement") -> str:
        shares = (f"{100 * measured.errors[name]:.3f}%" for name in found.layers)
        return "".join(f"{share:>{width}}" for share in (*shares, f"{measured.agreement:.0%}"))

    click.echo(f"sentence   {found.sentence}")
    click.echo(f"hardware   {found.hardware_preset}")
    click.echo("rms error of column sums in % of full scale; words equal to those of the software model in free run")
    click.echo(f"{'':<20}{'alone':>{len(names)}}   {'with all above':>{len(names)}}")
    click.echo(f"{'':<20}{names}   {names}")
    click.echo(f"{'ideal':<20}{show(found.ideal)}")
    for effect in found.effects:
        alone = show(effect.alone) if effect.present else f"{'not in this hardware':>{len(names)}}"
        click.echo(f"{effect.factor:<20}{alone}   {show(effect.cumulative)}")
    check = found.check
    if check is None:
        click.echo("check      none: the run was read with the weights themselves")
        return
    text = f"check      the whole hardware gives {check.equal} of the run's {check.readings} column sums again"
    if check.equal < check.readings:
        text += f", the others within {100 * check.largest:.2g}% of full scale"
    click.echo(f"{text} ({check.engine})" + ("" if check.agrees else ": these are not the run's reads"))


def _word(tokens: tuple[str, ...], place: int) -> str:
    return f'"{tokens[place]}"' if place < len(tokens) else "the end"


def print_table(rows: dict[str, str]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        click.echo(f"{name:<{width}}  {value}")


@contextmanager
def simulation_progress() -> Iterator["SimulationProgress"]:
    """Show steps and the time left on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    text, left = TextColumn("{task.description}"), TextColumn("left")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), left)
    console = Console(stderr=True)
    options: dict[str, Any] = {"transient": True, "redirect_stdout": False}
    with Progress(*columns, console=console, disable=not console.is_terminal, **options) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            elif done < bars.tasks[tasks[stage]].completed:  # the next sentence's
                bars.reset(tasks[stage])
            bars.update(tasks[stage], completed=done, total=total)

        yield report


@contextmanager
def training_progress() -> Iterator["TrainingProgress"]:
    """Show epochs and batches on a terminal; one line an epoch on stderr everywhere."""
    from rich.console import Console
    from rich.progress import Progress

    from hvae_mnn.model.training.train import TrainingEvent

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("training", total=None)

        def report(event: TrainingEvent) -> None:
            label = f"epoch {event.epoch}/{event.epochs}, loss {event.train_loss:.2f}"
            bars.update(task, description=label, completed=event.batch, total=event.batches)
            if event.valid_loss is not None:
                console.print(
                    f"{label}, validation {event.valid_loss:.2f}, best epoch {event.best_epoch}",
                    highlight=False,
                )

        yield report
