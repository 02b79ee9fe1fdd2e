import sys
from importlib.metadata import PackageNotFoundError, PathDistribution
from pathlib import Path

import pytest

from hvae_mnn.engines import doctor


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of installed packages that is all that the doctor sees."""

    def distribution(name: str) -> PathDistribution:
        found = next(tmp_path.glob(f"{name}-*.dist-info"), None)
        if found is None:
            raise PackageNotFoundError(name)
        return PathDistribution(found)

    monkeypatch.setattr(doctor, "distribution", distribution)
    return tmp_path


def install(folder: Path, name: str, version: str, *needs: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


def wrong() -> list[str]:
    return [finding.text for finding in doctor.examine() if not finding.ok]


def test_what_torch_needs_is_looked_at_too(packages: Path) -> None:
    install(packages, "hvae-mnn", "1", "torch>=2.6", "ruff; extra == 'dev'", "winonly; sys_platform == 'win32'")
    install(packages, "torch", "2.13.0+cpu", "nvidia-cublas==13.1")
    assert wrong() == ["torch needs nvidia-cublas==13.1; install it with: pip install 'nvidia-cublas==13.1'"]


def test_a_package_too_old_is_named_with_its_version(packages: Path) -> None:
    install(packages, "hvae-mnn", "1", "torch>=2.6")
    install(packages, "torch", "2.5.1")
    assert wrong() == ["2.5.1 is there, but hvae-mnn needs torch>=2.6; install it with: pip install 'torch>=2.6'"]


def test_without_torch_it_says_so_and_looks_no_further(packages: Path) -> None:
    install(packages, "hvae-mnn", "1", "torch>=2.6")
    assert [finding.name for finding in doctor.examine()] == ["python", "hvae-mnn", "torch"]


def test_an_old_python_is_said(monkeypatch: pytest.MonkeyPatch, packages: Path) -> None:
    install(packages, "hvae-mnn", "1", "torch")
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    monkeypatch.setattr("platform.python_version", lambda: "3.10.9")
    assert wrong()[0] == "3.10.9 is too old; expected 3.11 or newer"


def test_this_environment_is_whole() -> None:
    assert all(finding.ok for finding in doctor._packages())
