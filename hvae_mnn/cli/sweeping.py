"""The command that measures many dies: sweep-variation."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvae_mnn.cli.choosing import Chosen, choose_model
from hvae_mnn.cli.command import Command
from hvae_mnn.cli.following import tell_next
from hvae_mnn.cli.options import FOLDER, json_option, set_option
from hvae_mnn.reports.terminal import simulation_progress

if TYPE_CHECKING:
    from hvae_mnn.experiments.sweep.plan import Point, Study, SweepPlan
    from hvae_mnn.experiments.sweep.run import SweepSettings
    from hvae_mnn.experiments.sweep.sentences import SweepSentences
    from hvae_mnn.model.checkpoint import Checkpoint


@click.command(
    cls=Command,
    name="sweep-variation",
    epilog="hvae-mnn sweep-variation\n"
    "hvae-mnn sweep-variation --axis device.sigma --values 0,0.02,0.05,0.1 --trials 100 --out sweep/\n"
    "hvae-mnn sweep-variation --plan plan.toml --scheduler tcp://host:8786 --out sweep/",
    interrupted="the same command goes on from what was finished",
)
@click.option(
    "--build",
    "build_dir",
    type=FOLDER,
    help="A compiled build, whose model and hardware are varied.  [default: ./build where there is one]",
)
@click.option("--model", metavar="NAME|FILE", help="Model to take instead of a build's.  [default: grammar]")
@click.option(
    "--hardware",
    metavar="PRESET|FILE",
    help="Hardware to take instead of ./build's, or with --model.  [default: default]",
)
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
    metavar="NAME|FOLDER",
    help="Where test sentences are from: `grammar`, or a folder with NAME.test.txt.  [default: grammar where the model "
    "knows its words, else the folder that it was trained on]",
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
    corpus: str | None,
    sentences: int,
    seed: int,
    **options: Any,
) -> None:
    """Measure what device and circuit variation costs, over many dies.

    Each trial programs the model into another die and lets it read the same test sentences, free-running and
    teacher-forced, beside the software model. Points of a grid are measured on the same dies.

    Without --axis and --plan it measures the default study: programming error, wires, converter bits and amplifier
    offset, one at a time; it says beforehand how long that takes.

    The same command goes on with a sweep that was interrupted.
    """
    if build_dir is not None and (model or hardware):
        raise click.UsageError("--build already says model and hardware; leave --model and --hardware out")
    if (axes and plan_file is not None) or (values and not axes):
        raise click.UsageError("give --axis KEY with --values V1,V2,..., or --plan FILE, or neither")
    if len(axes) != len(values):
        raise click.UsageError(f"{len(axes)} --axis and {len(values)} --values; give one list of values for each axis")
    _check_options(**options)
    from hvae_mnn.experiments.sweep.plan import check_overrides

    studies = _read_studies(plan_file, tuple(zip(axes, values, strict=True)), trials)
    check_overrides(overrides)
    chosen = choose_model(build_dir, model, hardware, overrides, "grammar")
    default = not studies
    if default:
        from hvae_mnn.experiments.sweep.default import default_studies

        studies = default_studies(chosen.checkpoint, chosen.hardware, trials)
    drawn = _draw_sentences(chosen.checkpoint, corpus, sentences, seed)
    _sweep(chosen, studies, drawn, default, {"seed": seed, **options})


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
    """Return the studies that are asked for; none for the default study."""
    from hvae_mnn.experiments.sweep.plan import DEFAULT_TRIALS, make_study, read_studies

    if plan_file is not None:
        return read_studies(plan_file, trials)
    return (make_study(axes, trials or DEFAULT_TRIALS),) if axes else ()


def _draw_sentences(checkpoint: "Checkpoint", corpus: str | None, count: int, seed: int) -> "SweepSentences":
    from hvae_mnn.experiments.sweep.sentences import MOST_UNKNOWN, choose_corpus, draw_sentences

    drawn = draw_sentences(checkpoint, corpus or choose_corpus(checkpoint), count, seed)
    if drawn.left_out:
        click.echo(
            f"{drawn.left_out} test sentences of {drawn.corpus} were left out: longer than the model reads, or without "
            "a word that it knows",
            err=True,
        )
    if len(drawn.ids) < count:
        click.echo(f"{len(drawn.ids)} sentences are all that there are", err=True)
    if drawn.unknown > MOST_UNKNOWN:
        click.echo(f"Warning: the model does not know {drawn.unknown:.0%} of the sentences' words", err=True)
    return drawn


def _sweep(
    chosen: Chosen, studies: "tuple[Study, ...]", drawn: "SweepSentences", default: bool, options: dict[str, Any]
) -> None:
    """Measure, draw and print; the default study is described first."""
    from hvae_mnn.experiments.sweep.run import SweepSettings, make_plan, run_sweep
    from hvae_mnn.experiments.sweep.store import is_sweep
    from hvae_mnn.experiments.sweep.summary import summarise
    from hvae_mnn.reports.figures.sweeps import draw_studies
    from hvae_mnn.reports.sweep_table import print_summary

    out, of_plan = options["out"], ("seed", "backend", "spice_check", "yield_at", "device")
    settings = SweepSettings(options["workers"], options["scheduler"], options["chunk"])
    plan, points = make_plan(
        chosen.checkpoint,
        chosen.hardware,
        studies,
        drawn,
        model_name=chosen.model_name,
        hardware_name=chosen.hardware_name,
        **{name: options[name] for name in of_plan},
    )
    if default and not is_sweep(out):
        _announce(chosen.checkpoint, plan, points, drawn, settings)
    with simulation_progress() as report:
        sweep = run_sweep(
            plan,
            points,
            chosen.checkpoint,
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
    tell_next("sweep", out)


def _announce(
    checkpoint: "Checkpoint",
    plan: "SweepPlan",
    points: "tuple[Point, ...]",
    drawn: "SweepSentences",
    settings: "SweepSettings",
) -> None:
    """Say on stderr what the default study is, and about how long it takes."""
    from hvae_mnn.experiments.sweep.default import DEFAULT_PLAN

    lines = [f"default study ({DEFAULT_PLAN}), {len(drawn.ids)} sentences of {drawn.corpus}"]
    for study in plan.studies:
        dies = f"{study.trials} dies each" if study.trials > 1 else "1 die each"
        lines.append(f"  {study.name:<18} {study.size} points, {dies}")
    if plan.hardware.amplifier.gain is None:
        lines.append("  nothing of amplifiers, which are ideal (amplifier.gain)")
    if plan.backend == "nodal" and plan.device is None and settings.scheduler is None:
        lines.append(_estimate(checkpoint, plan, points, drawn, settings.workers))
    click.echo("\n".join(lines), err=True)


def _estimate(
    checkpoint: "Checkpoint",
    plan: "SweepPlan",
    points: "tuple[Point, ...]",
    drawn: "SweepSentences",
    workers: int | None,
) -> str:
    """Return about how long the processes of this machine take, for which some dies are measured."""
    from hvae_mnn.experiments.sweep.cluster import BenchInputs
    from hvae_mnn.experiments.sweep.default import estimate_seconds
    from hvae_mnn.runtime.workers import core_count

    bench = BenchInputs(checkpoint, drawn.ids, plan.seed).make()
    workers = workers or core_count()
    seconds = _round_time(estimate_seconds(points, bench, plan.seed, workers))
    cores = "1 core" if workers == 1 else f"{workers} cores"
    return f"about {seconds} on {cores}; --trials and --sentences change it"


def _round_time(seconds: float) -> str:
    """Return a time that is known roughly."""
    return f"{5 * math.ceil(seconds / 5)} s" if seconds < 100 else f"{math.ceil(seconds / 60)} min"
