"""What this machine has, and what to install."""

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hvae_mnn.errors import UserError

OLDEST_PYTHON = (3, 11)
_SHOWN = {"hvae-mnn", "torch", "numpy", "scipy", "pyspice", "matplotlib"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        value: What was found, for machines.
        text: The same for people, with what to do where it is wrong.
        ok: Whether the toolkit can work with it.
    """

    name: str
    value: Any
    text: str
    ok: bool = True


def examine() -> list[Finding]:
    """Look at packages, and where none is missing at ngspice, processor, memory, models and cache."""
    packages = list(_packages())
    found = [_python(), *packages]
    return found + _machine() if all(package.ok for package in packages) else found


def _python() -> Finding:
    found, oldest = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", found, f"{found} is too old; expected {oldest} or newer", ok=False)
    return Finding("python", found, found)


def _packages() -> Iterator[Finding]:
    """Yield what people know of, and whatever else is missing: from metadata, as importing torch takes seconds."""
    for name, (wanted, by) in _requirements().items():
        found = _version(name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            has = f"{found} is there, but" if found else ""
            text = f"{has} {by} needs {wanted}; install it with: pip install '{wanted}'".lstrip()
            yield Finding(wanted.name, found, text, ok=False)
        elif name in _SHOWN:
            yield Finding(distribution(name).name, found, found)


def _requirements() -> dict[str, tuple[Requirement, str]]:
    """Return what is needed here, directly or by what is needed, and by whom first, by plain name."""
    needed = {"hvae-mnn": (Requirement("hvae-mnn"), "this program")}
    new = ["hvae-mnn"]
    while new:
        by = new.pop(0)
        for line in (distribution(by).requires or []) if _version(by) else []:
            wanted = Requirement(line)
            name = canonicalize_name(wanted.name)
            if name not in needed and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                needed[name] = (wanted, needed[by][0].name)
                new.append(name)
    return needed


def _version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def _machine() -> list[Finding]:
    import psutil

    from hvae_mnn.compiler.shipped import cache_folder, shipped_models
    from hvae_mnn.runtime.workers import core_count

    cores, memory = core_count(), psutil.virtual_memory()
    models = shipped_models()
    return [
        *_ngspice(),
        Finding("cores", cores, f"{cores} (spice workers by default)"),
        Finding(
            "memory",
            memory.available,
            f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f} GiB (a 64 x 64 tile takes 8 MB)",
        ),
        Finding(
            "models",
            list(models),
            ", ".join(models) or "none: the checkout or package is incomplete",
            bool(models),
        ),
        Finding("cache", str(cache_folder()), str(cache_folder())),
    ]


def _ngspice() -> list[Finding]:
    from hvae_mnn.engines.spice.engine import describe_ngspice

    try:
        facts = describe_ngspice()
    except UserError as error:
        return [Finding("ngspice", None, str(error), ok=False)]
    klu = "yes (used for full wires)" if facts["klu"] else "no (full wires will be slow; use parasitics = reduced)"
    return [
        Finding("ngspice", facts["version"], f"{facts['version']} ({facts['library']})"),
        Finding("ngspice xspice", facts["xspice"], "yes" if facts["xspice"] else "no (not needed)"),
        Finding("ngspice klu", facts["klu"], klu),
    ]
