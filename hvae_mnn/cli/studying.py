"""The part of `train` that takes a table of models: --study."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hvae_mnn.reports.terminal import simulation_progress, training_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvae_mnn.model.training.settings import TrainConfig

_WITH_STUDY = ("corpus", "out", "study", "only", "importance_sentences", "threads", "as_json")
_OF_STUDY = ("only", "importance_sentences")


def check_usage(context: click.Context) -> None:
    """Refuse options that do not go together.

    Raises:
        click.UsageError: Settings of one model are given beside a study, or a study's options without one.
    """
    given = [
        option
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    study = any(option.name == "study" for option in given)
    for option in given:
        if study and option.name not in _WITH_STUDY:
            raise click.UsageError(f"--study says the settings of each row; leave {option.opts[0]} out")
        if not study and option.name in _OF_STUDY:
            raise click.UsageError(f"{option.opts[0]} needs --study FILE")


def warn_slow_warmup(configs: "Mapping[str, TrainConfig]") -> None:
    """Say in one line where training ends before the weight of the KL is 1.

    Args:
        configs: Settings by what they are called before them, such as `row vae: `.
    """
    slow = [
        f"{name}kl_warmup {config.kl_warmup:g} is longer than {config.epochs} epoch{'s' * (config.epochs > 1)}, at "
        f"whose end the KL has the weight {config.epochs / config.kl_warmup:.2g}"
        for name, config in configs.items()
        if config.latent_mode != "none" and config.kl_warmup > config.epochs
    ]
    if slow:
        click.echo(f"Warning: {'; '.join(slow)}, not 1. Lower kl_warmup or raise epochs", err=True)


def train_study(
    file: Path, corpus: str, out: Path, only: tuple[str, ...], sentences: int | None, threads: int | None, as_json: bool
) -> None:
    """Run a study and print its table."""
    from hvae_mnn.experiments.model_table.plan import read_study
    from hvae_mnn.experiments.model_table.results import format_table
    from hvae_mnn.experiments.model_table.run import IMPORTANCE_SENTENCES, Screen, run_study

    def tell(line: str) -> None:
        click.echo(line, err=True)

    study = read_study(file)
    warn_slow_warmup({f"row {row.name}: ": row.config for row in study.chosen(only)})
    options: dict[str, Any] = {"only": only, "importance_sentences": sentences or IMPORTANCE_SENTENCES}
    records = run_study(
        study,
        corpus,
        out,
        threads=threads,
        provenance={"command": shlex.join(["hvae-mnn", *sys.argv[1:]])},
        screen=Screen(tell, training_progress, simulation_progress),
        **options,
    )
    if as_json:
        click.echo(json.dumps({"study": str(out), "rows": records}))
        return
    for line in format_table(records, short=True):
        click.echo(line)
    click.echo(f"wrote {out / 'results.md'} and {out / 'results.csv'}", err=True)
