"""A model on a hardware to a Build, in one call."""

import warnings
from collections.abc import Iterable
from pathlib import Path

from hvae_mnn.compiler.build import Build, check_build_folder, save_build
from hvae_mnn.compiler.checks import physics_warnings
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.files import load_hardware, override_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.runtime.progress import Progress


def compile(
    model: Checkpoint | str | Path,
    hardware: HardwareConfig | str | Path = "default",
    out: str | Path | None = None,
    *,
    overrides: str | Iterable[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Build:
    """Compile a trained model onto crossbars.

        build = compile("grammar", "realistic", "build", overrides=["array.tile_rows=64"])

    What the circuit's timing cannot keep up with is a Python warning, one for each kind of fault.

    Args:
        model: A checkpoint, its file, or the name of a shipped model.
        hardware: A configuration, its file, or the name of a preset.
        out: Folder of the Build; it stays in memory if not given, where the nodal and the software engine read it.
        overrides: `section.key=value`, one or several changes of the hardware.
        force: Replace another Build in that folder.
        progress: Called with a stage, how much is done and how much there is.

    Raises:
        CheckpointError: The model is none, or crossbars are not compiled for it.
        HardwareError: The hardware, a key or a value is not acceptable.
        ArtifactError: The folder holds another Build or something else, or cannot be written.
    """
    changes = (overrides,) if isinstance(overrides, str) else tuple(overrides)
    checkpoint = model if isinstance(model, Checkpoint) else open_model(str(model))
    if isinstance(hardware, HardwareConfig):
        config, name = override_hardware(hardware, changes), "given"
    else:
        config, name = load_hardware(str(hardware), changes), str(hardware)
    name = " ".join((name, *changes))
    if out is not None:
        check_build_folder(Path(out), checkpoint, config, name, force)
    build = compile_model(checkpoint, config, name, progress)
    for warning in physics_warnings(build):
        warnings.warn(warning, stacklevel=2)
    return build if out is None else save_build(build, Path(out), force, progress)
