"""One of the three engines by its name."""

from collections.abc import Collection

from hvae_mnn.compiler.build import Build
from hvae_mnn.engines.base import Engine
from hvae_mnn.engines.nodal import NodalEngine
from hvae_mnn.engines.software import SoftwareEngine
from hvae_mnn.engines.spice.engine import SpiceEngine
from hvae_mnn.engines.spice.recording import Recording
from hvae_mnn.errors import EngineError
from hvae_mnn.runtime.progress import Progress


def open_engine(
    build: Build,
    backend: str,
    workers: int | None = None,
    transient: Collection[str] = (),
    recording: Recording = Recording(),  # noqa: B008 (immutable)
    progress: Progress | None = None,
    resident: bool = True,
) -> Engine:
    """Load a Build into an engine; `resident` as `SpiceEngine` takes it.

    Raises:
        EngineError: There is no such engine, it cannot start, or waveforms are asked of one that has none.
    """
    if transient and backend != "spice":
        raise EngineError(f"--waveforms with --backend {backend}: only spice has waveforms; use --backend spice")
    if backend == "spice":
        return SpiceEngine(build, workers, transient, recording, progress, resident)
    if backend not in ("nodal", "software"):
        raise EngineError(f"backend {backend!r}: no such engine; expected spice, nodal or software")
    return NodalEngine(build) if backend == "nodal" else SoftwareEngine(build)
