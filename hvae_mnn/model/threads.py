"""How many processor threads linear algebra takes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import scipy.linalg  # noqa: F401 (loads the libraries that are limited)
from threadpoolctl import threadpool_limits


def limit_to_one_thread() -> None:
    """Let numpy, scipy and torch, where it is loaded, use one thread from now on, in the whole process."""
    _limit_torch(1)
    threadpool_limits(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy, scipy and torch use one thread: sums come out the same however many there are."""
    before = _limit_torch(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        _limit_torch(before)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads; as they are if no number is given."""
    before = _limit_torch(count)
    try:
        yield
    finally:
        _limit_torch(before)


def _limit_torch(count: int | None) -> int | None:
    """Let torch use so many threads; return how many it used before, None where it is not loaded."""
    torch = sys.modules.get("torch")  # loading it takes seconds, and what only reads circuits needs none of it
    if torch is None:
        return None
    before: int = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    return before
