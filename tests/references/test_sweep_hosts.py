"""A sweep over two hosts, one of which goes down: network namespaces with addresses of their own stand for hosts."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sweeping import assert_same, make_studies, plan_of, sweep

from hvae_mnn.experiments.sweep.cluster import BENCH

TESTS = Path(__file__).parents[1]
SUBNET = f"10.213.{os.getpid() % 200}"
HOSTS = {f"hvae{os.getpid()}{letter}": f"{SUBNET}.{4 * i}" for i, letter in enumerate("ab", 1)}
PORT = 20_000 + os.getpid() % 10_000


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def address_of(subnet: str, number: int) -> str:
    """Return an address of a subnet of four: 1 is this side's, 2 the other host's."""
    return f"{subnet.rpartition('.')[0]}.{int(subnet.rpartition('.')[2]) + number}"


def start(stack: ExitStack, *command: str) -> subprocess.Popen[bytes]:
    """Start a process of Dask, which the stack ends."""
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def connect_host(stack: ExitStack, name: str, subnet: str) -> None:
    """Make a host and a line to it."""
    ip("netns", "add", name)
    stack.callback(ip, "netns", "del", name)  # the line goes with it
    ip("link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
    ip("link", "set", f"{name}1", "netns", name)
    ip("addr", "add", f"{address_of(subnet, 1)}/30", "dev", f"{name}0")
    ip("link", "set", f"{name}0", "up")
    inside = ("netns", "exec", name, "ip")
    ip(*inside, "addr", "add", f"{address_of(subnet, 2)}/30", "dev", f"{name}1")
    ip(*inside, "link", "set", f"{name}1", "up")
    ip(*inside, "link", "set", "lo", "up")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start a scheduler here and a worker on each of two hosts; the workers."""
    if shutil.which("ip") is None:
        pytest.skip("needs `ip` of iproute2")
    with ExitStack() as stack:
        try:
            for name, subnet in HOSTS.items():
                connect_host(stack, name, subnet)
        except OSError as error:
            pytest.skip(f"network namespaces are not allowed here ({error})")
        dask = [sys.executable, "-m"]
        start(stack, *dask, "distributed.cli.dask_scheduler", "--port", f"{PORT}", "--no-dashboard", "--no-show")
        workers = []
        for name, subnet in HOSTS.items():
            command = [*dask, "distributed.cli.dask_worker", f"tcp://{address_of(subnet, 1)}:{PORT}", "--nthreads", "1"]
            place = ["--host", address_of(subnet, 2), "--no-nanny", "--no-dashboard"]
            files = ["--local-directory", str(tmp_path / name)]
            workers.append(start(stack, "ip", "netns", "exec", name, *command, *place, *files))
        wait_for_workers(len(workers))
        yield workers


def wait_for_workers(count: int) -> None:
    from distributed import Client

    deadline = time.monotonic() + 60
    while True:
        try:
            with Client(f"tcp://127.0.0.1:{PORT}", timeout=5) as client:
                client.wait_for_workers(count, timeout=60)
                found = {worker.partition("://")[2].partition(":")[0] for worker in client.nthreads()}
            assert found == {address_of(subnet, 2) for subnet in HOSTS.values()}
            return
        except OSError:
            assert time.monotonic() < deadline


def test_a_host_that_goes_down_changes_no_row(hosts: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    plan, points = plan_of(make_studies(24))
    undisturbed = sweep(tmp_path / "undisturbed", plan, points, BENCH)
    down: list[int] = []

    def report(stage: str, done: int, total: int | None) -> None:
        if done >= 30 and not down:
            hosts[0].send_signal(signal.SIGKILL)
            down.append(done)

    address = f"tcp://127.0.0.1:{PORT}"
    found = sweep(tmp_path / "hosts", plan, points, BENCH, scheduler=address, chunk=3, progress=report)
    assert down and down[0] < plan.trials / 2
    assert hosts[0].wait(timeout=10) == -signal.SIGKILL
    assert hosts[1].poll() is None
    assert_same(found.rows, undisturbed.rows)
