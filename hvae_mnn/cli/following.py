"""The last line of a command, on stderr: what one would type next."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

_SIMULATE = 'hvae-mnn simulate --sentence "..."{build}'
_NEXT = {
    "train": "hvae-mnn compile {out}",
    "prune": "hvae-mnn compile {out}",
    "compile": _SIMULATE,
    "calibrate": _SIMULATE,
    "program": "hvae-mnn plot {out}",
    "simulate": "hvae-mnn plot {out}",
    "simulate many": "hvae-mnn sweep-variation{build}",
    "explain": "hvae-mnn sweep-variation",
    "sweep": "look at the figures in {out}; other metrics: hvae-mnn plot {out} --signal elbo",
    "plot": "look at {figures}",
    "plot run": "look at {figures}; where its errors come from: hvae-mnn explain {out}",
    "plot build": "look at {figures}; a sentence through it: " + _SIMULATE,
    "plot sweep": "look at {figures}; other metrics: hvae-mnn plot {out} --signal elbo",
    "plot programming": "look at {figures}; its errors in a build: "
    "hvae-mnn compile MODEL --set device.error_model={out}/error_model.toml",
    "plot study": "look at {figures}; one of its models on crossbars: hvae-mnn compile {out}/ROW.pt",
}


def tell_next(done: str, out: Path = Path(), build: Path | None = None, figures: Sequence[Path] = ()) -> None:
    """Print what comes after a command.

    Args:
        done: The command, or `plot` with what was drawn.
        out: What it wrote, or drew.
        build: The build that the next command shall take, where it has to be named.
        figures: The figures that it drew.
    """
    from hvae_mnn.runtime.finding import BUILD_FOLDER

    named = "" if build in (None, BUILD_FOLDER) else f" --build {shlex.quote(str(build))}"
    click.echo("next: " + _NEXT[done].format(out=shlex.quote(str(out)), build=named, figures=_count(figures)), err=True)


def _count(figures: Sequence[Path]) -> str:
    more = len(figures) - 1
    return "".join(str(path) for path in figures[:1]) + (f" and {more} more" if more > 0 else "")
