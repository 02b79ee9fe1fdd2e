"""Builds on disk: the same again after loading, and what is said of a folder that is not a good one."""

import errno
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from making import inflate_array, make_build, make_checkpoint

import hvae_mnn.compiler.build as build_module
from hvae_mnn.compiler.build import Build, load_build, load_manifest, save_build
from hvae_mnn.compiler.pipeline import compile_model, draw_die
from hvae_mnn.errors import ArtifactError, CheckpointError, HardwareError, UserError
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SMALL = ("array.tile_rows=9", "array.tile_columns=4")


@pytest.fixture
def built(tmp_path: Path) -> Build:
    return make_build(tmp_path / "build", "default", SMALL)


def folder_of(build: Build) -> Path:
    assert build.folder is not None
    return build.folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuses(folder: Path, message: str, kind: type[UserError] = ArtifactError) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        load_build(folder)


def test_loading_gives_back_what_was_saved(built: Build) -> None:
    loaded = load_build(folder_of(built))
    assert loaded.manifest == built.manifest
    assert loaded.checkpoint.content_hash() == built.checkpoint.content_hash()
    assert list(loaded.tiles) == list(built.tiles)
    for name, tile in built.tiles.items():
        assert loaded.tiles[name].plan == tile.plan
        np.testing.assert_array_equal(loaded.tiles[name].g, tile.g)
        np.testing.assert_array_equal(loaded.tiles[name].g_target, tile.g_target)
    assert loaded.folder == folder_of(built)


def test_one_deck_a_tile_and_every_library_it_includes(built: Build) -> None:
    folder = folder_of(built)
    decks = {path.relative_to(folder).as_posix() for path in folder.glob("decks/**/*.cir")}
    assert decks == {tile.plan.deck for tile in built.tiles.values()}
    assert "decks/decoder/g/r1c1.cir" in decks
    for deck in decks:
        for name in re.findall(r"^\.include (\S+)$", (folder / deck).read_text(), re.MULTILINE):
            assert ((folder / deck).parent / name).is_file()


def test_tiles_and_memristors_by_hand() -> None:
    """rnn over 10 + 6 inputs, 6 + 6, and 10 + 6 + 4, each with at least one bias row and 6 hidden units."""
    build = make_build(None, "default", SMALL, cells=("rnn", "rnn"), decoder="rnn")
    rows = {name: 0 for name in ("encoder1", "encoder2", "decoder")}
    for tile in build.tiles.values():
        assert tile.g.shape == (tile.plan.rows, tile.plan.columns)
        rows[tile.plan.name.split(".")[0]] += tile.plan.rows if tile.plan.column_start == 0 else 0
    assert all(found >= least for found, least in zip(rows.values(), (17, 13, 21), strict=True))
    assert build.memristors() == 6 * sum(rows.values())
    assert build.layer("encoder2").hidden == 6
    assert [group.name for group in build.layer("decoder").groups] == ["x", "h", "z"]


def test_not_a_build(tmp_path: Path) -> None:
    refuses(tmp_path, f"{tmp_path}: not a build (no manifest.json); make one with: hvae-mnn compile MODEL --out")
    refuses(tmp_path / "missing", "missing: not a build (no manifest.json)")


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1}', "[1, 2]", '"\udcff"'])
def test_damaged_manifest(built: Build, text: str) -> None:
    path = folder_of(built) / "manifest.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    refuses(folder_of(built), f"{path}: damaged or of another version (")


def edit_manifest(build: Build, change: Callable[[dict], None]) -> Path:  # type: ignore[type-arg]
    path = folder_of(build) / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("die", [None, 5])
def test_what_is_opened_is_written_as_it_was(built: Build, tmp_path: Path, die: int | None) -> None:
    """Bytes of every file, of a Build as it was compiled and of another die of it."""
    if die is not None:
        built = save_build(draw_die(built, die), tmp_path / "die")
    opened = load_build(folder_of(built))
    again = save_build(opened, tmp_path / "again")
    assert snapshot(folder_of(again)) == snapshot(folder_of(built))


def test_manifest_with_an_unknown_or_missing_key(built: Build) -> None:
    edit_manifest(built, lambda values: values.update(spin=1))
    refuses(folder_of(built), "damaged or of another version (spin: Extra inputs are not permitted); compile again")
    edit_manifest(built, lambda values: (values.pop("spin"), values["layers"][1]["tiles"][2].pop("r_f")))
    refuses(folder_of(built), "damaged or of another version (layers.1.tiles.2.r_f: Field required)")


def test_other_schema_version(built: Build) -> None:
    path = edit_manifest(built, lambda values: values.update(schema_version=3))
    refuses(folder_of(built), f"{path}: schema version 3; this program reads 1 and 2. Compile again")


def test_a_build_of_version_1_opens_and_is_written_as_version_2(built: Build) -> None:
    """It held its model as a torch file."""
    folder, model = folder_of(built), load_checkpoint(folder_of(built) / "model.safetensors")
    save_checkpoint(model, folder / "model.pt")
    (folder / "model.safetensors").unlink()
    edit_manifest(built, lambda values: values.update(schema_version=1))
    opened = load_build(folder)
    assert opened.checkpoint.content_hash() == built.checkpoint.content_hash()
    assert opened.manifest == built.manifest
    save_build(built, folder)  # the same Build: what is of version 1 is replaced
    assert load_manifest(folder).schema_version == 2
    assert not (folder / "model.pt").exists()


def test_manifest_with_impossible_hardware(built: Build) -> None:
    edit_manifest(built, lambda values: values["hardware"]["drive"].update(v_read=0.2))
    refuses(folder_of(built), "drive.v_read with overshoot is 220 mV, not below", HardwareError)


def test_missing_model(built: Build) -> None:
    (folder_of(built) / "model.safetensors").unlink()
    refuses(folder_of(built), "model.safetensors is missing from the build; compile it again")


def test_foreign_model(built: Build) -> None:
    other = make_checkpoint(seed=1)
    save_checkpoint(other, folder_of(built) / "model.safetensors")
    ours = built.manifest.model_hash[:12]
    theirs = other.content_hash()[:12]
    message = f"model.safetensors is not the model the build was compiled from ({theirs} instead of {ours})"
    refuses(folder_of(built), message)


def test_model_that_is_no_model(built: Build) -> None:
    (folder_of(built) / "model.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match=r"model\.safetensors' is not a checkpoint or is damaged"):
        load_build(folder_of(built))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def drop_one(path: Path) -> None:
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files[1:]}
    np.savez(path, **kept)


def reshape_one(path: Path) -> None:
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    name = next(name for name in kept if name.endswith("/programmed"))
    kept[name] = kept[name][:-1]
    np.savez(path, **kept)


def put(value: float) -> Callable[[Path], object]:
    """Put a value in one tile's conductances."""

    def damage(path: Path) -> None:
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        name = next(name for name in kept if name.endswith("/programmed"))
        kept[name][0, 0] = value
        np.savez(path, **kept)

    return damage


DAMAGES: list[Callable[[Path], object]] = [
    Path.unlink,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("hello"),
    cut_short,
    flip,
    drop_one,
    reshape_one,
    put(np.nan),
    put(0.0),
    put(-5e-5),
    lambda path: inflate_array(path, "decoder.f.r0c0/programmed"),
]


@pytest.mark.parametrize(
    "damage",
    DAMAGES,
    ids=["missing", "empty", "text", "short", "flipped", "dropped", "reshaped", "nan", "zero", "negative", "huge"],
)
def test_damaged_conductances(built: Build, damage: Callable[[Path], object]) -> None:
    path = folder_of(built) / "conductance.npz"
    damage(path)
    refuses(folder_of(built), f"{path}: missing or damaged (")


def test_the_same_build_may_be_written_again_and_another_only_by_force(tmp_path: Path, built: Build) -> None:
    folder, before = folder_of(built), snapshot(folder_of(built))
    same = save_build(built, folder)
    assert same.folder == folder
    assert {name for name in before if before[name] != snapshot(folder)[name]} <= {
        "model.safetensors",
        "conductance.npz",
    }
    other = make_build(None, "default", ("array.tile_rows=5",))
    with pytest.raises(
        ArtifactError, match=r"build: the folder holds another build; choose another --out or give --force"
    ):
        save_build(other, folder)
    assert load_manifest(folder) == built.manifest
    save_build(other, folder, force=True)
    assert load_manifest(folder) == other.manifest
    assert set(snapshot(folder)) != set(before)
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_a_damaged_build_is_another_build(built: Build) -> None:
    (folder_of(built) / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="holds another build"):
        save_build(built, folder_of(built))
    edit_path = save_build(built, folder_of(built), force=True).folder
    edit_manifest(built, lambda values: values["hardware"]["drive"].update(v_read=0.2))
    with pytest.raises(ArtifactError, match="holds another build"):
        save_build(built, folder_of(built))
    assert edit_path == folder_of(built)


def test_force_does_not_replace_what_is_no_build(tmp_path: Path) -> None:
    (tmp_path / "chapter.tex").write_text("dear")
    with pytest.raises(ArtifactError, match="holds something else, which would be lost"):
        save_build(make_build(None), tmp_path, force=True)
    assert snapshot(tmp_path) == {"chapter.tex": b"dear"}


STEPS = ["save_checkpoint", "_save_conductances", "_save_libraries", "_save_decks"]


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_at_any_step_leaves_the_old_build(
    tmp_path: Path, built: Build, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = snapshot(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build_module, step, full)
    message = re.escape(f"{folder_of(built)}: writing failed: No space left on device; nothing was kept. Free space or")
    with pytest.raises(ArtifactError, match=message):
        save_build(built, folder_of(built))
    assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_a_full_disk_inside_numpy_and_ctrl_c_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = make_build(None)
    for error in (OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()):

        def fails(file: object, *, error: BaseException = error, **_: object) -> None:
            file.write(b"half")  # type: ignore[attr-defined]
            raise error

        monkeypatch.setattr(np, "savez", fails)
        with pytest.raises((ArtifactError, KeyboardInterrupt)):
            save_build(build, tmp_path / "build")
        assert list(tmp_path.iterdir()) == []


def test_a_model_without_calibration_cannot_be_compiled() -> None:
    whole = make_checkpoint()
    bare = Checkpoint(whole.config, whole.vocabulary, whole.weights, {}, {})
    with pytest.raises(CheckpointError, match=r"no calibration for encoder1, .* expected one made by: hvae-mnn train"):
        compile_model(bare, load_hardware("default"), "default")


def test_conductances_are_a_plain_zip(built: Build) -> None:
    with zipfile.ZipFile(folder_of(built) / "conductance.npz") as archive:
        names = set(archive.namelist())
    assert {f"{name}/{part}.npy" for name in built.tiles for part in ("target", "programmed")} == names
