"""Rounding of weights, and the files of each precision."""

import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_checkpoint
from numpy.typing import NDArray

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hvae_mnn.model.config import PRECISIONS
from hvae_mnn.model.precision import pack, round_weight, unpack

TORCH_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def torch_rounds(value: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    return torch.from_numpy(value.copy()).to(TORCH_TYPES[precision]).float().numpy()


def bits(value: NDArray[np.float32]) -> NDArray[np.uint32]:
    return value.view(np.uint32)


def awkward_values() -> NDArray[np.float32]:
    """Ties of both kinds, one bit beside them, zeros of both signs, subnormals, the largest, and random ones."""
    upper = np.array([0x0000, 0x0001, 0x007F, 0x3F80, 0x3F81, 0x7F7E, 0x7F7F], np.uint32) << np.uint32(16)
    lower = np.array([0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    chosen = (upper[:, None] | lower).ravel()
    drawn = np.random.default_rng(0).integers(0, 0x7F800000, 10_000, np.uint32)
    positive = np.concatenate([chosen, drawn]).astype(np.uint32).view(np.float32)
    return np.concatenate([positive, -positive])


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(make_checkpoint(), path, precision="bfloat16")
    return path


def tamper(path: Path, **changes: Any) -> None:
    torch.save(torch.load(path, weights_only=True) | changes, path)


def tamper_weight(path: Path, name: str, content: bytes) -> None:
    weights = torch.load(path, weights_only=True)["weights"]
    tamper(path, weights=weights | {name: torch.frombuffer(bytearray(content), dtype=torch.uint8)})


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounding_is_that_of_torch_bit_for_bit(precision: str) -> None:
    values = awkward_values()

    rounded = round_weight(values, precision)

    np.testing.assert_array_equal(bits(rounded), bits(torch_rounds(values, precision)))
    np.testing.assert_array_equal(bits(round_weight(rounded, precision)), bits(rounded))
    tie = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)  # between two bfloat16 each: to the even one
    if precision == "bfloat16":
        np.testing.assert_array_equal(round_weight(tie, precision), [1, 1 + 2**-6])


def test_a_precision_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"precision is 'int8'; expected one of float32, float16, bfloat16"):
        save_checkpoint(make_checkpoint(), tmp_path / "model.pt", precision="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0, 4)])
def test_packed_values_come_back_bit_for_bit(shape: tuple[int, ...]) -> None:
    values = round_weight(np.random.default_rng(1).standard_normal(shape).astype(np.float32), "bfloat16")

    again = unpack(pack(values), shape)

    assert (again.shape, again.dtype) == (shape, np.float32)
    np.testing.assert_array_equal(bits(again), bits(values))
    if len(shape) == 2:
        np.testing.assert_array_equal(unpack(pack(np.asfortranarray(values)), shape), values)


@pytest.mark.parametrize("scale", [1.0, 0.05])
def test_random_weights_pack_into_far_less_than_16_bits(scale: float) -> None:
    values = np.random.default_rng(2).normal(0, scale, (1000, 100)).astype(np.float32)

    assert 8 * len(pack(round_weight(values, "bfloat16"))) / values.size < 11.5  # 8 of mantissa, 2.6 of entropy above


def test_equal_values_stay_below_the_ratio_that_unpacking_allows() -> None:
    values = np.zeros((1000, 1000), np.float32)

    np.testing.assert_array_equal(unpack(pack(values), values.shape), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda stream: stream[:-1], r"does not hold the 12 bytes of the shape \(2, 3\) that config says"),
        (lambda stream: stream + b"more", "does not hold the 12 bytes"),
        (lambda stream: stream[:-1] + bytes([stream[-1] ^ 1]), "is damaged"),
        (lambda stream: b"no zlib stream", "is damaged"),
        (lambda stream: b"", r"has 0 packed bytes; too few for the shape \(2, 3\)"),
        (lambda stream: zlib.compress(bytes(13)), "does not hold the 12 bytes"),
        (lambda stream: zlib.compress(bytes(11)), "does not hold the 12 bytes"),
        (lambda stream: zlib.compress(bytes(10**8)), "does not hold the 12 bytes"),
    ],
)
def test_a_stream_that_does_not_hold_the_shape_is_refused(content: Any, message: str) -> None:
    stream = pack(np.arange(6, dtype=np.float32).reshape(2, 3))

    with pytest.raises(ValueError, match=message):
        unpack(content(stream), (2, 3))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_holds_what_rounding_gives_bit_for_bit(tmp_path: Path, precision: str) -> None:
    checkpoint, path = make_checkpoint(hidden=(6, 4, 7)), tmp_path / "model.pt"
    save_checkpoint(checkpoint, path, precision=precision)

    loaded, rounded = load_checkpoint(path), checkpoint.rounded(precision)

    assert loaded.content_hash() == rounded.content_hash()
    assert (rounded.content_hash() == checkpoint.content_hash()) == (precision == "float32")
    for name, value in checkpoint.weights.items():
        assert (loaded.weights[name].dtype, loaded.weights[name].shape) == (np.float32, value.shape)
        np.testing.assert_array_equal(bits(loaded.weights[name]), bits(torch_rounds(value, precision)))
    payload = torch.load(path, weights_only=True)
    assert payload["version"] == (2 if precision == "bfloat16" else 1)
    stored = torch.uint8 if precision == "bfloat16" else TORCH_TYPES[precision]
    assert {value.dtype for value in payload["weights"].values()} == {stored}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_checkpoint_gives_the_same_file(tmp_path: Path, precision: str) -> None:
    first, second, third, fourth = (tmp_path / name / "model.pt" for name in "abcd")
    for path in (first, second):
        save_checkpoint(make_checkpoint(), path, precision=precision)
    save_checkpoint(load_checkpoint(first), third, precision=precision)
    save_checkpoint(load_checkpoint(third), fourth, precision=precision)

    assert first.read_bytes() == second.read_bytes()
    assert third.read_bytes() == fourth.read_bytes()


@pytest.mark.parametrize(("precision", "value"), [("float16", 1e6), ("bfloat16", 3.4e38)])
def test_a_weight_too_large_for_16_bits_is_refused(tmp_path: Path, precision: str, value: float) -> None:
    checkpoint = make_checkpoint()
    bias = np.full_like(checkpoint.weights["output.bias"], value)
    checkpoint = replace(checkpoint, weights={**checkpoint.weights, "output.bias": bias})

    with pytest.raises(CheckpointError, match=r"output.bias holds NaN or infinite values; .*--precision float32"):
        save_checkpoint(checkpoint, tmp_path / "model.pt", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_packed_weights_of_another_shape_are_refused(packed: Path) -> None:
    tamper_weight(packed, "mu.bias", pack(np.zeros(5, np.float32)))

    with pytest.raises(CheckpointError, match=r"model.pt': weight mu.bias does not hold the 8 bytes .*Restore"):
        load_checkpoint(packed)


def test_a_weight_that_inflates_to_gigabytes_is_not_inflated(packed: Path) -> None:
    """It is refused even where the config agrees with it: packed weights are not that small."""
    tamper_weight(packed, "output.bias", zlib.compress(bytes(10**8)))
    with pytest.raises(CheckpointError, match=r"weight output.bias does not hold the"):
        load_checkpoint(packed)

    payload = torch.load(packed, weights_only=True)
    tamper(packed, config=payload["config"] | {"hidden": 10**6})
    with pytest.raises(CheckpointError, match=r"packed bytes; too few for the shape .* that config says"):
        load_checkpoint(packed)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_tensor_that_repeats_one_entry_is_not_laid_out(tmp_path: Path, precision: str) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(make_checkpoint(), path, precision=precision)
    weights = torch.load(path, weights_only=True)["weights"]
    one = torch.zeros(1, dtype=weights["mu.bias"].dtype)
    tamper(path, weights=weights | {"mu.bias": one.expand(10**13)})

    with pytest.raises(CheckpointError, match=r"is damaged \(an array of \d+ bytes has \d in the file\)"):
        load_checkpoint(path)


@pytest.mark.parametrize(("version", "precision"), [(1, "bfloat16"), (2, "float32"), (2, "float16")])
def test_weights_of_the_other_version_are_refused(tmp_path: Path, version: int, precision: str) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(make_checkpoint(), path, precision=precision)
    tamper(path, version=version)

    with pytest.raises(CheckpointError, match=r"weight .*(has shape .*; config says|expected packed bytes)"):
        load_checkpoint(path)


def test_packed_weights_of_other_cells_are_refused(packed: Path) -> None:
    weights = torch.load(packed, weights_only=True)["weights"]
    weights["peephole"] = weights.pop("mu.bias")
    tamper(packed, weights=weights)

    with pytest.raises(CheckpointError, match=r"weights and config disagree on mu.bias, peephole"):
        load_checkpoint(packed)


@pytest.mark.parametrize("bits_of_it", [0x7F80, 0x7FC0])
def test_packed_weights_that_are_not_finite_are_refused(packed: Path, bits_of_it: int) -> None:
    values = make_checkpoint().weights["mu.bias"].copy()
    values.view(np.uint32)[2] = bits_of_it << 16
    tamper_weight(packed, "mu.bias", pack(values))

    with pytest.raises(CheckpointError, match=r"weight mu.bias holds NaN or infinite values"):
        load_checkpoint(packed)


def test_every_damaged_or_torn_packed_file_is_one_line_or_the_same_model(packed: Path) -> None:
    content, whole = packed.read_bytes(), load_checkpoint(packed)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 60).tolist():
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]):
            packed.write_bytes(damaged)
            try:
                found: Checkpoint = load_checkpoint(packed)
            except CheckpointError as error:
                assert "\n" not in str(error)
            else:
                assert found.content_hash() == whole.content_hash() or len(damaged) == len(content)


def deflate_file(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


class Bomb:
    """Leaves a folder behind if anything ever unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.trace),))


@pytest.mark.parametrize("kind", ["checkpoint", "code", "zeros"])
def test_a_deflated_file_is_refused_unopened(packed: Path, tmp_path: Path, kind: str) -> None:
    """Torch would open it, however large it becomes."""
    trace = tmp_path / "trace"
    if kind == "code":
        torch.save({"format": Bomb(trace)}, packed)
    elif kind == "zeros":
        torch.save({"format": torch.zeros(10**6)}, packed)
    deflate_file(packed)

    with pytest.raises(CheckpointError, match=r"model.pt' is not a checkpoint or is damaged"):
        load_checkpoint(packed)
    assert not trace.exists()
