"""Hardware from TOML: presets of the package, files of the user's, and `--set section.key=value`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hvae_mnn.errors import HardwareError
from hvae_mnn.hardware.config import HardwareConfig
from hvae_mnn.hardware.memristors import MODELS
from hvae_mnn.hardware.rules import check_hardware
from hvae_mnn.runtime.resources import presets_folder
from hvae_mnn.runtime.toml import did_you_mean, parse_value, read_toml


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets in the package."""
    return tuple(sorted(path.stem for path in presets_folder().glob("*.toml")))


def load_hardware(preset_or_file: str, overrides: Iterable[str] = ()) -> HardwareConfig:
    """Read a preset by name or a TOML file, apply `section.key=value` overrides, check.

    A file may begin with `extends = "default"` and then say only what differs from that preset.

    Raises:
        HardwareError: The name, the file, a key or a value is not acceptable.
    """
    tree = _load_tree(preset_or_file)
    for override in overrides:
        _apply_override(tree, override)
    _read_error_model(tree, Path(), "--set")
    return parse_hardware(tree, source=preset_or_file)


def override_hardware(config: HardwareConfig, overrides: Iterable[str], source: str = "--set") -> HardwareConfig:
    """Return a configuration with `section.key=value` overrides, checked; `source` names them in errors.

    Raises:
        HardwareError: A key or a value is not acceptable.
    """
    tree = config.model_dump(mode="json", exclude_none=True)
    for override in overrides:
        _apply_override(tree, override)
    _read_error_model(tree, Path(), source)
    return parse_hardware(tree, source)


def parse_hardware(tree: dict[str, Any], source: str) -> HardwareConfig:
    """Turn a tree of values into a checked configuration; `source` names it in errors.

    Raises:
        HardwareError: A key or a value is not acceptable.
    """
    try:
        config = HardwareConfig.model_validate(tree)
    except ValidationError as error:
        raise HardwareError(f"hardware {source}: {_first_problem(error)}") from None
    check_hardware(config, source)
    return config


def _hardware_path(preset_or_file: str) -> Path:
    if preset_or_file in preset_names():
        return presets_folder() / f"{preset_or_file}.toml"
    path = Path(preset_or_file)
    if path.is_file():
        return path
    hint = did_you_mean(preset_or_file, preset_names())
    raise HardwareError(f"hardware {preset_or_file}: no such preset or file{hint}; presets are {_preset_list()}")


def _load_tree(preset_or_file: str) -> dict[str, Any]:
    """Read a preset or a file, on top of the preset that it extends."""
    path = _hardware_path(preset_or_file)
    tree = read_toml(path, "hardware file", HardwareError)
    _read_error_model(tree, path.parent, str(path))
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if base not in preset_names():
        raise HardwareError(f"hardware {preset_or_file}: extends is {base!r}; expected one of {_preset_list()}")
    merged = _load_tree(base)
    for section, values in tree.items():
        if isinstance(values, dict) and isinstance(merged.get(section), dict):
            merged[section] |= values
        else:
            merged[section] = values
    return merged


def _read_error_model(tree: dict[str, Any], folder: Path, source: str) -> None:
    """Put the table in the place of an error model's name or file, in place; files lie beside `folder`."""
    device = tree.get("device")
    name = device.get("error_model") if isinstance(device, dict) else None
    if not isinstance(device, dict) or not isinstance(name, str):
        return
    shipped = presets_folder() / "error_models"
    path = shipped / f"{name}.toml" if (shipped / f"{name}.toml").is_file() else folder / name
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in shipped.glob("*.toml")))
        raise HardwareError(
            f'hardware {source}: device.error_model is "{name}"; no such file or shipped model; shipped are {known}'
        )
    device["error_model"] = read_toml(path, "hardware file", HardwareError)


def _preset_list() -> str:
    return ", ".join(preset_names())


def _apply_override(tree: dict[str, Any], override: str) -> None:
    """Apply one `section.key=value` to the tree, in place."""
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise HardwareError(f"--set {override}: expected SECTION.KEY=VALUE, for example array.tile_rows=32")
    values = tree.setdefault(section, {})
    if not isinstance(values, dict):
        raise HardwareError(f"--set {override}: {section} is {values!r} in the file; expected a section, [{section}]")
    values[name] = parse_value(text.strip())


def _first_problem(error: ValidationError) -> str:
    """Return the first problem of a validation as `section.key ...`; misspelt keys come first."""
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    location = [str(part) for part in problem["loc"] if part not in MODELS]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        names = _field_names([str(part) for part in problem["loc"][:-1]])
        return f'"{key}" is not a known key{did_you_mean(location[-1], names)}; known: {", ".join(names)}'
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        return f'{key}.model is "{tag}"; expected one of {", ".join(MODELS)}{did_you_mean(tag, MODELS)}'
    if problem["type"] == "missing":
        return f'"{key}" is missing; give it, or begin the file with extends = "default"'
    if problem["type"] == "value_error":
        return f"{key} {problem['ctx']['error']}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key} is {problem['input']!r}; {message}"


def _field_names(location: list[str]) -> tuple[str, ...]:
    model: type[BaseModel] = HardwareConfig
    for part in location:
        if part in MODELS:
            model = MODELS[part]
        elif (annotation := _section(model.model_fields[part].annotation)) is not None:
            model = annotation
    return tuple(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation allows, `X` or `X | None`."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
