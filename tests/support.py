"""Runs decks in a stock `ngspice -b` and reads its raw files; shares no code with the package."""

import re
import subprocess
from pathlib import Path

import numpy as np

Vectors = dict[str, np.ndarray]

_MEASURE = re.compile(r"^(\w+)\s*=\s+([-+0-9.eE]+)", re.MULTILINE)
_COMPLAINT = re.compile(r"\b(warning|error|failed|singular|gmin step\w*)\b", re.IGNORECASE)


def run_ngspice(arguments: list[str], workdir: Path | None = None, timeout: float = 120) -> str:
    """Run `ngspice -b ARGUMENTS`, return what it printed, raise AssertionError if it fails."""
    done = subprocess.run(
        ["ngspice", "-b", *arguments],
        cwd=workdir,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    printed = done.stdout + done.stderr
    if done.returncode != 0:
        raise AssertionError(f"ngspice -b {' '.join(arguments)}: exit {done.returncode}\n{printed}")
    return printed


def complaints(printed: str) -> list[str]:
    """Return the lines of ngspice's output that warn, fail, or retry an operating point."""
    return [line for line in printed.splitlines() if _COMPLAINT.search(line)]


def measures(printed: str) -> dict[str, float]:
    """Return the results of `.meas` lines by name."""
    return {name: float(value) for name, value in _MEASURE.findall(printed)}


def run_ngspice_plots(deck_path: Path, workdir: Path | None = None) -> list[Vectors]:
    """Run a deck and return its plots in order, each a dict of vectors by lower-case name.

    The raw file is written to `workdir`, or beside the deck.
    """
    deck = Path(deck_path).resolve()
    raw = (Path(workdir).resolve() if workdir else deck.parent) / f"{deck.stem}.raw"
    raw.unlink(missing_ok=True)
    printed = run_ngspice(["-r", str(raw), str(deck)], workdir)
    if not raw.exists() or raw.stat().st_size == 0:
        raise AssertionError(f"{deck}: ngspice wrote no results\n{printed}")
    plots = parse_raw(raw.read_bytes())
    if not plots or not all(vector.size for vector in plots[-1].values()):
        raise AssertionError(f"{deck}: ngspice wrote no points\n{printed}")
    return plots


def run_ngspice_batch(deck_path: Path, workdir: Path | None = None) -> Vectors:
    """Run a deck and return the vectors of its last plot."""
    return run_ngspice_plots(deck_path, workdir)[-1]


def parse_raw(content: bytes) -> list[Vectors]:
    """Return the plots of an ngspice raw file, binary or ASCII, real or complex."""
    plots = []
    while content.strip():
        head, kind, body = _split_at_data(content)
        is_complex = "complex" in _field(head, "Flags")
        points = int(_field(head, "No. Points"))
        names = _variable_names(head, int(_field(head, "No. Variables")))
        dtype = np.dtype("<c16" if is_complex else "<f8")
        if kind == b"Binary:":
            size = points * len(names) * dtype.itemsize
            if len(body) < size:
                raise AssertionError(f"raw file cut short: {len(body)} of {size} bytes")
            table = np.frombuffer(body[:size], dtype).reshape(points, len(names))
            content = body[size:]
        else:
            table, content = _ascii_table(body, points, len(names), is_complex)
        plots.append({name: table[:, i].copy() for i, name in enumerate(names)})
    return plots


def _split_at_data(content: bytes) -> tuple[str, bytes, bytes]:
    """Return the header of the first plot, its data marker, and the rest."""
    match = re.search(rb"^(Binary:|Values:)[^\n]*\n", content, re.MULTILINE)
    if match is None:
        raise AssertionError(f"not a raw file: {content[:200]!r}")
    return content[: match.start()].decode(), match.group(1), content[match.end() :]


def _field(head: str, name: str) -> str:
    """Return the value of a header line."""
    match = re.search(rf"^{re.escape(name)}:\s*(.*)$", head, re.MULTILINE)
    if match is None:
        raise AssertionError(f"raw file without '{name}':\n{head}")
    return match.group(1)


def _variable_names(head: str, count: int) -> list[str]:
    """Return the names of the vectors, in lower case."""
    lines = head[head.index("\nVariables:") :].splitlines()[2 : 2 + count]
    return [line.split()[1].lower() for line in lines]


def _ascii_table(body: bytes, points: int, columns: int, is_complex: bool) -> tuple[np.ndarray, bytes]:
    """Return the (points, columns) table at the start of `body`, and what follows it."""
    words = re.compile(rb"\S+").finditer(body)
    dtype = complex if is_complex else float
    table = np.empty((points, columns), dtype)
    end = 0
    for point in range(points):
        next(words)  # the running number of the point
        for column in range(columns):
            word = next(words)
            parts = [float(part) for part in word.group().split(b",")]
            table[point, column] = complex(*parts) if is_complex else parts[0]
            end = word.end()
    return table, body[end:]
