"""How worker processes start: forked from one that has imported everything, where that is safe.

Three processes that each import PyTorch are most of a small run's memory. On Linux workers are
therefore forked from a server process of the standard library's (`forkserver`), which shares its
pages with them; it is single-threaded and never calculates. A command forks that server from itself
before it does anything else (`prepare`), and shares the pages too. Elsewhere each is spawned.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from multiprocessing import forkserver, get_context, resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from fedsim.errors import FedsimError

FORKS = sys.platform == "linux"
_CONTEXT: Any = get_context("forkserver" if FORKS else "spawn")
_PRELOAD = "fedsim.engines.preload"
_ROOT = str(Path(__file__).resolve().parents[2])

pipe = _CONTEXT.Pipe


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that calls the function, with this process's environment as it is now."""
    process: BaseProcess = _CONTEXT.Process(
        target=_run, args=(dict(os.environ), target, arguments), daemon=True
    )
    resource_tracker.ensure_running()  # starting it inside would unblock signals half-way
    with ExitStack() as stack:
        stack.enter_context(_without_interrupts())
        stack.enter_context(_without_main())
        try:
            if FORKS:
                _ensure_server()
            process.start()
        except (EOFError, ConnectionError):
            raise FedsimError(
                "A worker process could not be started: the one that it is forked from was ended, "
                "likely for want of memory or by a limit (ulimit -a); try --engine local."
            ) from None
    return process


def _run(environment: dict[str, str], target: Callable[..., None], arguments: Any) -> None:
    """In the new process: the server may have been started when the environment was another."""
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)
    target(*arguments)


def _ensure_server() -> None:
    """Start the server where there is none, with this process's import path.

    An editable install is found by a hook of the environment's, which another Python does not run:
    that of an IPython outside of it, say. So the folder of the packages is made part of the path.
    """
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)
    forkserver.set_forkserver_preload([_PRELOAD])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def prepare(workers: bool = True) -> None:
    """Load the libraries that take long and, for `workers`, fork their server from this process.

    To be called before anything starts a thread, as pandas does: else the server is started when
    the first worker is, with pages of its own. A Ctrl-C waits until it is done: some libraries
    turn one into an ImportError.
    """
    workers = workers and FORKS and threading.active_count() == 1 and "pandas" not in sys.modules
    if workers:
        resource_tracker.ensure_running()  # starting it inside would unblock signals half-way
    with _without_interrupts():
        if workers:
            importlib.import_module(_PRELOAD)
            spawn, util.spawnv_passfds = util.spawnv_passfds, cast(Any, _fork)
            try:
                forkserver.ensure_running()
            finally:
                util.spawnv_passfds = spawn
        importlib.import_module("pandas")


def _fork(path: bytes, arguments: Any, kept: Sequence[int]) -> int:
    """In place of the standard library's start of a Python with `-c COMMAND`."""
    process = os.fork()
    if not process:
        try:
            # As in a new program: a copy of the pipe that says whether this process is alive would
            # keep the server alive for ever.
            inherited = [2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
            for low, high in pairwise(inherited):
                os.closerange(low + 1, high)
            exec(arguments[-1], {})
        finally:
            os._exit(0)
    return process


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started inside never sees Ctrl-C or the end of the terminal, not even while it
    imports: a terminal sends them to all, but they are the main process's to handle."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep a new process from importing the caller's script again: it needs none of it, and a
    script without an `if __name__ == "__main__"` would start its simulation a second time."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
