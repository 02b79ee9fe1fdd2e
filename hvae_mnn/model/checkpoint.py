"""A trained model on disk: sizes, words, weights and what was measured, in one file.

The file is torch's zip format, or safetensors where its name ends so, holding plain values and tensors. Both are
read without torch, and opening one never runs code. No sentence of the corpus is
in it: the vocabulary is, and so are activations (`calibration`) and their ranges.

There are three layouts. Version 1 holds weights as float32 or float16 tensors. Version 2 holds bfloat16
weights, each as a tensor of packed bytes whose shape only the config tells: the high bytes (sign and
exponent) apart from the low ones (mantissa), deflated, because the former take few values and deflate
finds that only where they are by themselves. What is packed is unpacked here, never by torch: it reads
deflated zip files without a promise to, and without a bound on their size. Version 3 is either of these, as its
entry `packed` says, for models with other parts than two encoder layers, Gaussian latents and the prior N(0, 1),
which programs that read versions 1 and 2 do not know.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hvae_mnn.errors import CheckpointError
from hvae_mnn.model.config import ADDED, ModelConfig
from hvae_mnn.model.layers import (
    LAYERS,
    GateWeights,
    Group,
    LayerWeights,
    SoftwareParts,
    layer_weights,
    software_parts,
)
from hvae_mnn.model.shapes import weight_shapes
from hvae_mnn.model.storage.precision import pack, round_weight, unpack
from hvae_mnn.model.storage.tensor_file import SUFFIX, format_tensor_file, read_tensor_file
from hvae_mnn.model.storage.torch_file import CodeError, read_torch_file
from hvae_mnn.model.text.corpus import Vocabulary
from hvae_mnn.runtime.folders import replace_file

if TYPE_CHECKING:
    from hvae_mnn.model.network.vae import TextVae

__all__ = [
    "Checkpoint",
    "GateWeights",
    "Group",
    "LayerWeights",
    "SoftwareParts",
    "load_checkpoint",
    "save_checkpoint",
    "save_torch",
]

FORMAT = "hvae-mnn checkpoint"
VERSION = 1
PACKED_VERSION = 2
EXTENDED_VERSION = 3
_PARTS = ("config", "vocabulary", "weights", "calibration", "ranges", "metrics", "provenance")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model.

    Attributes:
        config: Sizes and wiring.
        vocabulary: The words, in the order of their numbers.
        weights: Torch's state dict as float32 arrays.
        calibration: For each layer, input vectors in the order of its groups, (samples, rows).
        ranges: For each layer and group, the largest magnitude seen in training sentences.
        metrics: What was measured on the test split; see `hvae_mnn.model.evaluation.measures`.
        provenance: Corpus, command and settings it was trained with.
    """

    config: ModelConfig
    vocabulary: Vocabulary
    weights: Mapping[str, NDArray[np.float32]]
    calibration: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    ranges: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.vocabulary) != self.config.vocabulary_size:
            raise CheckpointError(
                f"checkpoint has {len(self.vocabulary)} words but config.vocabulary_size is "
                f"{self.config.vocabulary_size}; expected the same number. Restore the file."
            )
        _check_weights(self.config, self.weights)

    def build_model(self) -> "TextVae":
        """Return the network with these weights in torch, in evaluation mode, float32."""
        import torch  # what only reads a model does without

        from hvae_mnn.model.network.vae import TextVae

        model = TextVae(self.config)
        model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.weights.items()})
        return model.eval()

    def layer_weights(self) -> tuple[LayerWeights, ...]:
        """Return encoder 1, encoder 2 and decoder as gate tables, float64.

        Raises:
            CheckpointError: Crossbars are not compiled for such a model; see `ModelConfig.check_circuit`.
        """
        return layer_weights(self.config, self.weights)

    def software_parts(self) -> SoftwareParts:
        """Return embeddings, latent heads, first state and output projection, float64.

        Raises:
            CheckpointError: Crossbars are not compiled for such a model; see `ModelConfig.check_circuit`.
        """
        return software_parts(self.config, self.weights)

    def content_hash(self) -> str:
        """Return a SHA-256 over config, vocabulary and weights, hexadecimal."""
        digest = hashlib.sha256(json.dumps(self.config.stored(), sort_keys=True).encode())
        digest.update("\n".join(self.vocabulary.words).encode())
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(self.weights[name].astype("<f4").tobytes())
        return digest.hexdigest()

    def compiled_hash(self) -> str:
        """Return a SHA-256 over all that compiling depends on: the contents and the calibration, hexadecimal."""
        digest = hashlib.sha256(self.content_hash().encode())
        digest.update(json.dumps(self.ranges, sort_keys=True).encode())
        for layer in sorted(self.calibration):
            digest.update(np.ascontiguousarray(self.calibration[layer]).tobytes())
        return digest.hexdigest()

    def rounded(self, precision: str) -> "Checkpoint":
        """Return the checkpoint with its weights rounded to what a precision can hold, still as float32 arrays.

        Raises:
            CheckpointError: A weight does not fit into 16 bits, or there is no such precision.
        """
        return replace(self, weights={name: round_weight(value, precision) for name, value in self.weights.items()})


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, precision: str = "float32") -> None:
    """Write a checkpoint whole or not at all.

    Args:
        checkpoint: What to write.
        path: The file; its folder is made if it is missing.
        precision: Round and store weights as `float32`, `float16` or `bfloat16`.

    Raises:
        CheckpointError: The disk is full or the folder cannot be written, or a weight does not fit
            into 16 bits. A file that stood there before is untouched.
    """
    stored = checkpoint.rounded(precision)
    payload = {
        "format": FORMAT,
        **_layout(stored.config, precision == "bfloat16"),
        "config": stored.config.stored(),
        "vocabulary": "\n".join(stored.vocabulary.words),
        "weights": {name: _stored(value, precision) for name, value in stored.weights.items()},
        "calibration": {name: value.astype(np.float16) for name, value in stored.calibration.items()},
        "ranges": {layer: dict(groups) for layer, groups in stored.ranges.items()},
        "metrics": dict(stored.metrics),
        "provenance": dict(stored.provenance),
    }
    if Path(path).suffix == SUFFIX:
        _write(format_tensor_file(payload), Path(path))
    else:
        save_torch({part: _tensors(value) for part, value in payload.items()}, path)


def _layout(config: ModelConfig, packed: bool) -> dict[str, Any]:
    """Return the version of a model's file, and what it says of its layout."""
    if config.has_latent and (not config.on_circuit or config.posterior != "encoder"):
        return {"version": EXTENDED_VERSION, "packed": packed}
    return {"version": PACKED_VERSION if packed else VERSION}


def _stored(value: NDArray[np.float32], precision: str) -> NDArray[Any]:
    """Return a rounded weight as its file holds it."""
    if precision == "bfloat16":
        return np.frombuffer(bytearray(pack(value)), dtype=np.uint8)
    return value.astype(np.float16 if precision == "float16" else np.float32)


def _tensors(part: Any) -> Any:
    """Return a part of a checkpoint with tensors in place of arrays."""
    import torch

    if isinstance(part, np.ndarray):
        return torch.from_numpy(part)
    return {name: _tensors(value) for name, value in part.items()} if isinstance(part, dict) else part


def save_torch(payload: Mapping[str, Any], path: str | Path) -> None:
    """Save with torch, whole or not at all.

    Raises:
        CheckpointError: It could not be written; nothing half written stays behind.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(dict(payload), buffer)
    _write(buffer.getvalue(), Path(path))


def _write(content: bytes, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, content)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(target)!r} could not be written ({error.strerror or error}); expected "
            f"{len(content)} free bytes and a folder that can be written. "
            "Free some space or choose another path."
        ) from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint and check all of it.

    Raises:
        CheckpointError: It is missing, no checkpoint, of another version, would run code, or
            disagrees with itself.
    """
    source = Path(path)
    payload = _read(source)
    _check_payload(payload, source)
    try:
        return _from_payload(payload)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {str(source)!r}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"checkpoint {str(source)!r} is malformed ({error}); expected a file written by "
            "`hvae-mnn train`. Train the model again."
        ) from error


def _read(source: Path) -> Any:
    """Read a file of plain values and arrays, without ever running code from it."""
    if not source.is_file():
        raise CheckpointError(
            f"checkpoint {str(source)!r} does not exist; expected a file written by `hvae-mnn train`. Check the path."
        )
    try:
        return read_tensor_file(source) if source.suffix == SUFFIX else read_torch_file(source)
    except CodeError as error:
        raise CheckpointError(
            f"checkpoint {str(source)!r} wants to run code when it is opened; expected plain values and "
            "tensors. It was not opened. Use a file that you trained or trust."
        ) from error
    except (ValueError, OSError) as error:
        raise _not_a_checkpoint(source, f" ({' '.join(str(error).split())})") from error


def _not_a_checkpoint(source: Path, reason: str = "") -> CheckpointError:
    return CheckpointError(
        f"{str(source)!r} is not a checkpoint or is damaged{reason}; expected a file written by `hvae-mnn train`. "
        "Check the path or train the model again."
    )


def _check_payload(payload: Any, source: Path) -> None:
    if not isinstance(payload, dict) or not _is(payload.get("format"), str, FORMAT):
        raise _not_a_checkpoint(source)
    if not _is(payload.get("version"), int, VERSION, PACKED_VERSION, EXTENDED_VERSION):
        raise CheckpointError(
            f"checkpoint {str(source)!r} has format version {payload.get('version')!r}; this program reads "
            f"versions {VERSION} to {EXTENDED_VERSION}. Use the program that wrote it or train the model again."
        )
    missing = [part for part in _PARTS if part not in payload]
    if missing:
        raise CheckpointError(
            f"checkpoint {str(source)!r} lacks {', '.join(missing)}; expected {', '.join(_PARTS)}. "
            "Train the model again."
        )


def _is(value: Any, kind: type, *expected: Any) -> bool:
    return isinstance(value, kind) and value in expected


def _from_payload(payload: Mapping[str, Any]) -> Checkpoint:
    config = _config(payload["config"])
    weights = {name: _as_array(value) for name, value in payload["weights"].items()}
    version = payload["version"]
    if version == PACKED_VERSION or (version == EXTENDED_VERSION and payload["packed"]):
        weights = _unpacked(config, weights)
    _check_shapes(config, weights)  # before they are converted, which takes memory
    calibration = {name: _as_array(value) for name, value in payload["calibration"].items()}
    if odd := sorted(set(calibration) - set(LAYERS)):
        raise CheckpointError(f"calibration is of {', '.join(odd)}; expected {', '.join(LAYERS)}. Restore the file.")
    payload["vocabulary"].encode()
    return Checkpoint(
        config=config,
        vocabulary=Vocabulary(tuple(payload["vocabulary"].split("\n"))),
        weights={name: value.astype(np.float32) for name, value in weights.items()},
        calibration={name: value.astype(np.float32) for name, value in calibration.items()},
        ranges={
            layer: {group: float(value) for group, value in groups.items()}
            for layer, groups in payload["ranges"].items()
        },
        metrics={str(name): float(value) for name, value in payload["metrics"].items()},
        provenance={str(name): str(value) for name, value in payload["provenance"].items()},
    )


def _as_array(value: Any) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} stands where an array should")
    return value


def _unpacked(config: ModelConfig, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    shapes = weight_shapes(config)
    _check_names(shapes, weights)
    values = {}
    for name, shape in shapes.items():
        if weights[name].dtype != np.uint8:
            raise CheckpointError(f"weight {name} is {weights[name].dtype}; expected packed bytes. Restore the file.")
        try:
            values[name] = unpack(weights[name].tobytes(), shape)
        except ValueError as error:
            raise CheckpointError(f"weight {name} {error}. Restore the file.") from error
    return values


def _config(values: Mapping[str, Any]) -> ModelConfig:
    known = {entry.name for entry in fields(ModelConfig)}
    odd_names = (set(values) | set(ADDED)) ^ known
    if odd_names:
        odd = ", ".join(sorted(odd_names))
        raise CheckpointError(f"config has unknown or missing keys ({odd}). Train the model again.")
    hidden = values["hidden"]
    pairs = {"encoder": tuple(values["encoder"]), "hidden": tuple(hidden) if isinstance(hidden, list) else hidden}
    return ModelConfig(**{**values, **pairs})


def _check_names(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    odd = sorted(set(expected) ^ set(found))
    if odd:
        raise CheckpointError(
            f"weights and config disagree on {', '.join(odd)}; expected exactly the weights of config's "
            "cells. Restore the file."
        )


def _check_shapes(config: ModelConfig, weights: Mapping[str, NDArray[Any]]) -> None:
    expected = weight_shapes(config)
    _check_names(expected, weights)
    for name, shape in expected.items():
        if weights[name].shape != shape:
            found = weights[name].shape
            raise CheckpointError(f"weight {name} has shape {found}; config says {shape}. Restore the file.")


def _check_weights(config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> None:
    _check_shapes(config, weights)
    for name, found in weights.items():
        if not math.isfinite(float(np.abs(found).max(initial=0.0))):
            raise CheckpointError(
                f"weight {name} holds NaN or infinite values; expected finite numbers. Train the model again "
                "with a lower learning rate, or with --precision float32."
            )
