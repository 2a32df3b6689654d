"""Start Flower's programs in the background, and end exactly those that were started."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

import fedsim
from fedsim.errors import FedsimError

GRACE_S = 10.0  # between asking a process to end and ending it


@dataclass(frozen=True)
class Process:
    """A program that was started; the time of its start tells it from another with its id."""

    name: str
    pid: int
    created: float

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._found() is not None

    def end(self) -> bool:
        """End it and what it started in turn; False where it had ended before."""
        found = self._found()
        if found is None:
            return False
        family = [found, *found.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(family, GRACE_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, GRACE_S)
        return True

    def _found(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same and running else None


def start(name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start a program that outlives this one; what it prints goes to `log`."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return Process(name, process.pid, psutil.Process(process.pid).create_time())


def environment(home: Path) -> Mapping[str, str]:
    """What Flower's programs need: their own home, no network of Flower's, this fedsim."""
    ours = str(Path(fedsim.__file__).parents[1])
    path = os.pathsep.join(p for p in (ours, os.environ.get("PYTHONPATH")) if p)
    # They start further ones by name, and the environment may not be activated.
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONPATH": path,
        "PATH": programs,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
    }


def program(name: str) -> str:
    """The path of one of Flower's programs in this Python's environment."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise FedsimError(
            f"Flower's program '{name}' is neither beside {sys.executable} nor on the PATH; "
            "install flwr into this environment: pip install flwr."
        )
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def require_free(port: int, patience_s: float = 5.0) -> None:
    """Raise FedsimError where something listens already: nodes would join a stranger.

    What was just killed may take a moment to let its port go.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            return
        if time.monotonic() > deadline:
            raise FedsimError(f"Port {port} is in use; choose another --port, or end what uses it.")
        time.sleep(0.2)


def wait_until_listening(port: int, process: Process, log: Path, limit_s: float) -> None:
    """Wait for a program to accept connections on this machine.

    Raises FedsimError where it ends or takes too long.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        if not process.alive:
            break
        time.sleep(0.2)
    raise FedsimError(f"{process.name} did not start: {complaint(log)} (see {log}).")


def complaint(log: Path) -> str:
    """Why a program says that it ended: what stands below its last exit code, or its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    codes = [i for i, line in enumerate(lines) if "Exit Code" in line]
    below = lines[codes[-1] + 1 :] if codes else [line for line in lines if line][-1:]
    said = list(itertools.takewhile(bool, below))
    return " ".join(said) or "it said nothing"
