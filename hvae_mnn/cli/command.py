"""How commands of the command line fail, stop and show their example."""

from typing import Any

import click

from hvae_mnn.errors import UserError


class Command(click.Command):
    """A command whose `UserError`s, and Ctrl-C, become one line on stderr and exit code 1."""

    def __init__(self, *arguments: Any, interrupted: str = "nothing was written", **options: Any) -> None:
        """Take what is said of the results after Ctrl-C, and click's own arguments."""
        super().__init__(*arguments, **options)
        self.interrupted = interrupted

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"Error: {error}", err=True)
        except KeyboardInterrupt as stop:  # who raised it may know more of the results
            click.echo(f"Interrupted: {str(stop) or self.interrupted}", err=True)
        context.exit(1)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example as it is typed, without wrapping."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text("Example:")
            for line in self.epilog.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")


class CommandGroup(click.Group):
    """A group of `Command`s."""

    command_class = Command
