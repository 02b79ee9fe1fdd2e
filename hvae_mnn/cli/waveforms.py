"""The options that say which waveforms of a run are kept, and what is told of them."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hvae_mnn.compiler.build import Build
    from hvae_mnn.engines.spice.recording import Recording
    from hvae_mnn.simulation.run import Run


@dataclass(frozen=True, slots=True)
class WaveformChoice:
    """What the command line says of waveforms.

    Attributes:
        tiles: Tiles by name or pattern.
        signals: Nodes by name or pattern.
        every: Each how many points one is kept; None if not given.
        limit: Bytes that they may take; None if not given.
    """

    tiles: tuple[str, ...]
    signals: tuple[str, ...]
    every: int | None
    limit: float | None

    @property
    def given(self) -> bool:
        """Whether any of the options was given."""
        return bool(self.tiles or self.signals) or self.every is not None or self.limit is not None

    def recording(self, build: "Build", sentence: str, backend: str, unfinished: Path) -> "Recording":
        """Say on stderr what the waveforms will take, and return what is kept of them, in a journal's folder.

        Raises:
            click.UsageError: There are options for waveforms, but none are recorded.
            ArtifactError: A pattern fits nothing, or they would take more than the limit.
        """
        from hvae_mnn.engines.spice.recording import DEFAULT_LIMIT, Recording
        from hvae_mnn.simulation.journal import WAVEFORMS

        recorded = backend == "spice" and (self.tiles or build.manifest.hardware.array.memristor == "dynamic")
        if not recorded and not self.tiles and (self.signals or self.every is not None or self.limit is not None):
            raise click.UsageError("--signals, --every and --waveform-limit need --waveforms TILE")
        recording = Recording(
            signals=self.signals,
            every=self.every or 1,
            limit=DEFAULT_LIMIT if self.limit is None else self.limit,
            folder=unfinished / WAVEFORMS,
        )
        if recorded:
            _announce(build, sentence, self.tiles, recording)
        return recording


def waveform_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--waveforms`, `--signals`, `--every` and `--waveform-limit`; the command gets them as `waveforms`."""

    @functools.wraps(command)
    def called(
        tiles: tuple[str, ...], signals: tuple[str, ...], every: int | None, waveform_limit: float | None, **rest: Any
    ) -> Any:
        limit = None if waveform_limit is None else waveform_limit * 1e9
        return command(waveforms=WaveformChoice(tiles, signals, every, limit), **rest)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called


def warn_of_left_out(run: "Run") -> None:
    """Say on stderr if the limit of waveforms was reached."""
    left_out = getattr(run.waveforms, "left_out", 0)
    if left_out:
        click.echo(
            f"Warning: the limit of waveforms was reached, {left_out} tile cycles were left out at the end; "
            "choose less or raise --waveform-limit",
            err=True,
        )


def _announce(build: "Build", sentence: str, tiles: tuple[str, ...], recording: "Recording") -> None:
    from quantiphy import Quantity

    from hvae_mnn.engines.spice.recording import estimate_waveforms
    from hvae_mnn.simulation.sentence import read_sentence

    words = read_sentence(build, sentence)
    found = estimate_waveforms(build, tiles, recording, len(words.ids))
    size = Quantity(found.size, "B").render(prec=1)
    click.echo(f"waveforms of {found.tiles} tile{'s' * (found.tiles != 1)}, about {size}", err=True)


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"{value} is no finite number above 0")
    return value


_OPTIONS = (
    click.option(
        "--waveforms",
        "tiles",
        multiple=True,
        metavar="TILE",
        help="Read this tile in time and keep its waveforms; a pattern (`encoder1.f.*`), or `all`. Repeatable.",
    ),
    click.option(
        "--signals",
        multiple=True,
        metavar="PATTERN",
        help="Keep these nodes of the tiles only: a name (`hold3`) or pattern (`out*`). Repeatable.  [default: all]",
    ),
    click.option(
        "--every",
        type=click.IntRange(min=1),
        metavar="N",
        help="Keep each Nth time point, and the first and last of a cycle.  [default: 1]",
    ),
    click.option(
        "--waveform-limit",
        type=float,
        callback=_finite,
        metavar="GB",
        help="Disk that waveforms may take.  [default: 2]",
    ),
)
