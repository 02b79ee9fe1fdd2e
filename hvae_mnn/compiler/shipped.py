"""The shipped models, and a Build of one in the user's cache."""

import hashlib
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from hvae_mnn.compiler.build import SCHEMA_VERSION, Build, load_build, save_build
from hvae_mnn.compiler.pipeline import compile_model
from hvae_mnn.errors import ArtifactError, CheckpointError, UserError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.runtime.resources import models_folder, netlists_folder
from hvae_mnn.runtime.version import VERSION

DEFAULT_MODEL = "ptb"


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    return tuple(sorted(path.stem for path in models_folder().glob("*.pt")))


def open_model(name_or_file: str) -> Checkpoint:
    """Open a checkpoint by the name of a shipped model or by file.

    Raises:
        CheckpointError: Neither, or not a sound checkpoint.
    """
    if name_or_file in shipped_models() and not Path(name_or_file).is_file():
        return load_checkpoint(models_folder() / f"{name_or_file}.pt")
    if not Path(name_or_file).exists():
        names = ", ".join(shipped_models())
        raise CheckpointError(f"model {name_or_file}: no such file or shipped model; expected a file or one of {names}")
    return load_checkpoint(name_or_file)


def cache_folder() -> Path:
    """Return the folder of Builds made on the way, one a model and hardware."""
    return user_cache_path("hvae-mnn") / "builds"


def cached_build(
    checkpoint: Checkpoint, hardware: HardwareConfig, hardware_name: str, progress: Progress | None = None
) -> Build:
    """Return the Build of a model on some hardware, compiled into the cache where it is not there yet.

    `progress` as `compile_model` and `save_build` take it.

    Raises:
        CheckpointError: The model cannot be compiled.
        ArtifactError: The cache cannot be written.
    """
    digest = hashlib.sha256(f"{VERSION} {SCHEMA_VERSION} {checkpoint.compiled_hash()}".encode())
    digest.update(hardware.model_dump_json().encode())
    for library in sorted(netlists_folder().glob("*.lib")):
        digest.update(library.read_bytes())
    folder = cache_folder() / digest.hexdigest()[:16]
    try:
        found = load_build(folder)
        return replace(found, manifest=found.manifest.model_copy(update={"hardware_name": hardware_name}))
    except UserError:  # not there yet, or damaged: either way it is made anew
        build = compile_model(checkpoint, hardware, hardware_name, progress)
    try:
        return save_build(build, folder, force=True, progress=progress)
    except ArtifactError as error:
        raise ArtifactError(
            f"the cache of builds cannot be used ({error}); set XDG_CACHE_HOME to a folder that can be written, "
            "or compile into a folder and give it as --build"
        ) from None
