"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Takes what is under way, how much is done and how much there is, None where that is not known."""
