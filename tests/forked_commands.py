"""The command line many times over: each call a process of its own, forked from one that has loaded
the libraries. `python -m forked_commands` is that one; it reads a JSON line for each command."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KILLED = "killed after the longest time that a command may take"


@dataclass(frozen=True)
class Ended:
    """What came of a command."""

    code: int
    out: str
    err: str
    seconds: float


class Commands:
    """Runs commands one after another."""

    def __init__(self, folder: Path, cache: Path) -> None:
        """`folder` is for what commands print, `cache` theirs unless they are given another."""
        self._folder = folder
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._server = subprocess.Popen(
            [sys.executable, "-m", "forked_commands"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "FEDSIM_CACHE": str(cache), "COLUMNS": "110"},
        )

    def run(
        self,
        arguments: Sequence[object],
        cwd: Path,
        environment: Mapping[str, str | None] | None = None,
        limits: Mapping[str, int] | None = None,
        streams: Mapping[int, str] | None = None,
        longest_s: float = 60.0,
    ) -> Ended:
        """`limits` by the names of `resource`; `streams`: descriptor -> a path to write to, or ""
        to close it."""
        out, err = self._folder / "stdout", self._folder / "stderr"
        asked = {
            "arguments": [str(a) for a in arguments],
            "cwd": str(cwd),
            "environment": dict(environment or {}),
            "limits": dict(limits or {}),
            "streams": {1: str(out), 2: str(err), **(streams or {})},
            "longest_s": longest_s,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        for file in (out, err):
            file.write_bytes(b"")
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        told = json.loads(self._server.stdout.readline())
        said = [file.read_text("utf-8", "surrogateescape") for file in (out, err)]
        return Ended(told["code"], said[0], said[1], told["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def serve() -> None:
    """Read commands and answer with their exit codes, until there are no more."""
    import server.app  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        started = time.monotonic()
        process = os.fork()
        if not process:
            _become(asked)
        code = _code_of(process, started + asked["longest_s"])
        print(json.dumps({"code": code, "seconds": time.monotonic() - started}), flush=True)


def _code_of(process: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        pid, status = os.waitpid(process, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def _become(asked: Mapping[str, Any]) -> None:
    """Be the command; does not return."""
    code = 70
    try:
        os.setsid()
        os.chdir(asked["cwd"])
        for name, value in asked["environment"].items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, path in asked["streams"].items():
            if path:
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), int(descriptor))
            else:
                os.close(int(descriptor))
        for name, value in asked["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        sys.argv = ["fedsim", *asked["arguments"]]
        code = _exit_code()
    finally:
        os._exit(code)


def _exit_code() -> int:
    import multiprocessing.util

    import run_sim

    try:
        run_sim.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    multiprocessing.util._exit_function()
    return code


if __name__ == "__main__":
    serve()
