"""The command that takes inactive units out of a model: prune."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvae_mnn.cli.command import Command
from hvae_mnn.cli.following import tell_next
from hvae_mnn.cli.options import FOLDER, hardware_option, json_option, name_hardware, set_option
from hvae_mnn.reports.terminal import simulation_progress

if TYPE_CHECKING:
    from hvae_mnn.experiments.prune import PruneReport


def _finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value}: expected a finite number")
    return value


@click.command(cls=Command, epilog="hvae-mnn prune model.pt --corpus ptb/ --out pruned.pt --hardware realistic")
@click.argument("model", metavar="MODEL")
@click.option(
    "--corpus",
    required=True,
    metavar="NAME|FOLDER",
    help="`grammar`, or a folder with NAME.train.txt, NAME.valid.txt and NAME.test.txt.",
)
@click.option("--out", type=FOLDER, required=True, help="Checkpoint to write.")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    callback=_finite,
    help="Variance of the posterior mean above which a unit of z stays.  [default: 0.01]",
)
@click.option(
    "--hidden-threshold",
    type=click.FloatRange(min=0),
    callback=_finite,
    help="Largest variance over time steps of a hidden unit that goes.  [default: 0.0001]",
)
@click.option(
    "--sentences",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Training sentences to draw, for hidden units and for calibration; as many as there are is the most.",
)
@hardware_option
@set_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every draw.")
@json_option
def prune(
    model: str,
    corpus: str,
    out: Path,
    sentences: int,
    hardware: str,
    overrides: tuple[str, ...],
    seed: int,
    as_json: bool,
    **thresholds: float | None,
) -> None:
    """Take inactive units out of a model.

    MODEL is a checkpoint file or the name of a shipped model. Units of z whose posterior mean hardly varies
    and hidden units that hardly vary are dropped, the model is calibrated anew, and what its crossbars save on a
    hardware is printed beside what the bound on the test split loses.
    """
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.experiments.prune import prune_model
    from hvae_mnn.hardware.files import load_hardware

    config = load_hardware(hardware, overrides)
    with simulation_progress() as report:
        found = prune_model(
            open_model(model),
            corpus,
            out,
            config,
            name_hardware(hardware, overrides),
            sentences=sentences,
            seed=seed,
            progress=report,
            **{name: value for name, value in thresholds.items() if value is not None},
        )
    if as_json:
        click.echo(json.dumps({"model": str(out), **found.to_json()}))
    else:
        _print_report(found)
        click.echo(f"wrote {out}", err=True)
        tell_next("prune", out)


def _print_report(found: "PruneReport") -> None:
    """Print what there was, what there is, and the bound of each."""
    before, after = found.before, found.after
    rows = [("units of z", before.latent, after.latent)]
    layers = zip(("encoder1", "encoder2", "decoder"), before.hidden, after.hidden, strict=True)
    rows += [(f"hidden units of {name}", old, new) for name, old, new in layers]
    rows += [(name, getattr(before, name), getattr(after, name)) for name in ("columns", "tiles", "adcs", "memristors")]
    click.echo(f"{'':<28}{'before':>12}{'after':>12}{'saved':>9}")
    for name, old, new in rows:
        click.echo(f"{name.replace('adcs', 'ADCs'):<28}{old:>12}{new:>12}{1 - new / old:>9.1%}")
    bounds = found.bound_before, found.bound_after
    click.echo("".join(["NLL, bound, nats a sentence ", *(f"{bound.nll:>12.2f}" for bound in bounds)]))
    click.echo("".join(["    reconstruction          ", *(f"{bound.reconstruction:>12.2f}" for bound in bounds)]))
    click.echo("".join(["    KL                      ", *(f"{bound.kl:>12.2f}" for bound in bounds)]))
    click.echo(
        f"change of the bound {found.change:+.3f} +- {found.change_error:.3f}, {found.test_sentences} test sentences "
        f"of {found.corpus}, the same noise in the units that stay"
    )
    click.echo(
        f"units stay above a variance of {found.threshold:g} (z, of the mean) and {found.hidden_threshold:g} (hidden); "
        f"hardware {found.hardware_name}, seed {found.seed}"
    )
