"""The binding to libngspice: load it, run commands, read vectors. Runs in worker processes only.

The one place that imports PySpice.
"""

import ctypes.util
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from cffi import FFI
from numpy.typing import NDArray

from hvae_mnn.errors import EngineError

with warnings.catch_warnings():
    # Escapes in its docstrings, when Python first compiles them; a DeprecationWarning before Python 3.12.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    from PySpice.Spice.NgSpice.Shared import NgSpiceCommandError, NgSpiceShared

Array = NDArray[np.float64]

OLDEST = 39
INSTALL = "sudo apt-get install -y libngspice0"
_LIBRARIES = ("libngspice.so.0", "libngspice.so", "libngspice.dylib", "libngspice.0.dylib")
_FFI = FFI()  # costs more to make than a vector to read
_HARMLESS = re.compile(r"^(Note:|Warning:|Using (SPARSE|KLU)|\s*$)")
_PAUSED = re.compile(r"^(\d+: condition met|doAnalyses: pause requested|(dc )?simulation interrupted)")


class Ngspice(NgSpiceShared):  # type: ignore[misc]
    """PySpice's binding, with resident decks, chosen vectors read, and harmless messages told from errors."""

    def run(self, command: str, what: str) -> str:
        """Execute a command.

        Raises:
            EngineError: ngspice reported something that is not a note, a warning or a pause that was asked for.
        """
        try:
            return str(self.exec_command(command))
        except (NgSpiceCommandError, NameError) as error:
            said = [*self._stderr, *(line for line in self._stdout if "error" in line.lower())]
            serious = [line.strip() for line in said if not (_HARMLESS.match(line) or _PAUSED.match(line))]
            if serious or not isinstance(error, NgSpiceCommandError):
                lines = " | ".join(serious[-5:]) or str(error)
                raise EngineError(f"{what}: ngspice failed at `{command[:60]}`: {lines}") from None
            return str(self.stdout)

    def run_all(self, commands: Sequence[str], what: str) -> None:
        """Execute commands whose output nobody wants; looking for errors once is much of what one costs.

        Raises:
            EngineError: As `run`, of the first that fails.
        """
        self.clear_output()
        failed = False
        for command in commands:
            failed |= bool(self._ngspice_shared.ngSpice_Command(command.encode()))
        self._number_of_exec_calls += len(commands)  # after which PySpice frees ngspice's history of commands
        if failed or self._error_in_stdout or self._error_in_stderr:
            for command in commands:
                self.run(command, what)

    def load(self, name: str, path: str, klu: bool = False) -> None:
        """Load a deck of the working folder.

        ngspice reads only plain characters in a command, so folders are entered and not named. The solver is an
        option of the circuit that was just loaded: others keep theirs, and there is none to set it for before.

        Raises:
            EngineError: ngspice refuses it; `path` names it.
        """
        if "Circuit:" not in self.run(f"source {name}", path):
            raise EngineError(f"{path}: ngspice found no circuit in the deck; compile the build again")
        if klu:
            self.run("option klu", path)

    def vector(self, name: str, what: str) -> Array:
        """Return a copy of a vector of the current plot.

        Raises:
            EngineError: There is none of that name.
        """
        info = self._find(name, what)
        return np.frombuffer(memoryview(_FFI.buffer(info.v_realdata, info.v_length * 8)), dtype=np.float64).copy()

    def places(self, names: Sequence[str], what: str) -> list[Any]:
        """Return where the first numbers of vectors of the current plot are in memory, for `np.fromiter` to read.

        Valid as long as the plot is and its vectors do not grow.

        Raises:
            EngineError: There is none of a name.
        """
        return [self._find(name, what).v_realdata for name in names]

    def _find(self, name: str, what: str) -> Any:
        info = self._ngspice_shared.ngGet_Vec_Info(name.encode())
        if info == _FFI.NULL or info.v_realdata == _FFI.NULL:
            raise EngineError(f"{what}: ngspice has no result `{name}`; it is not saved or not in the deck")
        return info

    def saved(self) -> list[str]:
        """Return the names of the vectors of the current plot."""
        vectors = self._ngspice_shared.ngSpice_AllVecs(self.last_plot.encode())
        return list(self._convert_string_array(vectors))

    def uses_klu(self) -> bool:
        """Ask by behaviour: a solver that exists names itself when it runs."""
        for line in ("circbyline klu probe", "circbyline v1 1 0 1", "circbyline r1 1 0 1"):
            self.run(line, "KLU probe")
        self.run("circbyline .options klu", "KLU probe")
        self.run("circbyline .end", "KLU probe")
        said = self.run("op", "KLU probe") + " ".join(self._stderr)
        self.run("remcirc", "KLU probe")
        return "KLU" in said


def load_ngspice() -> Ngspice:
    """Load libngspice.

    Raises:
        EngineError: There is none.
    """
    logging.disable(logging.CRITICAL)
    found = ctypes.util.find_library("ngspice")
    for name in (NgSpiceShared.LIBRARY_PATH, found, *_LIBRARIES):
        if not name or "{}" in name:
            continue
        Ngspice.LIBRARY_PATH = name
        try:
            return Ngspice()
        except OSError:
            continue
    raise EngineError(f"libngspice was not found; install it with: {INSTALL}")


def check_version(ngspice: Ngspice) -> str:
    """Return the version, such as `39.3`.

    Raises:
        EngineError: It is too old, or no version.
    """
    text = ngspice.run("version -f", "version")
    match = re.search(r"ngspice-(\d+)([\w.+]*)", text)
    if match is None or int(match[1]) < OLDEST:
        found = match[0] if match else "no version"
        raise EngineError(f"libngspice is {found}; expected ngspice-{OLDEST} or newer. Upgrade with: {INSTALL}")
    return match[1] + match[2]
