"""The command that measures a model on a test split: evaluate."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvae_mnn.cli.command import Command
from hvae_mnn.cli.options import FOLDER, json_option, workers_option
from hvae_mnn.reports.evaluation_table import print_evaluation
from hvae_mnn.reports.terminal import simulation_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hvae_mnn.compiler.build import Build
    from hvae_mnn.model.checkpoint import Checkpoint
    from hvae_mnn.model.evaluation.evaluate import Extent
    from hvae_mnn.runtime.progress import Progress

_IMPORTANCE, _ON_HARDWARE = 200, 20


@click.command(
    cls=Command,
    epilog="hvae-mnn evaluate ptb --corpus ptb/ --language-model lm.pt\n"
    "hvae-mnn evaluate --on build/ --corpus ptb/ --limit 200",
    interrupted="nothing was printed",
)
@click.argument("model", metavar="[MODEL]", required=False)
@click.option(
    "--corpus",
    required=True,
    metavar="NAME|FOLDER",
    help="`grammar`, or a folder with NAME.test.txt.",
)
@click.option(
    "--language-model",
    metavar="FILE",
    help="A plain language model of the same words, to stand beside MODEL.",
)
@click.option("--on", "build_dir", type=FOLDER, metavar="BUILD", help="Measure this build of MODEL as well.")
@click.option(
    "--backend",
    type=click.Choice(["spice", "nodal", "software"]),
    help="What reads the build's layers.  [default: nodal]",
)
@workers_option
@click.option("--limit", type=click.IntRange(min=2), metavar="N", help="Draw N test sentences.  [default: all]")
@click.option(
    "--importance-sentences",
    type=click.IntRange(min=2),
    help="Test sentences to draw for importance weighting; as many as there are is the most.  "
    f"[default: {_IMPORTANCE}; with --on, {_ON_HARDWARE}]",
)
@click.option(
    "--importance-draws",
    type=click.Choice(["50", "500"]),
    help="Most draws of z for importance weighting.  [default: 500; with --on, 50]",
)
@click.option(
    "--rebuilt",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Test sentences to draw for token accuracy and BLEU.",
)
@click.option(
    "--samples", type=click.IntRange(min=1), metavar="N", help="Print N sentences said from z drawn from the prior."
)
@click.option(
    "--interpolate",
    "points",
    type=click.IntRange(min=2),
    metavar="N",
    help="Print what is said at N points between two test sentences' latents.",
)
@click.option(
    "--gaps",
    type=click.IntRange(min=2),
    metavar="N",
    help="Measure the approximation and the amortisation gap on N test sentences, e.g. 50.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all noise and of all draws."
)
@json_option
def evaluate(
    model: str | None,
    corpus: str,
    language_model: str | None,
    build_dir: Path | None,
    backend: str | None,
    workers: int | None,
    importance_sentences: int | None,
    importance_draws: str | None,
    seed: int,
    as_json: bool,
    **amounts: Any,
) -> None:
    """Measure a model on a test split, in software and on hardware.

    MODEL is a checkpoint file or the name of a shipped model; with --on it may be left out. Prints NLL,
    perplexity, KL, MI, active units and how much of a sentence comes back, by two protocols: `honest`, whose NLL is
    a bound, and `paper`, by which published figures of this kind of model were made.
    """
    if model is None and build_dir is None:
        raise click.UsageError("give MODEL, or a build of it with --on")
    if build_dir is None and (backend or workers):
        raise click.UsageError("--backend and --workers need --on BUILD")
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.model.evaluation.evaluate import Hardware
    from hvae_mnn.model.evaluation.evaluate import evaluate as evaluate_model

    build = None if build_dir is None else _open_build(build_dir, model)
    checkpoint: Checkpoint = build.checkpoint if build is not None else open_model(str(model))
    plain = None if language_model is None else open_model(language_model)
    extent = _extent(build is not None, importance_sentences, importance_draws, amounts)
    with simulation_progress() as report, _open_side(build, backend, workers, extent, report) as side:
        hardware = None if build is None else Hardware(side, f"{build.manifest.hardware_name}, {backend or 'nodal'}")
        found = evaluate_model(
            checkpoint,
            corpus,
            name=model or str(build_dir),
            language_model=plain,
            seed=seed,
            extent=extent,
            hardware=hardware,
            progress=report,
        )
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_evaluation(found)


def _extent(on_hardware: bool, sentences: int | None, draws: str | None, amounts: "Mapping[str, Any]") -> "Extent":
    """Return how much is measured: what was given, less of importance weighting on hardware."""
    from hvae_mnn.model.evaluation.evaluate import Extent

    given = {key: value for key, value in amounts.items() if value is not None}
    found = Extent(importance=sentences or (_ON_HARDWARE if on_hardware else _IMPORTANCE), **given)
    most = int(draws or ("50" if on_hardware else "500"))
    return replace(found, draws=tuple(k for k in found.draws if k <= most))


@contextmanager
def _open_side(
    build: "Build | None", backend: str | None, workers: int | None, extent: "Extent", report: "Progress"
) -> "Iterator[Any]":
    """Give a Build on an engine as a side of the evaluation; nothing without a Build."""
    if build is None:
        yield None
        return
    from hvae_mnn.engines.open import open_engine
    from hvae_mnn.simulation.hardware_side import HardwareSide

    with open_engine(build, backend or "nodal", workers, progress=report) as engine:
        yield HardwareSide(build, engine, extent.draws)


def _open_build(folder: Path, model: str | None) -> "Build":
    """Open a Build, of a model where one is named.

    Raises:
        ArtifactError: It is none, or of another model.
    """
    from hvae_mnn.compiler.build import load_build
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.errors import ArtifactError

    build = load_build(folder)
    if model is not None and open_model(model).content_hash() != build.manifest.model_hash:
        raise ArtifactError(
            f"{folder}: the build is not one of {model}; expected a build of the same weights. Leave MODEL out, or "
            f"make one with: hvae-mnn compile {model} --out BUILD"
        )
    return build
