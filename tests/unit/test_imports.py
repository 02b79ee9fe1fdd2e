"""Who may import what: the rules that keep simulator, framework and arithmetic apart."""

import ast
from collections.abc import Iterator
from pathlib import Path

import hvae_mnn

PACKAGE = Path(hvae_mnn.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
STANDARD = {"collections", "dataclasses", "enum", "functools", "itertools", "math", "typing", "zlib"}
PHYSICS_MAY = {f"hvae_mnn.{name}" for name in ("hardware", "hardware_cells", "plan", "errors", "physics")}


def imported(source: str, anywhere: bool = False) -> set[str]:
    """Return the modules a source imports when it is loaded, or anywhere in it."""
    nodes = ast.walk(ast.parse(source)) if anywhere else _at_load(ast.parse(source).body)
    names: set[str] = set()
    for node in nodes:
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


def importers(module: str, anywhere: bool = False) -> set[str]:
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


def test_only_the_binding_speaks_to_pyspice() -> None:
    assert importers("PySpice", anywhere=True) == {"engines/ngspice.py"}


def test_torch_is_loaded_by_the_model_folder_and_for_batches_only() -> None:
    """tests/cli/test_cli_without_torch.py shows that the commands which need none load none."""
    assert "model/vae.py" in importers("torch")
    users = importers("torch", anywhere=True)
    assert {name for name in users if not name.startswith("model/")} == {"engines/nodal.py", "hardware_side.py"}
    assert not importers("torch") & {"engines/nodal.py", "hardware_side.py", "model/checkpoint.py"}


def test_physics_is_numpy_and_scipy() -> None:
    physics = [name for name in SOURCES if name.startswith("physics/")]
    assert len(physics) >= 4
    for name in physics:
        for module in imported(SOURCES[name], anywhere=True):
            root, mine = module.split(".")[0], ".".join(module.split(".")[:2])
            assert root in STANDARD | {"numpy", "scipy", "threadpoolctl"} or mine in PHYSICS_MAY, (
                f"{name} imports {module}"
            )


def test_the_command_line_loads_nothing_heavy() -> None:
    files = [name for name in SOURCES if name.startswith("cli/")]
    assert len(files) >= 5
    modules = {
        module
        for name in (*files, "command.py", "terminal.py", "evaluation_table.py")
        for module in imported(SOURCES[name])
    }
    roots = {module.split(".")[0] for module in modules}
    assert roots & {"torch", "numpy", "scipy", "matplotlib", "PySpice"} == set()
    own = {module for module in modules if module.startswith("hvae_mnn.")}
    assert {
        module
        for module in own
        if not module.startswith(("hvae_mnn.cli.", "hvae_mnn.terminal.", "hvae_mnn.evaluation_table."))
    } == {
        "hvae_mnn.__version__",
        "hvae_mnn.command.Command",
        "hvae_mnn.command.Group",
        "hvae_mnn.errors.UserError",
    }
