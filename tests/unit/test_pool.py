"""Worker processes: answers in order, deaths and bugs told apart, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from hvae_mnn.errors import EngineError, SentenceError
from hvae_mnn.runtime.workers import WorkerPool


class Counter:
    """What the workers of these tests hold."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int, twice: bool = False) -> int:
        self.total += 2 * number if twice else number
        return self.total

    def pid(self) -> int:
        return os.getpid()

    def refuse(self, word: str) -> None:
        raise SentenceError(f"no {word}")

    def fail(self) -> None:
        {}["missing key"]

    def leave(self, code: int) -> None:
        print("one\ntwo\nthree\nfour", flush=True)
        os._exit(code)

    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"


def unable() -> Counter:
    raise EngineError("cannot start: no such library")


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(f"{__name__}:Counter", 2)
    yield pool
    pool.close()


def test_every_worker_holds_its_own_object(pool: WorkerPool) -> None:
    assert pool.call("add", [(3,), (5, True)]) == [3, 10]
    assert pool.call("add", [None, (1,)]) == [None, 11]
    assert pool.call("add", [(4,), None]) == [7, None]
    assert pool.call("pid", [(), ()]) == pool.pids()
    assert os.getpid() not in pool.pids()


def test_workers_work_side_by_side(pool: WorkerPool) -> None:
    pool.call("pid", [(), ()])
    began = time.perf_counter()
    assert pool.call("sleep", [(1.0,), (1.0,)]) == ["slept", "slept"]
    assert time.perf_counter() - began < 1.8


def test_user_errors_come_through_and_the_pool_goes_on(pool: WorkerPool) -> None:
    with pytest.raises(SentenceError, match=r"^no word$"):
        pool.call("refuse", [None, ("word",)])
    assert pool.call("add", [(1,), (2,)]) == [1, 2]


def test_the_answers_of_others_are_not_left_in_the_pipe(pool: WorkerPool) -> None:
    with pytest.raises(SentenceError, match=r"^no first$"):
        pool.call("refuse", [("first",), ("second",)])
    assert pool.call("add", [(6,), (7,)]) == [6, 7]


def test_a_bug_in_a_worker_keeps_its_traceback(pool: WorkerPool) -> None:
    with pytest.raises(
        RuntimeError, match=r"(?s)^in an engine worker:\nTraceback.*in fail.*KeyError: 'missing key'"
    ) as found:
        pool.call("fail", [(), None])
    assert not isinstance(found.value, EngineError)


def test_a_method_that_is_none_is_a_bug_too(pool: WorkerPool) -> None:
    with pytest.raises(RuntimeError, match="has no attribute 'subtract'"):
        pool.call("subtract", [(1,), None])


@pytest.mark.timeout(30)
def test_a_worker_killed_at_rest(pool: WorkerPool) -> None:
    pool.call("pid", [(), ()])
    pid = pool.pids()[0]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=rf"engine worker \(process {pid}\) was killed by signal SIGKILL"):
        pool.call("add", [(1,), (2,)])


@pytest.mark.timeout(30)
def test_a_worker_killed_at_work(pool: WorkerPool) -> None:
    pool.call("pid", [(), ()])
    pid = pool.pids()[1]
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGTERM))
    killer.start()
    with pytest.raises(EngineError, match=rf"process {pid}\) was killed by signal SIGTERM\. Run the command again"):
        pool.call("sleep", [(0.1,), (20.0,)])
    killer.join()


def test_a_worker_that_ends_says_its_last_words(pool: WorkerPool) -> None:
    with pytest.raises(EngineError, match=r"ended with code 3; its last words: two \| three \| four\. Run the command"):
        pool.call("leave", [(3,), None])


def test_a_factory_that_cannot_start() -> None:
    pool = WorkerPool(f"{__name__}:unable", 1)
    try:
        with pytest.raises(EngineError, match=r"^cannot start: no such library$"):
            pool.call("add", [(1,)])
    finally:
        pool.close()


@pytest.mark.timeout(30)
def test_ctrl_c_is_the_parents_to_handle(pool: WorkerPool) -> None:
    """A terminal sends it to every process; a worker goes on until its parent closes the pipe."""
    pool.call("add", [(3,), (5,)])
    for pid in pool.pids():
        os.kill(pid, signal.SIGINT)
    assert pool.call("add", [(4,), (1,)]) == [7, 6]


@pytest.mark.timeout(30)
def test_closing_ends_the_processes_and_twice_is_fine(pool: WorkerPool) -> None:
    processes = [psutil.Process(pid) for pid in pool.pids()]
    pool.close()
    assert not any(process.is_running() for process in processes)
    pool.close()
    assert pool.pids() == []


@pytest.mark.timeout(30)
def test_workers_end_with_their_parent() -> None:
    """The parent is gone without a word; its workers see the pipe close."""
    code = f"import os; from hvae_mnn.runtime.workers import WorkerPool; pool = WorkerPool('{__name__}:Counter', 1); "
    code += "print(pool.call('pid', [()])[0], flush=True); os._exit(0)"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=os.environ | path
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
