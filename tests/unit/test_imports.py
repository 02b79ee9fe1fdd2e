"""Who may import what: the layers of the package, and which library is spoken to where."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hvae_mnn

PACKAGE = Path(hvae_mnn.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}

LAYERS = (
    "errors",
    "runtime",
    "hardware",
    "model",
    "circuit",
    "digital",
    "compiler",
    "engines",
    "simulation",
    "experiments",
    "reports",
    "cli",
)
"""Lowest first: a file imports from its own layer and from those before it."""
STRANGERS = {("model", "hardware"), ("model", "circuit"), ("engines", "digital")}
"""Layers that do not know each other, in either direction."""
MODEL_LAYERS = (
    ("config", "text"),
    ("layers", "network", "shapes"),
    ("checkpoint", "calibration", "storage"),
    ("evaluation",),
    ("training",),
)
"""The same inside `model/`."""
CIRCUIT_MAY = {"numpy", "scipy", "threadpoolctl"}
STANDARD = set(sys.stdlib_module_names)


def imported(source: str, anywhere: bool = False) -> set[str]:
    """Return the modules a source imports when it is loaded, or anywhere in it, under TYPE_CHECKING too."""
    tree = ast.parse(source)
    names: set[str] = set()
    for node in ast.walk(tree) if anywhere else _at_load(tree.body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _at_load(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _at_load(getattr(node, field, []))


def file_of(module: str) -> str | None:
    """Return the file of a name such as `hvae_mnn.model.config.ModelConfig`; None if it is not the package's."""
    parts = module.split(".")
    if parts[0] != "hvae_mnn":
        return None
    for end in range(len(parts), 0, -1):
        inner = "/".join(parts[1:end])
        for name in (f"{inner}.py", f"{inner}/__init__.py".lstrip("/")):
            if name in SOURCES:
                return name
    raise AssertionError(f"no file for {module}")


USED = {
    name: {file_of(module) for module in imported(source, anywhere=True)} - {None, name}
    for name, source in SOURCES.items()
}
"""For each file those of the package that it imports, also inside functions."""


def layer_of(name: str) -> str:
    """Return the layer of a file: the folder or module in the package's root."""
    return name.split("/")[0].removesuffix(".py")


def importers(module: str, anywhere: bool = True) -> set[str]:
    """Return the files that import a module or a part of it."""
    return {
        name
        for name, source in SOURCES.items()
        if any(f"{each}.".startswith(f"{module}.") for each in imported(source, anywhere))
    }


def test_the_reader_of_imports_sees_what_it_should() -> None:
    source = "import a.b\nif TYPE_CHECKING:\n    import c\ntry:\n    from d.e import f\nfinally:\n    pass\n"
    source += "def g():\n    import h\nclass I:\n    import j\n"
    assert imported(source) == {"a.b", "d.e.f", "j"}
    assert imported(source, anywhere=True) == {"a.b", "c", "d.e.f", "h", "j"}
    assert file_of("hvae_mnn.model.config.ModelConfig") == "model/config.py"
    assert "hardware/units.py" in USED["hardware/config.py"]


def test_every_file_is_in_a_layer() -> None:
    assert {layer_of(name) for name in SOURCES} - {"__init__"} == set(LAYERS)


def test_imports_point_down() -> None:
    place = {layer: i for i, layer in enumerate(LAYERS)}
    upwards = [
        f"{name} imports {other}"
        for name, others in USED.items()
        for other in others - {"__init__.py"}
        if name != "__init__.py" and place[layer_of(other)] > place[layer_of(name)]
    ]
    assert sorted(upwards) == []


@pytest.mark.parametrize(("first", "second"), sorted(STRANGERS))
def test_strangers_do_not_know_each_other(first: str, second: str) -> None:
    known = [
        f"{name} imports {other}"
        for name, others in USED.items()
        for other in others
        if {layer_of(name), layer_of(other)} == {first, second}
    ]
    assert sorted(known) == []


def test_imports_inside_the_model_point_down() -> None:
    place = {part: i for i, parts in enumerate(MODEL_LAYERS) for part in parts}
    inside = {name: name.split("/")[1].removesuffix(".py") for name in SOURCES if name.startswith("model/")}
    upwards = [
        f"{name} imports {other}"
        for name, part in inside.items()
        for other in USED[name]
        if part != "__init__" and inside.get(other, "__init__") != "__init__" and place[inside[other]] > place[part]
    ]
    assert sorted(upwards) == []


def test_no_circle_of_files() -> None:
    left = {name: {other for other in others if other in USED} for name, others in USED.items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert {name: sorted(others & left.keys()) for name, others in left.items()} == {}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("PySpice", ("engines/spice/binding.py",)),
        ("torch", ("model/", "engines/nodal.py")),
        ("matplotlib", ("reports/",)),
        ("click", ("cli/", "reports/")),
        ("rich", ("reports/",)),
        ("pandas", ("experiments/", "reports/")),
        ("pyarrow", ("experiments/sweep/", "reports/")),
        ("distributed", ("experiments/sweep/",)),
        ("safetensors", ("model/storage/",)),
    ],
)
def test_a_library_is_spoken_to_in_one_place(library: str, homes: tuple[str, ...]) -> None:
    users = importers(library)
    assert users
    assert {name for name in users if not name.startswith(homes)} == set()


def test_torch_is_not_loaded_where_a_model_is_only_read() -> None:
    """tests/cli/test_cli_without_torch.py shows that the commands which need none load none."""
    users = importers("torch", anywhere=False)
    folders = ("model/network/", "model/evaluation/", "model/training/", "model/calibration.py")
    assert {name for name in users if not name.startswith(folders)} == set()


@pytest.mark.parametrize("name", sorted(name for name in SOURCES if name.startswith("circuit/")))
def test_the_circuit_is_arithmetic(name: str) -> None:
    may = CIRCUIT_MAY | ({"pydantic"} if name == "circuit/plan.py" else set())
    may -= {"scipy"} if name.startswith("circuit/spice/") else set()
    roots = {module.split(".")[0] for module in imported(SOURCES[name], anywhere=True)}
    assert roots - STANDARD - {"hvae_mnn"} <= may


def test_the_command_line_loads_nothing_heavy() -> None:
    names = "torch numpy scipy matplotlib PySpice pandas pydantic"
    code = f"import sys, hvae_mnn, hvae_mnn.cli; print([each for each in {names.split()!r} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
