"""Commands that make a model, a Build, and its conductances: train, compile, program."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvae_mnn.cli.choosing import open_build
from hvae_mnn.cli.command import Command
from hvae_mnn.cli.following import tell_next
from hvae_mnn.cli.options import FOLDER, hardware_option, json_option, name_hardware, set_option, workers_option
from hvae_mnn.cli.studying import check_usage, train_study, warn_slow_warmup
from hvae_mnn.reports.terminal import (
    print_ir_drop,
    print_programmed,
    print_table,
    simulation_progress,
    training_progress,
)

if TYPE_CHECKING:
    from hvae_mnn.compiler.build import Build


def _encoder_cells(context: click.Context, option: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    cells = text.split("+")
    if len(cells) > 2:
        raise click.BadParameter(f"{text!r}: expected two cells, such as lstm+gru, or one")
    return tuple(cells)


def _objective_options(
    context: click.Context, option: click.Parameter, pairs: tuple[str, ...]
) -> tuple[tuple[str, float], ...] | None:
    found = []
    for text in pairs:
        key, equals, value = text.partition("=")
        try:
            found.append((key.strip(), float(value)))
        except ValueError:
            expected = "a number" if equals else "KEY=VALUE"
            raise click.BadParameter(f"{text!r}: expected {expected}, such as cycles=4") from None
    return tuple(found) or None


def _widths(context: click.Context, option: click.Parameter, text: str | None) -> int | tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) > 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{text!r}: expected one width, such as 256, or one a layer, such as 256,128,200")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)


@click.command(
    cls=Command,
    epilog="hvae-mnn train --corpus grammar --preset grammar --out model.pt\n"
    "hvae-mnn train --corpus ptb/ --study study.toml --out study/",
    interrupted="the same command goes on from the last saved state",
)
@click.option(
    "--corpus",
    required=True,
    metavar="NAME|FOLDER",
    help="`grammar`, or a folder with NAME.train.txt, NAME.valid.txt and NAME.test.txt.",
)
@click.option("--preset", type=click.Choice(["tiny", "grammar", "paper"]), default="tiny", show_default=True)
@click.option("--out", required=True, type=FOLDER, help="Checkpoint to write; with --study a folder.")
@click.option(
    "--study",
    type=FOLDER,
    metavar="FILE",
    help="TOML of several models to train and measure, one after another; it has all settings.",
)
@click.option("--only", multiple=True, metavar="ROW", help="Run this row of the study only. Repeatable.")
@click.option(
    "--importance-sentences",
    type=click.IntRange(min=2),
    help="Test sentences to draw for a study's importance weighting.  [default: 50]",
)
@click.option(
    "--objective",
    metavar="NAME",
    help="What is minimised and how: hsr, twr, vae, cyclical, lagging, bn, sa, short-run, prior, flow or lm.  "
    "[default: hsr]",
)
@click.option(
    "--objective-option",
    "objective_options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_objective_options,
    help="A number that the objective takes, e.g. cycles=4; docs/objectives.md has them. Repeatable.",
)
@click.option(
    "--encoder",
    metavar="CELL[+CELL]",
    callback=_encoder_cells,
    help="Cells of encoder 1 and 2 (lstm, gru, rnn), e.g. gru+lstm; or of the only encoder layer.",
)
@click.option("--decoder", type=click.Choice(["lstm", "gru", "rnn"]), help="Cell of the decoder.")
@click.option(
    "--latent-mode",
    type=click.Choice(["last", "per-step", "none"]),
    help="One z of the last token, one a step, or none: a plain language model, to compare with.",
)
@click.option("--peepholes", is_flag=True, default=None, help="Let the gates of lstm layers see their cell state.")
@click.option("--embedding", type=click.IntRange(min=1), help="Width of the word embeddings.")
@click.option(
    "--hidden",
    metavar="N|N,N[,N]",
    callback=_widths,
    help="Width of the recurrent layers, or of each encoder layer and the decoder.",
)
@click.option("--latent", type=click.IntRange(min=1), help="Width of z.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training split.")
@click.option("--batch", type=click.IntRange(min=1), help="Sentences a step.")
@click.option("--learning-rate", type=float, help="Adam's step size at the start.")
@click.option(
    "--word-dropout",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of decoder input words hidden in training.",
)
@click.option("--kl-warmup", type=click.FloatRange(min=0), help="Epochs over which the weight of the KL rises to 1.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="How weights are rounded, measured and stored.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(["float32", "bfloat16"]),
    help="What the output layer is computed in while training; bfloat16 halves the time on processors that have it.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of everything random in training.  [default: 0]")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON object.")
@click.pass_context
def train(
    context: click.Context,
    /,
    corpus: str,
    preset: str,
    out: Path,
    study: Path | None,
    only: tuple[str, ...],
    importance_sentences: int | None,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model, or the models of a study.

    The same command continues a run that was interrupted. Options that are not given keep the
    preset's values, but for the few that an objective sets (docs/objectives.md). The checkpoint is
    the epoch with the lowest validation loss, measured on the test split. A study writes NAME.pt and
    NAME.json for each row, and results.md and results.csv with all of them (docs/studies.md).
    """
    check_usage(context)
    if study is not None:
        train_study(study, corpus, out, only, importance_sentences, threads, as_json)
        return
    from hvae_mnn.model.text.corpus import load_corpus
    from hvae_mnn.model.text.grammar import ENGLISH
    from hvae_mnn.model.training.settings import make_config
    from hvae_mnn.model.training.train import train as train_model

    config = make_config(preset, {name: value for name, value in options.items() if value is not None})
    warn_slow_warmup({"": config})
    command = shlex.join(["hvae-mnn", *sys.argv[1:]])
    with training_progress() as report:
        checkpoint = train_model(
            load_corpus(corpus),
            config,
            out,
            progress=report,
            threads=threads,
            provenance={"command": command},
        )
    metrics = dict(checkpoint.metrics)
    if corpus == "grammar":  # the exact floor of elbo_nll, known for this source alone
        metrics["source_entropy"] = ENGLISH.entropy()
    if as_json:
        click.echo(json.dumps({"model": str(out), "metrics": metrics}))
        return
    print_table({name: f"{value:.4g}" for name, value in metrics.items()})
    click.echo(f"wrote {out}", err=True)
    tell_next("train", out)


@click.command(
    cls=Command,
    name="compile",
    epilog="hvae-mnn compile model.pt --hardware default --set array.tile_rows=32 --out build/",
)
@click.argument("model", metavar="MODEL")
@hardware_option
@set_option
@click.option("--out", type=FOLDER, default=Path("build"), show_default=True, help="Build folder to write.")
@click.option("--force", is_flag=True, help="Replace another build in that folder.")
@click.option("--report", is_flag=True, help="Print what wires cost at several tile sizes, and write no build.")
def compile_command(
    model: str, hardware: str, overrides: tuple[str, ...], out: Path, force: bool, report: bool
) -> None:
    """Compile a model to SPICE decks.

    MODEL is a checkpoint file or the name of a shipped model.
    """
    from hvae_mnn.compiler.build import check_build_folder, save_build
    from hvae_mnn.compiler.checks import physics_warnings
    from hvae_mnn.compiler.estimate import check_disk, estimate_build, format_estimate
    from hvae_mnn.compiler.pipeline import compile_model
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.hardware.files import load_hardware

    config = load_hardware(hardware, overrides)
    if report:
        from hvae_mnn.compiler.ir_drop import measure_ir_drop

        with simulation_progress() as progress:
            print_ir_drop(measure_ir_drop(open_model(model), config, progress=progress), config)
        return
    checkpoint, name = open_model(model), name_hardware(hardware, overrides)
    check_build_folder(out, checkpoint, config, name, force)
    estimate = estimate_build(checkpoint, config)
    check_disk(estimate, out)
    click.echo(f"compiling to {format_estimate(estimate)}", err=True)
    with simulation_progress() as progress:
        compiled = compile_model(checkpoint, config, name, progress)
        build = save_build(compiled, out, force, progress)
    _print_build(build)
    for warning in physics_warnings(build):
        click.echo(f"Warning: {warning}", err=True)
    tell_next("compile", build=out)


def _print_build(build: "Build") -> None:
    """Print a saved Build: its decks, each layer's tiles, and what became of its weights."""
    name = build.manifest.hardware_name
    click.echo(f"{build.folder}: {len(build.tiles)} decks, {build.memristors()} memristors, hardware {name}")
    for layer in build.manifest.layers:
        clipped = sum(tile.clipped_weights for tile in layer.tiles)
        scales = ", ".join(f"{group.name} {group.size} (full scale {group.x_max:.3g})" for group in layer.groups)
        click.echo(
            f"  {layer.name}: {layer.cell}, {len(layer.tiles)} tiles, inputs {scales}, {clipped} weights clipped"
        )
    left = [tile.uncompensated for layer in build.manifest.layers for tile in layer.tiles]
    if any(each is not None for each in left):
        click.echo(
            f"  IR drop left by compensation: {max(each or 0.0 for each in left):.2%} of the worst tile's weights, rms"
        )
    if error := build.programming_error():
        click.echo(f"  programming error: rms {error:.2%} of the conductance range, stuck cells included")


@click.command(cls=Command, epilog="hvae-mnn program build/ --cells-per-tile 16 --out programming/")
@click.argument("build_dir", metavar="[BUILD]", type=FOLDER, required=False)
@click.option(
    "--cells-per-tile",
    type=click.IntRange(min=0),
    help="Cells of each tile to program in SPICE, drawn at random; 0 needs no ngspice.  [default: 8]",
)
@click.option("--all", "every", is_flag=True, help="Program every cell in SPICE; for small builds.")
@click.option("--tile", "tiles", multiple=True, metavar="TILE", help="Program this tile only. Repeatable.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the sections programming or stuck, e.g. programming.tolerance=0.01. Repeatable.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Seed of devices, pulses, reads and the sample.  [default: the build's device.seed]",
)
@workers_option
@click.option("--out", type=FOLDER, default=Path("programming"), show_default=True, help="Folder to write.")
@json_option
def program(
    build_dir: Path | None,
    cells_per_tile: int | None,
    every: bool,
    tiles: tuple[str, ...],
    overrides: tuple[str, ...],
    seed: int | None,
    workers: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write a build's conductances pulse by pulse; without BUILD, those of ./build or of a shipped model.

    Write-verify with the dynamic memristor: every cell in numpy, a sample of each tile in SPICE
    with the same devices, and a model of the error that remains, for --set device.error_model=FILE.
    """
    if every and cells_per_tile is not None:
        raise click.UsageError("--all programs every cell; leave --cells-per-tile out")
    from hvae_mnn.experiments.program import program_build

    build = open_build(build_dir)
    with simulation_progress() as report:
        programmed = program_build(
            build,
            out,
            cells_per_tile=None if every else 8 if cells_per_tile is None else cells_per_tile,
            tiles=tiles,
            overrides=overrides,
            seed=seed,
            workers=workers,
            progress=report,
        )
    if as_json:
        click.echo(json.dumps(programmed.to_json()))
    else:
        print_programmed(programmed)
        click.echo(f"wrote {out}", err=True)
        tell_next("program", out)
