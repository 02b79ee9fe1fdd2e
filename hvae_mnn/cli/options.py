"""Options that several commands share."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)

hardware_option = click.option(
    "--hardware",
    default="default",
    show_default=True,
    metavar="PRESET|FILE",
    help="Hardware preset (default, ideal, aist, ...) or TOML file.",
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value, e.g. array.tile_rows=32. Repeatable.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="How many decks are worked on at once.  [default: cores]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def name_hardware(preset_or_file: str, overrides: tuple[str, ...]) -> str:
    """Name a hardware so that a result says what was changed."""
    return " ".join((preset_or_file, *overrides))
