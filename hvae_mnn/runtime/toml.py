"""TOML that users write: files, values as options give them, and a hint where a word is misspelt."""

import difflib
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hvae_mnn.errors import UserError


def read_toml(path: Path, what: str, error_type: type[UserError]) -> dict[str, Any]:
    """Read a TOML file; what is wrong with it is said in one line, as an error of the given type."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise error_type(f"{what} {path}: not valid TOML: {error}") from None
    except OSError as error:
        raise error_type(f"{what} {path}: cannot be read: {error.strerror}") from None


def parse_value(text: str) -> Any:
    """Read a value as `--set` gives it: TOML; `none` unsets, and a bare word is a string."""
    if text.lower() == "none":
        return None
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return what an error adds where a word is close to a known name."""
    close = difflib.get_close_matches(word, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""
