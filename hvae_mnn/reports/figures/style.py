"""What all figures share: size, fonts, colours (the colour-blind safe set of Okabe and Ito), and saving."""

import tempfile
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure, SubFigure

from hvae_mnn.errors import ArtifactError

Canvas = Figure | SubFigure

FORMATS = ("png", "pdf", "svg")
WIDTH = 7.2
"""Width of every figure, inch: two columns of a paper."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "savefig.dpi": 200,
    "svg.hashsalt": "hvae-mnn",
}


def save_figure(figure: Figure, out: Path) -> None:
    """Write a figure whole or not at all; the same figure gives the same bytes.

    Raises:
        ArtifactError: The suffix is not a format, or the file cannot be written.
    """
    kind = check_format(out)
    dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    draft: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{out.name}-", dir=out.parent, delete=False) as file:
            draft = Path(file.name)
        with figure_style(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # a word in letters the font has not
            figure.savefig(draft, format=kind, metadata=dated.get(kind))
        draft.chmod(0o644)
        draft.replace(out)
    except OSError as error:
        raise ArtifactError(f"{out}: cannot be written: {error.strerror or error}; choose another --out") from None
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def check_format(out: Path) -> str:
    """Return the format that a file's suffix names.

    Raises:
        ArtifactError: It is none of those that can be written.
    """
    kind = out.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        found = f"suffix .{kind}" if kind else "no suffix"
        raise ArtifactError(f"{out}: {found}; expected a figure ending in .{', .'.join(FORMATS)}. Choose another --out")
    return kind


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save in the project's style, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def format_word(word: str) -> str:
    """Return a word as matplotlib shows it: a dollar sign is not the start of a formula."""
    return word.replace("$", r"\$")


def format_title(text: str) -> str:
    """Return a line of a title, broken where it is wider than the figure."""
    return format_word(textwrap.fill(text, 100))


def format_some(names: Iterable[str], most: int = 4) -> str:
    """Return the first of some names as a list."""
    shown = list(names)
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")
