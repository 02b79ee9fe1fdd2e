"""What the command line shows: results on stdout, progress on stderr and only on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hvae_mnn.model.training import Progress as TrainingProgress
    from hvae_mnn.run import Run
    from hvae_mnn.simulate import Progress as SimulationProgress


def print_run(run: "Run") -> None:
    """Print both sentences, where they part, and the error of each layer."""
    click.echo(f"sentence   {' '.join(run.tokens)}")
    if run.unknown:
        click.echo(f"unknown    {' '.join(run.unknown)}")
    click.echo(f"software   {run.software.text}")
    click.echo(f"hardware   {run.hardware.text}")
    place = run.parts_at
    if place is None:
        click.echo("           the same words")
    else:
        words = [_word(side.tokens, place) for side in (run.hardware, run.software)]
        click.echo(f"           they part at word {place + 1}: {words[0]} instead of {words[1]}")
    click.echo(f"agreement  {run.agreement:.0%} of words")
    click.echo("layer      steps  rms error  max error  clipped in  clipped out   (errors in % of full scale)")
    for layer in run.layers:
        summary = layer.to_json()
        click.echo(
            f"{summary['name']:<10} {summary['steps']:>5}  {100 * summary['rms_error']:>8.3f}%  "
            f"{100 * summary['max_error']:>8.3f}%  {summary['clipped_inputs']:>10}  {summary['clipped_outputs']:>11}"
        )
    version = f" (ngspice {run.engine.version})" if run.engine.version else ""
    click.echo(f"{run.engine.name}{version}, hardware {run.hardware_preset}, seed {run.seed}, {run.seconds:.2f} s")


def _word(tokens: tuple[str, ...], place: int) -> str:
    return f'"{tokens[place]}"' if place < len(tokens) else "the end"


def print_table(rows: dict[str, str]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name in rows)
    for name, value in rows.items():
        click.echo(f"{name:<{width}}  {value}")


@contextmanager
def simulation_progress() -> Iterator["SimulationProgress"]:
    """Show steps on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


@contextmanager
def training_progress() -> Iterator["TrainingProgress"]:
    """Show epochs and batches on a terminal; one line an epoch on stderr everywhere."""
    from rich.console import Console
    from rich.progress import Progress

    from hvae_mnn.model.training import TrainingEvent

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("training", total=None)

        def report(event: TrainingEvent) -> None:
            label = f"epoch {event.epoch}/{event.epochs}, loss {event.train_loss:.2f}"
            bars.update(task, description=label, completed=event.batch, total=event.batches)
            if event.valid_loss is not None:
                console.print(
                    f"{label}, validation {event.valid_loss:.2f}, best epoch {event.best_epoch}",
                    highlight=False,
                )

        yield report
