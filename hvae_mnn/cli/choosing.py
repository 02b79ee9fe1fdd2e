"""What a command works on: the build, model and hardware, or the result, that is named, or else the one that is here.

What was not named is said on stderr.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvae_mnn.cli.options import name_hardware
from hvae_mnn.reports.terminal import simulation_progress

if TYPE_CHECKING:
    from hvae_mnn.compiler.build import Build
    from hvae_mnn.hardware.config import HardwareConfig
    from hvae_mnn.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model on a hardware.

    Attributes:
        checkpoint: The model.
        model_name: Name or file of the model, or folder of the build that it is from.
        hardware: The hardware.
        hardware_name: Preset or file of the hardware, with what was changed.
        build: The build, where it is taken as it is.
    """

    checkpoint: "Checkpoint"
    model_name: str
    hardware: "HardwareConfig"
    hardware_name: str
    build: "Build | None" = None


def choose_model(
    build_dir: Path | None, model: str | None, hardware: str | None, overrides: tuple[str, ...], shipped: str
) -> Chosen:
    """Return the model and hardware of a command line.

    The model is the one that is named, else that of the build that is named, else that of ./build, else the
    shipped one. The hardware is the one that is named, else the build's, else preset default; then `--set` changes it.

    Raises:
        UserError: One of them is missing or damaged.
    """
    from hvae_mnn.runtime.finding import BUILD_FOLDER, holds_build

    here = build_dir is None and holds_build(BUILD_FOLDER)
    if build_dir is not None or (here and model is None):
        chosen = _of_build(build_dir or BUILD_FOLDER, hardware, overrides)
    else:
        chosen = _of_model(model or shipped, hardware, overrides)
    if build_dir is None and (here or model is None):
        click.echo(_describe(chosen, here, model), err=True)
    return chosen


def open_build(
    build_dir: Path | None, model: str | None = None, hardware: str | None = None, overrides: tuple[str, ...] = ()
) -> "Build":
    """Return the build of a command line; what is no build as it is gets compiled into the cache.

    Raises:
        UserError: As `choose_model`.
    """
    from hvae_mnn.compiler.shipped import DEFAULT_MODEL, cached_build

    chosen = choose_model(build_dir, model, hardware, overrides, DEFAULT_MODEL)
    if chosen.build is not None:
        return chosen.build
    with simulation_progress() as report:
        return cached_build(chosen.checkpoint, chosen.hardware, chosen.hardware_name, report)


def own_build(build_dir: Path | None, command: str) -> Path:
    """Return the folder of the build that a command may change: the one that is named, or ./build.

    Raises:
        UserError: None is named, and there is none or a damaged one.
    """
    from hvae_mnn.errors import ArtifactError
    from hvae_mnn.runtime.finding import BUILD_FOLDER, holds_build

    if build_dir is not None:
        return build_dir
    if not holds_build(BUILD_FOLDER):
        raise ArtifactError(
            f"{_absent()}; make one with: hvae-mnn compile MODEL, or name another one: hvae-mnn {command} BUILD"
        )
    click.echo(_describe(_of_build(BUILD_FOLDER, None, ()), here=True, model=None), err=True)
    return BUILD_FOLDER


def find_result(folder: Path | None, *kinds: str) -> Path:
    """Return the folder that is named, or that of the newest result of some kinds here; of all where none is given.

    Raises:
        ArtifactError: None is named, and there is none.
    """
    from hvae_mnn.runtime.finding import KINDS, newest_result

    if folder is not None:
        return folder
    found = newest_result(Path(), kinds or KINDS)
    click.echo(f"taking {found.folder}, a {found.kind}: the newest here", err=True)
    return found.folder


def _of_model(name: str, hardware: str | None, overrides: tuple[str, ...]) -> Chosen:
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.hardware.files import load_hardware

    hardware = hardware or "default"
    config = load_hardware(hardware, overrides)
    return Chosen(open_model(name), name, config, name_hardware(hardware, overrides))


def _of_build(folder: Path, hardware: str | None, overrides: tuple[str, ...]) -> Chosen:
    from hvae_mnn.compiler.build import load_build
    from hvae_mnn.hardware.files import load_hardware, override_hardware

    build = load_build(folder)
    own, name = build.manifest.hardware, name_hardware(hardware or build.manifest.hardware_name, overrides)
    config = override_hardware(own, overrides) if hardware is None else load_hardware(hardware, overrides)
    same = hardware is None and not overrides
    return Chosen(build.checkpoint, str(folder), config, name, build if same else None)


def _describe(chosen: Chosen, here: bool, model: str | None) -> str:
    """Return what is taken; `here` says whether there is a ./build, `model` is what was named."""
    on = f"hardware {chosen.hardware_name}"
    if here and model is not None:
        return f"passing ./build by: model {model}, {on}"
    if not here:
        return f"{_absent()}: taking the shipped model {chosen.model_name}, {on}"
    corpus = chosen.checkpoint.provenance.get("corpus")
    trained = f" (trained on {corpus})" if corpus else ""
    anew = "" if chosen.build else ", its model compiled anew"
    return f"taking ./build{anew}: model {chosen.checkpoint.content_hash()[:12]}{trained}, {on}"


def _absent() -> str:
    """Say why there is nothing to take in ./build."""
    from hvae_mnn.runtime.finding import BUILD_FOLDER

    return "./build is no build of hvae-mnn" if BUILD_FOLDER.exists() else "there is no ./build"
