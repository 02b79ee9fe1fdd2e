"""Commands that run a sentence and show what happened: simulate, plot, explain."""

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvae_mnn.cli.choosing import find_result, open_build
from hvae_mnn.cli.command import Command
from hvae_mnn.cli.following import tell_next
from hvae_mnn.cli.options import FOLDER, json_option, set_option, workers_option
from hvae_mnn.cli.waveforms import WaveformChoice, warn_of_left_out, waveform_options
from hvae_mnn.reports.terminal import print_explanation, print_lines, print_run, simulation_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvae_mnn.compiler.build import Build
    from hvae_mnn.simulation.journal import Journal


@click.command(
    cls=Command,
    epilog='hvae-mnn simulate --sentence "the company said it will sell its shares" --waveforms encoder1.f.r0c0\n'
    "hvae-mnn simulate --sentences test.txt --limit 100 --backend nodal --out results.jsonl",
    interrupted="the same command goes on from what was finished",
)
@click.option("--sentence", help="Words separated by spaces.")
@click.option(
    "--sentences",
    "file",
    type=FOLDER,
    metavar="FILE",
    help="Many sentences, one a line; results are JSON lines in --out.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take the first N sentences of the file.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Sentences of the file to read at once.  [default: 1 with spice, else 64]",
)
@click.option(
    "--build",
    "build_dir",
    type=FOLDER,
    help="A compiled build.  [default: ./build where there is one, else a shipped model, compiled once]",
)
@click.option("--model", metavar="NAME|FILE", help="Model to take instead of ./build's.  [default: ptb]")
@click.option(
    "--hardware",
    metavar="PRESET|FILE",
    help="Hardware to compile the model for, ./build's too.  [default: the build's, or default]",
)
@set_option
@click.option("--backend", type=click.Choice(["spice", "nodal", "software"]), default="spice", show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the latent's noise; the next sentences of a file have the next seeds.",
)
@waveform_options
@workers_option
@click.option("--out", type=FOLDER, help="Run folder to write, or file of JSON lines.  [default: run, run.jsonl]")
@json_option
def simulate(
    sentence: str | None,
    file: Path | None,
    limit: int | None,
    batch: int | None,
    build_dir: Path | None,
    model: str | None,
    hardware: str | None,
    overrides: tuple[str, ...],
    waveforms: WaveformChoice,
    **options: Any,
) -> None:
    """Run a sentence through the circuit, or many.

    Prints what the hardware says beside what the PyTorch model says with the same noise, where
    they part, and the read error of each layer. Without --build and --model it takes ./build, the build that
    `hvae-mnn compile MODEL` writes; with --hardware or --set the model of it, compiled anew into the cache.

    The same command goes on with a simulation that was interrupted.
    """
    if build_dir is not None and (model or hardware or overrides):
        raise click.UsageError("--build already says model and hardware; leave --model, --hardware and --set out")
    if (sentence is None) == (file is None):
        raise click.UsageError("give one of --sentence and --sentences")
    if file is None and (limit or batch):
        raise click.UsageError("--limit and --batch need --sentences FILE")
    if file is not None and waveforms.given:
        raise click.UsageError("waveforms are kept of one --sentence, not of --sentences")
    build = partial(open_build, build_dir, model, hardware, overrides)
    if sentence is not None:
        _simulate_one(build, sentence, waveforms, **options)
    elif file is not None:
        _simulate_file(build, file, limit, batch, **options)


def _simulate_one(
    open_build: "Callable[[], Build]",
    sentence: str,
    waveforms: WaveformChoice,
    out: Path | None,
    as_json: bool,
    backend: str,
    seed: int,
    workers: int | None,
) -> None:
    from hvae_mnn.runtime.folders import check_replaceable, unfinished_folder
    from hvae_mnn.simulation.run import may_replace_run, save_run
    from hvae_mnn.simulation.sentence import open_journal, read_sentence, simulate_sentence

    out = out or Path("run")
    check_replaceable(out, may_replace_run)
    build = open_build()
    read_sentence(build, sentence)  # what is wrong with the command is said before anything is written
    recording = waveforms.recording(build, sentence, backend, unfinished_folder(out))
    how: dict[str, Any] = {"backend": backend, "seed": seed, "transient": waveforms.tiles, "recording": recording}
    kept = backend == "spice"  # the others take less time than a journal
    with (
        open_journal(out, build, sentence, **how) if kept else nullcontext() as journal,
        simulation_progress() as report,
    ):
        if journal is not None:
            _tell_of(journal, "time steps")
        run = simulate_sentence(build, sentence, **how, workers=workers, journal=journal, progress=report)
        save_run(run, out)
        if journal is not None:
            journal.remove()
    warn_of_left_out(run)
    if as_json:
        click.echo(json.dumps(run.to_json()))
    else:
        print_run(run)
        click.echo(f"wrote {out}", err=True)
        tell_next("simulate", out)


def _simulate_file(
    open_build: "Callable[[], Build]",
    file: Path,
    limit: int | None,
    batch: int | None,
    out: Path | None,
    as_json: bool,
    backend: str,
    seed: int,
    workers: int | None,
) -> None:
    from hvae_mnn.simulation.sentences import (
        DEFAULT_BATCH,
        check_results_file,
        open_lines_journal,
        read_lines,
        save_results,
        simulate_lines,
    )

    out, batch = out or Path("run.jsonl"), batch or DEFAULT_BATCH[backend]
    check_results_file(out)
    build = open_build()
    sentences = read_lines(build, file, limit)
    how: dict[str, Any] = {"backend": backend, "seed": seed, "batch": batch}
    with open_lines_journal(out, build, sentences, **how) as journal, simulation_progress() as report:
        _tell_of(journal, "sentences")
        lines = []
        for line in simulate_lines(build, sentences, journal, **how, workers=workers, progress=report):
            lines.append(line)
            if as_json:
                click.echo(json.dumps(line))
        save_results(lines, out)
        journal.remove()
    if not as_json:
        print_lines(lines)
        click.echo(f"wrote {out}", err=True)
        tell_next("simulate many")


def _tell_of(journal: "Journal", what: str) -> None:
    """Say on stderr that an interrupted simulation goes on."""
    done = journal.steps if what == "time steps" else len(journal.results())
    if done:
        click.echo(f"going on after {done} {what} of an interrupted simulation ({journal.folder})", err=True)


@click.command(cls=Command, epilog="hvae-mnn plot\nhvae-mnn plot run/ --signal encoder1.f.r0c0.out3 --out figure.png")
@click.argument("folder", metavar="[RUN|BUILD|PROGRAMMING|SWEEP|STUDY]", type=FOLDER, required=False)
@click.option(
    "--signal",
    "signals",
    multiple=True,
    metavar="NAME",
    help="TILE.NODE of a run, TILE of a build, or metric of a sweep, such as elbo. Repeatable.",
)
@click.option(
    "--out",
    type=FOLDER,
    default=Path("figure.png"),
    show_default=True,
    help="Figure to write (png, pdf, svg).",
)
def plot(folder: Path | None, signals: tuple[str, ...], out: Path) -> None:
    """Draw a run, a build, a programming, a sweep or a study; without a folder the newest of them here.

    A run gives its waveforms and its errors by layer and time step, a build its conductances, a
    programming the way of single cells, the error that remains and the pulses it took. A sweep of one study
    gives one figure, of several one figure each, named figure-STUDY: along one axis the dies, their
    median and its interval, over several axes maps; metrics are the columns of its rows, yield, and rms
    for the read errors of all layers. A study of models gives NLL by both protocols, KL and MI.
    """
    from hvae_mnn.reports.plot import plot_artifact
    from hvae_mnn.runtime.finding import kind_of

    found = find_result(folder)
    files = plot_artifact(found, signals, out)
    for path in files:
        click.echo(str(path))
    kind = kind_of(found)
    tell_next(f"plot {kind}" if kind else "plot", found, build=found, figures=files)


@click.command(cls=Command, epilog="hvae-mnn explain run/ --out error.png")
@click.argument("folder", metavar="[RUN]", type=FOLDER, required=False)
@click.option("--build", "build_dir", type=FOLDER, help="The run's build, where it is not in its old place.")
@click.option("--out", type=FOLDER, help="Figure to write (png, pdf, svg).")
@json_option
def explain(folder: Path | None, build_dir: Path | None, out: Path | None, as_json: bool) -> None:
    """Say where a run's error comes from; without RUN, the newest one here.

    Takes the run's hardware apart: each imperfection alone in hardware that is ideal otherwise, and on
    top of those before it, over the inputs that the run's layers read. Needs no ngspice.
    """
    from hvae_mnn.experiments.explain import explain_run, find_build
    from hvae_mnn.reports.figures.style import check_format, save_figure
    from hvae_mnn.simulation.run import load_run

    if out is not None:
        check_format(out)
    run = load_run(find_result(folder, "run"))
    build = find_build(run, build_dir)
    with simulation_progress() as report:
        found = explain_run(run, build, report)
    if out is not None:
        from hvae_mnn.reports.plot import plot_explanation

        save_figure(plot_explanation(found), out)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    print_explanation(found)
    if out is not None:
        click.echo(f"wrote {out}", err=True)
    tell_next("explain")
