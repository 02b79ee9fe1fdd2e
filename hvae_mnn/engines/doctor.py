"""What this machine has, and what to install."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from hvae_mnn.compiler.shipped import cache_folder, shipped_models
from hvae_mnn.engines.spice.engine import describe_ngspice
from hvae_mnn.errors import UserError
from hvae_mnn.runtime.workers import core_count

_PACKAGES = ("hvae-mnn", "torch", "numpy", "scipy", "PySpice", "matplotlib")


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
    """Look at packages, ngspice, processor, memory, models and cache."""
    cores, memory = core_count(), psutil.virtual_memory()
    models = shipped_models()
    return [
        Finding("python", platform.python_version(), platform.python_version()),
        *(_package(name) for name in _PACKAGES),
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


def _package(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, None, f"missing; install it with: pip install {name}", ok=False)
    return Finding(name, found, found)


def _ngspice() -> list[Finding]:
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
