"""Ctrl-C where it can do no harm: work that must not be cut in two is finished first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Holds SIGINT and SIGTERM back; to be used in a `with` block.

    Within it they become a `KeyboardInterrupt` inside `allowed()` alone, at once or on entering it. One more while
    one is waiting is raised wherever it comes: somebody insists. Outside of the main thread nothing is held back.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._open = self._waiting = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for each in _SIGNALS:
                before = signal.getsignal(each)
                if before is not signal.SIG_IGN:  # as nohup leaves it
                    self._before[each] = before
                    signal.signal(each, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Put things back as they were; what came too late to be raised is raised now."""
        for each, before in self._before.items():
            signal.signal(each, before)
        if self._waiting and kind is None:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let an interrupt in."""
        try:
            self._open = True
            if self._waiting:
                self._waiting = False
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._open or self._waiting:
            self._open = self._waiting = False
            raise KeyboardInterrupt
        self._waiting = True
