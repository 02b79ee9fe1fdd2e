"""Which tests run: `--ngspice=required|if-available|off` and `--slow`."""

import ctypes.util
import functools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--ngspice",
        choices=["required", "if-available", "off"],
        default="if-available",
        help="what becomes of tests that need ngspice: fail without it, skip without it, or skip",
    )
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config: pytest.Config) -> None:
    """Let tests send Ctrl-C: a shell starts what it puts in the background with SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def missing_ngspice() -> str | None:
    """Return what is missing of ngspice and its library, or None."""
    named = os.environ.get("NGSPICE_LIBRARY_PATH")
    missing = []
    if shutil.which("ngspice") is None:
        missing.append("no `ngspice` on the PATH")
    if not (Path(named).is_file() if named else ctypes.util.find_library("ngspice")):
        missing.append("no libngspice")
    return " and ".join(missing) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = pytest.mark.skip(reason="slow: run with --slow")
    off = pytest.mark.skip(reason="needs ngspice: --ngspice=off")
    missing = missing_ngspice()
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(slow)
        if "ngspice" not in item.keywords:
            continue
        if config.getoption("--ngspice") == "off":
            item.add_marker(off)
        elif missing and config.getoption("--ngspice") == "if-available":
            item.add_marker(pytest.mark.skip(reason=f"needs ngspice: {missing}"))


@pytest.fixture(autouse=True)
def _ngspice_is_there(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that needs ngspice where it is required and missing."""
    if request.node.get_closest_marker("ngspice") and (missing := missing_ngspice()):
        pytest.fail(f"--ngspice=required: {missing}", pytrace=False)
    yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch use one thread: small models are slower with more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
