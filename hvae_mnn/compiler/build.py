"""Build: a compiled model as a folder that stands on its own.

build/
  manifest.json     schema version, model hash, hardware, layers, tiles, scales
  model.safetensors the checkpoint: software parts and the software reference
  lib/*.lib         the subcircuits used, copied from netlists/
  decks/            one deck a tile, a folder a layer and gate
  conductance.npz   target and programmed conductances, siemens, for each tile
"""

import json
import math
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hvae_mnn.circuit.plan import LayerPlan, Tile, TilePlan
from hvae_mnn.circuit.spice.device_library import DEVICE_LIBRARY, format_device_library
from hvae_mnn.circuit.spice.tile_deck import format_deck, library_names
from hvae_mnn.compiler.ranges import converted_inputs
from hvae_mnn.errors import ArtifactError, UserError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.rules import check_hardware
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hvae_mnn.runtime.folders import check_replaceable, holds_only, written_whole
from hvae_mnn.runtime.progress import Progress
from hvae_mnn.runtime.resources import netlists_folder

Array = NDArray[np.float64]

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
_MODEL, _OLD_MODEL = "model.safetensors", "model.pt"  # the latter in version 1
_PARTS = (MANIFEST, _MODEL, _OLD_MODEL, "lib", "decks", "conductance.npz")


class Manifest(BaseModel):
    """What a Build is made of.

    Attributes:
        schema_version: Version of this layout.
        model_hash: SHA-256 of the checkpoint's contents.
        hardware_name: Preset or file that the hardware came from.
        hardware: The whole configuration, SI units.
        layers: encoder1, encoder2, decoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    model_hash: str
    hardware_name: str
    hardware: HardwareConfig
    layers: tuple[LayerPlan, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """A compiled model in memory.

    Attributes:
        manifest: Layers, tiles, hardware.
        tiles: Tiles by name, with their conductances.
        checkpoint: The trained model.
        folder: Where it lies; None until it is saved.
    """

    manifest: Manifest
    tiles: Mapping[str, Tile]
    checkpoint: Checkpoint
    folder: Path | None = None

    def layer(self, name: str) -> LayerPlan:
        """Return a layer's plan by name."""
        return next(layer for layer in self.manifest.layers if layer.name == name)

    def replay(self, layer: LayerPlan) -> Array:
        """Return the input that a bare run of a layer's decks replays: a calibration vector, fractions of full scale.

        It is taken as files hold it, in 16 bits, so that a Build that was opened is written as it was.
        """
        samples = self.checkpoint.calibration[layer.name]
        sample = samples[len(samples) // 2].astype(np.float16).astype(np.float64)
        x_max = np.repeat([group.x_max for group in layer.groups], [group.size for group in layer.groups])
        return converted_inputs(sample / x_max, self.manifest.hardware.dac)

    def memristors(self) -> int:
        """Return the number of memristors."""
        return sum(tile.g.size for tile in self.tiles.values())

    def programming_error(self) -> float:
        """Return the rms of programmed less target conductance, as a part of the conductance range."""
        array = self.manifest.hardware.array
        squares = sum(float(np.sum((tile.g - tile.g_target) ** 2)) for tile in self.tiles.values())
        return math.sqrt(squares / self.memristors()) / (array.g_max - array.g_min)


def save_build(build: Build, folder: str | Path, force: bool = False, progress: Progress | None = None) -> Build:
    """Write a Build whole or not at all; the same Build may be written again.

    Args:
        build: The Build.
        folder: Where it shall lie.
        force: Replace another Build.
        progress: Called with a stage, the decks written and all.

    Raises:
        ArtifactError: The folder holds another Build (unless `force`) or something else.
    """
    folder = Path(folder)
    with written_whole(folder, lambda there: _may_replace(there, build.manifest, force)) as draft:
        (draft / MANIFEST).write_text(build.manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        save_checkpoint(build.checkpoint, draft / _MODEL)
        _save_conductances(build, draft / "conductance.npz")
        _save_libraries(build.manifest.hardware, draft / "lib")
        _save_decks(build, draft, progress)
    return replace(build, folder=folder)


def check_build_folder(
    folder: Path, checkpoint: Checkpoint, hardware: HardwareConfig, hardware_name: str, force: bool = False
) -> None:
    """Refuse a folder that a model's Build may not take the place of, before it is compiled.

    Raises:
        ArtifactError: As `save_build`.
    """
    wanted = Manifest(model_hash=checkpoint.content_hash(), hardware_name=hardware_name, hardware=hardware, layers=())
    check_replaceable(folder, lambda there: _may_replace(there, wanted, force))


def _may_replace(folder: Path, manifest: Manifest, force: bool) -> bool:
    if not (folder / MANIFEST).is_file() or not holds_only(folder, _PARTS):
        return False
    if force or _is_same(folder, manifest):
        return True
    raise ArtifactError(f"{folder}: the folder holds another build; choose another --out or give --force")


def check_only_build(folder: Path) -> None:
    """Refuse a Build's folder that holds files of the user's, which replacing it would lose.

    Raises:
        ArtifactError: With their names.
    """
    others = sorted({entry.name for entry in folder.iterdir()} - set(_PARTS))
    if others:
        raise ArtifactError(
            f"{folder}: {', '.join(others[:3])} is not part of the build and would be lost; move it away"
        )


def load_build(folder: str | Path) -> Build:
    """Open a Build and check that its parts belong together.

    Raises:
        ArtifactError: Missing, incomplete, damaged, or of another schema version.
    """
    folder = Path(folder)
    manifest = load_manifest(folder)
    _check_complete(folder, manifest)
    name = _model_name(manifest)
    checkpoint = load_checkpoint(folder / name)
    if checkpoint.content_hash() != manifest.model_hash:
        raise ArtifactError(
            f"{folder}: {name} is not the model the build was compiled from "
            f"({checkpoint.content_hash()[:12]} instead of {manifest.model_hash[:12]}); compile it again"
        )
    tiles = _load_tiles(folder, manifest)
    manifest = manifest.model_copy(update={"schema_version": SCHEMA_VERSION})
    return Build(manifest, tiles, checkpoint, folder)


def _model_name(manifest: Manifest) -> str:
    return _OLD_MODEL if manifest.schema_version == 1 else _MODEL


def _check_complete(folder: Path, manifest: Manifest) -> None:
    """Refuse a Build that lacks one of its files."""
    decks = [tile.deck for layer in manifest.layers for tile in layer.tiles]
    libraries = [f"lib/{name}.lib" for name in library_names(manifest.hardware)]
    if manifest.schema_version == 1:  # whose decks have resistances in place of a device
        libraries = [each for each in libraries if each != f"lib/{DEVICE_LIBRARY}.lib"]
    for name in (_model_name(manifest), *libraries, *decks):
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder}: {name} is missing from the build; compile it again")


def load_manifest(folder: Path) -> Manifest:
    """Read a Build's manifest.

    Raises:
        ArtifactError: The folder is not a Build, or of another schema version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: not a build (no {MANIFEST}); make one with: hvae-mnn compile MODEL --out {folder}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict):
            values.pop("ports", None)  # of version 1: names of nodes, which nothing read
        manifest = Manifest.model_validate(values)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path}: damaged or of another version ({place}: {first['msg']}); compile again") from None
    if manifest.schema_version not in (1, SCHEMA_VERSION):
        raise ArtifactError(
            f"{path}: schema version {manifest.schema_version}; this program reads 1 and {SCHEMA_VERSION}. "
            "Compile again"
        )
    check_hardware(manifest.hardware, str(path))
    return manifest


def _is_same(folder: Path, manifest: Manifest) -> bool:
    """Say whether a folder holds the Build of a manifest, or, for one without layers, of its model and hardware."""
    try:
        found = load_manifest(folder)
    except UserError:
        return False
    found = found.model_copy(update={"schema_version": manifest.schema_version})
    return found == manifest or found.model_copy(update={"layers": ()}) == manifest


def _save_conductances(build: Build, path: Path) -> None:
    arrays = {f"{name}/target": tile.g_target for name, tile in build.tiles.items()}
    arrays |= {f"{name}/programmed": tile.g for name, tile in build.tiles.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _save_libraries(hardware: HardwareConfig, folder: Path) -> None:
    folder.mkdir()
    for name in library_names(hardware):
        if name == DEVICE_LIBRARY:
            text = format_device_library(hardware.memristor, dynamic=hardware.array.memristor == "dynamic")
            (folder / f"{name}.lib").write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(netlists_folder() / f"{name}.lib", folder / f"{name}.lib")


def _save_decks(build: Build, folder: Path, progress: Progress | None) -> None:
    hardware, plans = (
        build.manifest.hardware,
        [(layer, plan) for layer in build.manifest.layers for plan in layer.tiles],
    )
    for done, (layer, plan) in enumerate(plans):
        path = folder / plan.deck
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_deck(build.tiles[plan.name], layer, hardware, build.replay(layer)), encoding="utf-8")
        if progress is not None:
            progress("decks written", done + 1, len(plans))


def _load_tiles(folder: Path, manifest: Manifest) -> dict[str, Tile]:
    path = folder / "conductance.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {
                plan.name: Tile(plan, _conductances(arrays, plan, "target"), _conductances(arrays, plan, "programmed"))
                for layer in manifest.layers
                for plan in layer.tiles
            }
    except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: missing or damaged ({error}); compile the build again") from None


def _conductances(arrays: Mapping[str, Array], plan: TilePlan, part: str) -> Array:
    """Return one of a tile's arrays; it must be as large as the tile and hold conductances."""
    g = arrays[f"{plan.name}/{part}"]
    if g.shape != (plan.memristor_rows, plan.columns):
        raise ValueError(f"{plan.name}/{part} is {g.shape}; expected {(plan.memristor_rows, plan.columns)}")
    if not (np.isfinite(g).all() and (g > 0).all()):
        raise ValueError(f"{plan.name}/{part} holds values that are no conductances")
    return g
