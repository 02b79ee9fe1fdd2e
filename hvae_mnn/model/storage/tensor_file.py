"""A checkpoint's parts as a safetensors file: arrays as they are, all else as JSON in one entry of its metadata.

Builds hold their model so: it opens without torch, and no code can stand in it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

SUFFIX = ".safetensors"
_ARRAYS, _PLAIN = ("weights", "calibration"), "checkpoint"


def format_tensor_file(payload: Mapping[str, Any]) -> bytes:
    """Return a checkpoint's parts, arrays in `weights` and `calibration`, as a file's contents."""
    arrays = {
        f"{part}/{name}": np.ascontiguousarray(value) for part in _ARRAYS for name, value in payload[part].items()
    }
    plain = {part: value for part, value in payload.items() if part not in _ARRAYS}
    return save(arrays, {_PLAIN: json.dumps(plain)})  # of several entries safetensors would choose an order each time


def read_tensor_file(path: Path) -> dict[str, Any]:
    """Return what `format_tensor_file` made a file of.

    Raises:
        ValueError: It is no such file or is damaged.
        OSError: It cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            payload: dict[str, Any] = json.loads((file.metadata() or {}).get(_PLAIN, "{}"))
            if not isinstance(payload, dict):
                raise ValueError(f"its entry {_PLAIN} is no dictionary")
            for part in _ARRAYS:
                keys = [key for key in file.keys() if key.startswith(f"{part}/")]
                payload[part] = {key.removeprefix(f"{part}/"): file.get_tensor(key) for key in keys}
    except (SafetensorError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error  # the others: numbers that numpy does not know, JSON without end
    return payload
