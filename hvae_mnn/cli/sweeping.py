"""The command that measures many dies: sweep-variation."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvae_mnn.cli.command import Command
from hvae_mnn.cli.options import FOLDER, json_option, name_hardware, set_option
from hvae_mnn.reports.terminal import simulation_progress

if TYPE_CHECKING:
    from hvae_mnn.experiments.sweep.plan import Study
    from hvae_mnn.experiments.sweep.sentences import SweepSentences
    from hvae_mnn.hardware.config import HardwareConfig
    from hvae_mnn.model.checkpoint import Checkpoint


@click.command(
    cls=Command,
    name="sweep-variation",
    epilog="hvae-mnn sweep-variation --axis device.sigma --values 0,0.02,0.05,0.1 --trials 100 --out sweep/\n"
    "hvae-mnn sweep-variation --plan plan.toml --scheduler tcp://host:8786 --out sweep/",
    interrupted="the same command goes on from what was finished",
)
@click.option("--build", "build_dir", type=FOLDER, help="A compiled build, whose model and hardware are varied.")
@click.option("--model", metavar="NAME|FILE", help="Model to use without --build.  [default: grammar]")
@click.option("--hardware", metavar="PRESET|FILE", help="Hardware to use without --build.  [default: default]")
@set_option
@click.option(
    "--axis",
    "axes",
    multiple=True,
    metavar="KEY[,KEY]",
    help="Key of the hardware to vary, or several that move together. Repeatable, for a grid.",
)
@click.option("--values", multiple=True, metavar="V1,V2,...", help="Values of the axis; one list for each --axis.")
@click.option("--plan", "plan_file", type=FOLDER, metavar="FILE", help="TOML of several studies, instead of --axis.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    metavar="N",
    help="Dies at each point, but of studies that say their own.  [default: the plan's, or 20]",
)
@click.option(
    "--corpus",
    default="grammar",
    show_default=True,
    metavar="NAME|FOLDER",
    help="Where test sentences are from: `grammar`, or a folder with NAME.test.txt.",
)
@click.option("--sentences", type=click.IntRange(min=1), default=100, show_default=True, help="Test sentences to draw.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31),
    default=0,
    show_default=True,
    help="Seed of the draw and of the latent's noise; trial t is the die of device.seed = seed + t.",
)
@click.option(
    "--backend",
    type=click.Choice(["nodal", "spice"]),
    default="nodal",
    show_default=True,
    help="The circuit in numpy, or all trials in ngspice.",
)
@click.option(
    "--spice-check",
    type=click.IntRange(min=0),
    default=0,
    metavar="K",
    help="Repeat K trials in ngspice and compare.",
)
@click.option(
    "--yield-at",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Least share of words as in software for a die to be good.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes to measure with.  [default: cores]")
@click.option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler to measure with, tcp://host:8786.")
@click.option(
    "--chunk", type=click.IntRange(min=1), help="Trials of a point to measure together.  [default: what is fastest]"
)
@click.option(
    "--device", metavar="NAME", help="Where torch multiplies tiles, e.g. cuda; numpy on the processor if not given."
)
@click.option("--out", type=FOLDER, default=Path("sweep"), show_default=True, help="Sweep folder to write.")
@json_option
def sweep_variation(
    build_dir: Path | None,
    model: str | None,
    hardware: str | None,
    overrides: tuple[str, ...],
    axes: tuple[str, ...],
    values: tuple[str, ...],
    plan_file: Path | None,
    trials: int | None,
    corpus: str,
    sentences: int,
    seed: int,
    **options: Any,
) -> None:
    """Measure what device and circuit variation costs, over many dies.

    Each trial programs the model into another die and lets it read the same test sentences, free-running and
    teacher-forced, beside the software model. Points of a grid are measured on the same dies.

    The same command goes on with a sweep that was interrupted.
    """
    if build_dir is not None and (model or hardware):
        raise click.UsageError("--build already says model and hardware; leave --model and --hardware out")
    if bool(axes) == (plan_file is not None) or (plan_file is not None and values):
        raise click.UsageError("give --axis KEY with --values V1,V2,..., or --plan FILE")
    if len(axes) != len(values):
        raise click.UsageError(f"{len(axes)} --axis and {len(values)} --values; give one list of values for each axis")
    _check_options(**options)
    studies = _read_studies(plan_file, tuple(zip(axes, values, strict=True)), trials)
    checkpoint, config, names = _open_model(build_dir, model, hardware, overrides)
    drawn = _draw_sentences(checkpoint, corpus, sentences, seed)
    _sweep(checkpoint, config, studies, drawn, names, {"seed": seed, **options})


def _check_options(
    backend: str,
    spice_check: int,
    workers: int | None,
    scheduler: str | None,
    chunk: int | None,
    device: str | None,
    **others: Any,
) -> None:
    if backend == "spice" and (spice_check or scheduler or chunk or device):
        raise click.UsageError("--spice-check, --scheduler, --chunk and --device are of --backend nodal")
    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler has workers of its own; leave --workers out")


def _read_studies(plan_file: Path | None, axes: tuple[tuple[str, str], ...], trials: int | None) -> "tuple[Study, ...]":
    from hvae_mnn.experiments.sweep.plan import DEFAULT_TRIALS, make_study, read_studies

    if plan_file is not None:
        return read_studies(plan_file, trials)
    return (make_study(axes, trials or DEFAULT_TRIALS),)


def _open_model(
    build_dir: Path | None, model: str | None, hardware: str | None, overrides: tuple[str, ...]
) -> "tuple[Checkpoint, HardwareConfig, dict[str, Any]]":
    """Return the model, its hardware and their names."""
    from hvae_mnn.compiler.build import load_build
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.experiments.sweep.plan import check_overrides
    from hvae_mnn.hardware.files import load_hardware, override_hardware

    check_overrides(overrides)
    if build_dir is not None:
        build = load_build(build_dir)
        name = name_hardware(build.manifest.hardware_name, overrides)
        names = {"model_name": str(build_dir), "hardware_name": name}
        return build.checkpoint, override_hardware(build.manifest.hardware, overrides), names
    model, hardware = model or "grammar", hardware or "default"
    config = load_hardware(hardware, overrides)
    return open_model(model), config, {"model_name": model, "hardware_name": name_hardware(hardware, overrides)}


def _draw_sentences(checkpoint: "Checkpoint", corpus: str, count: int, seed: int) -> "SweepSentences":
    from hvae_mnn.experiments.sweep.sentences import draw_sentences

    drawn = draw_sentences(checkpoint, corpus, count, seed)
    if drawn.left_out:
        click.echo(
            f"{drawn.left_out} test sentences of {drawn.corpus} were left out: longer than the model reads, or without "
            "a word that it knows",
            err=True,
        )
    if len(drawn.ids) < count:
        click.echo(f"{len(drawn.ids)} sentences are all that there are", err=True)
    if drawn.unknown > 0.1:
        click.echo(f"Warning: the model does not know {drawn.unknown:.0%} of the sentences' words", err=True)
    return drawn


def _sweep(
    checkpoint: "Checkpoint",
    config: "HardwareConfig",
    studies: "tuple[Study, ...]",
    drawn: "SweepSentences",
    names: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Measure, draw and print."""
    from hvae_mnn.experiments.sweep.run import SweepSettings, make_plan, run_sweep
    from hvae_mnn.experiments.sweep.summary import summarise
    from hvae_mnn.reports.figures.sweeps import draw_studies
    from hvae_mnn.reports.sweep_table import print_summary

    out, of_plan = options["out"], ("seed", "backend", "spice_check", "yield_at", "device")
    settings = SweepSettings(options["workers"], options["scheduler"], options["chunk"])
    plan, points = make_plan(checkpoint, config, studies, drawn, **names, **{name: options[name] for name in of_plan})
    with simulation_progress() as report:
        sweep = run_sweep(
            plan,
            points,
            checkpoint,
            drawn,
            out,
            settings,
            draw=draw_studies,
            tell=lambda line: click.echo(line, err=True),
            progress=report,
        )
    summary = summarise(sweep.rows, sweep.plan, sweep.spice_check)
    if options["as_json"]:
        click.echo(json.dumps(summary.to_json()))
        return
    print_summary(summary)
