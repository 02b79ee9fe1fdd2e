"""How many processor threads linear algebra takes."""

from collections.abc import Iterator
from contextlib import contextmanager

import scipy.linalg  # noqa: F401 (loads the libraries that are limited)
import torch
from threadpoolctl import threadpool_limits


def limit_to_one_thread() -> None:
    """Let numpy, scipy and torch use one thread from now on, in the whole process."""
    torch.set_num_threads(1)
    threadpool_limits(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy, scipy and torch use one thread: sums come out the same however many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads; as they are if no number is given."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
