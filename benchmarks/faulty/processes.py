"""Commands of the product as processes of their own, and what they leave on the machine."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from faulty import inside
from faulty.orders import VARIABLE, Orders

BENCHMARKS = Path(__file__).resolve().parents[1]
SHARED_MEMORY = Path("/dev/shm")
LONGEST_S = 300.0
LOOK_S = 0.002
MOST_SAID = 1 << 20  # bytes, what Linux lets anybody ask for


class Command:
    """One command of the product; what it says goes into a pipe that holds all of it.

    Not into a file, which could be what grows too large or fills a disk.

    By default it is a fork of this process, which has loaded the libraries already: a process
    like any other, but seconds cheaper. `fresh` starts a new interpreter.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        orders: Orders,
        fresh: bool = False,
        within: Sequence[str] = (),
    ) -> None:
        """`within` is a command that starts another one, as `nsenter` does; it needs `fresh`."""
        self.arguments = [str(a) for a in arguments]
        self.code: int | None = None
        self._said = b""
        self._err, self._writable = os.pipe()
        fcntl.fcntl(self._err, fcntl.F_SETPIPE_SZ, MOST_SAID)
        os.set_blocking(self._err, False)
        self.pid = self._start_fresh(orders, within) if fresh else self._fork(orders)
        os.close(self._writable)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def wait(self) -> int:
        """Its exit code, negative for a signal; after minutes it is killed and TimeoutError."""
        deadline = time.monotonic() + LONGEST_S
        while self.running():
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"still running after {LONGEST_S:.0f} s: {self.arguments}")
            time.sleep(LOOK_S)
        assert self.code is not None
        return self.code

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something that it does; false where it ended before."""
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            if not self.running():
                return False
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"nothing happened for {LONGEST_S:.0f} s: {self.arguments}")
            time.sleep(LOOK_S)
        return True

    def send(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.running():
            os.kill(self.pid, number)

    def kill(self) -> int:
        """kill -9; returns the exit code."""
        self.send(signal.SIGKILL)
        return self.wait()

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        try:
            below = psutil.Process(self.pid).children(recursive=True)
            # Forked from a server process where that is possible, else spawned.
            forked = [c for c in below if c.ppid() != self.pid]
            return forked or [c for c in below if "spawn_main" in " ".join(c.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def said(self) -> str:
        """What it wrote to stderr."""
        with suppress(BlockingIOError):  # a process that it has started is still there
            while more := os.read(self._err, MOST_SAID):
                self._said += more
        return self._said.decode(errors="replace")

    def close(self) -> None:
        """Nothing is read any more."""
        os.close(self._err)

    def _start_fresh(self, orders: Orders, within: Sequence[str]) -> int:
        search = [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "faulty.inside", *self.arguments],
            env={
                **os.environ,
                **orders.environment(),
                "PYTHONPATH": os.pathsep.join(p for p in search if p),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._writable,
            start_new_session=True,
        )
        process.returncode = 0  # waited for by `running`, not by Popen
        return process.pid

    def _fork(self, orders: Orders) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.setsid()
            os.environ.update(orders.environment())
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(self._writable, 2)
            sys.argv = ["run_sim.py", *self.arguments]
            code = _exit_code(inside.main)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _exit_code(main: Callable[[], None]) -> int:
    """What the interpreter would exit with after `main`."""
    import multiprocessing.util
    import traceback

    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    multiprocessing.util._exit_function()  # os._exit skips what ends the workers
    return code


def left_behind(orders: Orders, patience_s: float = 15.0) -> list[str]:
    """The attempt's processes and shared segments that are still there; waits for them to go."""
    deadline = time.monotonic() + patience_s
    while True:
        mine = _processes_of(orders)
        prefix = inside.segment_prefix(orders).lstrip("/")
        segments = sorted(SHARED_MEMORY.glob(prefix + "*"))
        if not mine and not segments:
            return []
        if time.monotonic() > deadline:
            for process in mine:
                process.kill()
            for segment in segments:
                segment.unlink(missing_ok=True)
            return [
                *(f"process {p.pid} survives" for p in mine),
                *(f"{segment} is left" for segment in segments),
            ]
        time.sleep(0.05)


def _processes_of(orders: Orders) -> list[psutil.Process]:
    found, mark = [], f'"attempt": "{orders.attempt}"'
    for process in psutil.process_iter():
        try:
            # A zombie is nobody's worker any more; a fork of ours has our old environment.
            if mark in process.environ().get(VARIABLE, ""):
                found.append(process)
        except psutil.Error:
            continue
    return found
