"""The command that sets a Build's ranges by sentences: calibrate."""

import json
from pathlib import Path

import click

from hvae_mnn.cli.choosing import own_build
from hvae_mnn.cli.command import Command
from hvae_mnn.cli.following import tell_next
from hvae_mnn.cli.options import FOLDER, json_option, set_option
from hvae_mnn.reports.terminal import print_calibration, simulation_progress


@click.command(
    cls=Command,
    epilog="hvae-mnn calibrate build/ --corpus grammar --set adc.range_percentile=auto",
    interrupted="the build is as it was",
)
@click.argument("build_dir", metavar="[BUILD]", type=FOLDER, required=False)
@click.option(
    "--corpus",
    required=True,
    metavar="NAME|FOLDER",
    help="`grammar`, or a folder with NAME.train.txt, NAME.valid.txt and NAME.test.txt.",
)
@click.option(
    "--sentences", type=click.IntRange(min=1), default=2000, show_default=True, help="Training sentences to draw."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw and of the latents."
)
@set_option
@json_option
def calibrate(
    build_dir: Path | None, corpus: str, sentences: int, seed: int, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Set a build's converter ranges by a corpus; without BUILD, those of ./build.

    Runs the software model over training sentences, takes full scales and weight scales from what
    its layers read, compiles again into the same folder, and says what is clipped on sentences of
    the validation split.
    """
    from hvae_mnn.experiments.calibrate import calibrate_build

    folder = own_build(build_dir, "calibrate")
    with simulation_progress() as report:
        found = calibrate_build(folder, corpus, sentences=sentences, seed=seed, overrides=overrides, progress=report)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_calibration(found)
        click.echo(f"wrote {folder}", err=True)
        tell_next("calibrate", build=folder)
