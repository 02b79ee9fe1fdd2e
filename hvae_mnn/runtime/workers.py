"""Worker processes that each hold one object and answer calls to its methods.

ngspice keeps global state and may crash; in a process of its own a crash is an error
message. The processes are started with a fresh interpreter, so a script that uses the
package needs no main guard, and they end when their pipe closes, whatever ended the parent,
after the call that is under way. A worker may fork copies of itself, which share what it has loaded.
"""

import gc
import importlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

from hvae_mnn.errors import EngineError, UserError

_PATIENCE = 2.0
_to_parent: "list[Connection[Any, Any]]" = []  # in a worker, its pipe to the process that started it
_SERVE = "from hvae_mnn.runtime.workers import serve; serve({fd}, {factory!r})"


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool:
    """Processes that run methods of a factory's object.

    Attributes:
        size: Number of workers.
    """

    def __init__(self, factory: str, size: int) -> None:
        """Start `size` workers; `factory` is `module:callable`, called without arguments in each."""
        self.size = size
        self._workers: list[_Worker] = []
        try:
            for _ in range(size):
                self._workers.append(_Worker(factory))
            _spread_over_cores(self.pids())
        except BaseException:
            self.close()
            raise

    def call(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Call a method in every worker at once and wait for all.

        Args:
            method: Name of the method.
            arguments: One tuple a worker; None leaves a worker out (its result is None).

        Raises:
            EngineError: A worker died.
            UserError: What the method raised.
        """
        busy = [(w, a) for w, a in zip(self._workers, arguments, strict=True) if a is not None]
        for worker, values in busy:
            worker.send(method, values)
        answers = {id(worker): worker.receive() for worker, _ in busy}
        for answer in answers.values():
            if isinstance(answer, BaseException):
                raise answer
        return [answers.get(id(worker)) for worker in self._workers]

    def pids(self) -> list[int]:
        """Return the process numbers of the workers."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End all workers; those that are busy are killed after two seconds."""
        for worker in self._workers:
            worker.let_go()
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.end(deadline)
        self._workers = []


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, factory: str) -> None:
        self._pipe, theirs = Pipe()
        self._output = tempfile.TemporaryFile()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE.format(fd=theirs.fileno(), factory=factory)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )

    def send(self, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            self._pipe.send((method, arguments))
        except OSError:
            raise self._died() from None

    def receive(self) -> Any:
        """Return the answer; an exception is returned, not raised, so that all workers are heard."""
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            return self._died()

    def let_go(self) -> None:
        self._pipe.close()

    def end(self, deadline: float) -> None:
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()

    def _died(self) -> EngineError:
        self._output.seek(0)
        return _death(self.process.pid, self.process.wait(), self._output.read())


class Fork:
    """A copy of this process that answers calls to the methods of an object.

    Attributes:
        pid: Its process number.
    """

    def __init__(self, held: Any, others: Iterable["Fork"]) -> None:
        """Fork; `others` are earlier forks, whose pipes the new one must not keep open.

        Raises:
            EngineError: There are too many processes or open files.
        """
        self._ended: EngineError | None = None
        try:
            self._pipe, theirs = Pipe()
            self.pid = os.fork()
        except OSError as error:
            raise EngineError(
                f"a process for another deck cannot be started ({error.strerror}); use larger tiles, or allow more "
                "processes and open files (ulimit -u, ulimit -n)"
            ) from None
        if self.pid == 0:
            try:
                gc.disable()  # a collection would write to memory that is shared
                for pipe in (self._pipe, *(other._pipe for other in others), *_to_parent):
                    pipe.close()
                _answer(theirs, lambda: held)
            finally:
                os._exit(0)  # never back into what the parent was about to do
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method and wait for what it returns.

        Raises:
            EngineError: The process died.
            UserError: What the method raised.
        """
        if self._ended is not None:
            raise self._ended
        try:
            self._pipe.send((method, arguments))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            _, status = os.waitpid(self.pid, 0)
            self._ended = _death(self.pid, os.waitstatus_to_exitcode(status), b"")
            raise self._ended from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """Let it end, and wait until it has."""
        self._pipe.close()
        if self._ended is None:
            os.waitpid(self.pid, 0)


def _spread_over_cores(pids: Sequence[int]) -> None:
    """Keep each of as many workers as there are cores on one, with its forks: what is read next may be in its cache."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(pids) == len(cores) > 1:
        for pid, core in zip(pids, cores, strict=True):
            os.sched_setaffinity(pid, {core})


def serve(fd: int, factory: str) -> None:
    """Answer calls until the pipe closes (this runs in the worker)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a fork takes one
    module, _, name = factory.partition(":")
    _to_parent.append(Connection(fd))
    _answer(_to_parent[0], lambda: getattr(importlib.import_module(module), name)())


def _answer(pipe: "Connection[Any, Any]", make: Callable[[], Any]) -> None:
    """Make an object at the first call and answer calls to its methods until the pipe closes."""
    held: Any = None
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            held = held or make()
            answer = getattr(held, method)(*arguments)
        except UserError as error:
            answer = error
        except Exception:
            answer = RuntimeError(f"in an engine worker:\n{traceback.format_exc()}")
        try:
            pipe.send(answer)
        except OSError:
            return


def _death(pid: int, code: int, output: bytes) -> EngineError:
    """Return what is said of a process that ended with a code, negative for a signal, after some output."""
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    last = output.decode(errors="replace").strip().splitlines()[-3:]
    said = f"; its last words: {' | '.join(last)}" if last else ""
    return EngineError(
        f"engine worker (process {pid}) {how}{said}. Run the command again; if memory ran out, close other programs"
    )
