"""Where the files that ship with the package lie: presets, plans, subcircuits, models."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def presets_folder() -> Path:
    """Return the folder of the hardware presets (TOML)."""
    return _PACKAGE / "hardware" / "presets"


def plans_folder() -> Path:
    """Return the folder of the shipped plans of sweeps (TOML)."""
    return _PACKAGE / "experiments" / "sweep" / "plans"


def netlists_folder() -> Path:
    """Return the folder of the hand-written subcircuits."""
    return _shipped("netlists")


def models_folder() -> Path:
    """Return the folder of the shipped checkpoints."""
    return _shipped("models")


def _shipped(name: str) -> Path:
    """Return a top-level folder: inside the package when installed, beside it in a checkout."""
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / name
