"""The command line: parse, call, print. Results go to stdout, everything else to stderr.

Commands import what they need when they run: `--help` stays instant, and torch is loaded by
those commands alone that run a model over a corpus: train, evaluate, prune, calibrate.
"""

import click

from hvae_mnn.cli.building import compile_command, program, train
from hvae_mnn.cli.calibrating import calibrate
from hvae_mnn.cli.command import CommandGroup
from hvae_mnn.cli.evaluating import evaluate
from hvae_mnn.cli.machine import device, doctor
from hvae_mnn.cli.pruning import prune
from hvae_mnn.cli.running import explain, plot, simulate
from hvae_mnn.cli.sweeping import sweep_variation
from hvae_mnn.runtime.version import VERSION


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="hvae-mnn")
def main() -> None:
    """Run a trained text VAE on memristor crossbars, circuit by circuit, in ngspice.

    train a model, compile it to SPICE decks, simulate a sentence, plot what happened.
    """


_COMMANDS = (
    train,
    evaluate,
    prune,
    compile_command,
    calibrate,
    program,
    simulate,
    sweep_variation,
    plot,
    explain,
    device,
)
for _command in (*_COMMANDS, doctor):
    main.add_command(_command)
