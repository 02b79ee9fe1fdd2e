"""The command that measures a model on a test split: evaluate."""

import json

import click

from hvae_mnn.cli.options import json_option
from hvae_mnn.command import Command
from hvae_mnn.terminal import print_evaluation, simulation_progress


@click.command(
    cls=Command,
    epilog="hvae-mnn evaluate ptb --corpus ptb/ --language-model lm.pt",
    interrupted="nothing was printed",
)
@click.argument("model", metavar="MODEL")
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
@click.option(
    "--importance-sentences",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Test sentences to draw for importance weighting; as many as there are is the most.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all noise and of the draw."
)
@json_option
def evaluate(
    model: str, corpus: str, language_model: str | None, importance_sentences: int, seed: int, as_json: bool
) -> None:
    """Measure a model on a test split.

    MODEL is a checkpoint file or the name of a shipped model. Prints NLL, perplexity, KL, MI and active
    units by two protocols: `honest`, whose NLL is a bound, and `paper`, by which published figures of
    this kind of model were made.
    """
    from hvae_mnn.model.evaluation import evaluate as evaluate_model
    from hvae_mnn.shipped import open_model

    with simulation_progress() as report:
        found = evaluate_model(
            open_model(model),
            corpus,
            name=model,
            language_model=None if language_model is None else open_model(language_model),
            seed=seed,
            importance_sentences=importance_sentences,
            progress=report,
        )
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_evaluation(found)
