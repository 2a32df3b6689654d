"""The `ray` engine: the same apps under Flower's Ray simulation, on this machine or a cluster.

Three things that Flower's simulation does are mended from outside. It puts a dead actor back into
its pool, where it fails every message that it is given: a reply that tells of one ends this
simulation with `EngineLost`, and the run is resumed on a new one. It keeps a Ctrl-C from the
ServerApp, which runs in a thread: here the next look for replies raises it there. And it starts
before its nodes are there: the ServerApp samples users and waits for nodes, so it does not matter.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedsim.device import available_cores, resolve_device
from fedsim.engines.flower_compat import Run
from fedsim.errors import EngineLost, FedsimError
from fedsim.interrupts import NUMBERS
from fedsim.references import load
from fedsim.sections import EngineOptions

# What Ray calls it in the reason of an error reply when a process that ran clients has died.
DEAD = ("ActorDiedError", "ActorUnavailableError", "RayActorError", "WorkerCrashedError",
        "OutOfMemoryError", "NodeDiedError", "LocalRayletDiedError")  # fmt: skip
ANSWER_S = 10.0
PASSED_ON = ("FEDSIM_CACHE", "FEDSIM_DATA", "FEDSIM_KEYS", "CUDA_VISIBLE_DEVICES")


class WatchedGrid(Grid):
    """Flower's grid; a pull raises where an actor has died or the run is to stop."""

    def __init__(self, grid: Grid, stop: threading.Event) -> None:
        self._grid = grid
        self._stop = stop

    def set_run(self, run: Run) -> None:
        """As the grid inside."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """As the grid inside."""
        return self._grid.run

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        """As the grid inside."""
        return self._grid.create_message(*arguments, **named)

    def get_node_ids(self) -> Iterable[int]:
        """As the grid inside."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the grid inside."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Raises KeyboardInterrupt after a Ctrl-C, EngineLost after the death of an actor."""
        if self._stop.is_set():
            raise KeyboardInterrupt
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            if reply.has_error() and any(name in (reply.error.reason or "") for name in DEAD):
                raise EngineLost("a Ray process that ran clients has died (out of memory?)")
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """As the grid inside."""
        return self._grid.send_and_receive(messages, timeout=timeout)


def serve(
    server_app: str, client_app: str, settings: dict[str, Any], engine: EngineOptions
) -> None:
    """Run the apps on Ray until the ServerApp ends; what it raises is raised here."""
    if importlib.util.find_spec("ray") is None:
        raise FedsimError("The engine 'ray' needs Ray: pip install 'fedsim[ray]'.")
    from flwr.simulation import run_simulation

    stop, raised = threading.Event(), []
    within_ray = ServerApp()

    @within_ray.main()
    def main(grid: Grid, context: Context) -> None:
        own = Context(context.run_id, context.node_id, {}, RecordDict(), settings)
        try:
            load(server_app)(grid=WatchedGrid(grid, stop), context=own)
        except BaseException as error:
            raised.append(error)

    with _quiet_flower(), _interrupts_set(stop), _same_environment():
        processes = _start_ray(engine)
        gpus = 1 / processes if resolve_device(engine.device).type == "cuda" else 0.0
        run_simulation(
            within_ray,
            load(client_app),
            num_supernodes=processes,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": gpus}},
        )
    if raised:
        raise raised[0]
    if stop.is_set():
        raise KeyboardInterrupt


def _start_ray(engine: EngineOptions) -> int:
    """Start Ray or join a cluster; returns the number of client processes."""
    import ray

    if ray.is_initialized():
        raise FedsimError("Ray runs in this process already; call ray.shutdown() first.")
    if engine.address not in ("", "auto"):
        _require_answer(engine.address)
    workers = engine.workers or available_cores()
    where: dict[str, Any] = {"address": engine.address} if engine.address else {
        "address": "local", "num_cpus": workers, "include_dashboard": False
    }  # fmt: skip
    variables = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    variables |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    try:
        ray.init(
            **where,
            runtime_env={"env_vars": variables},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FedsimError(f"Ray cannot be reached at '{engine.address}': {reason}") from None
    if engine.address and not engine.workers:
        return max(1, int(ray.cluster_resources().get("CPU", 1)))
    return workers


def _require_answer(address: str) -> None:
    """Raise FedsimError where nothing answers at host:port: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise FedsimError(f"Nothing answers at engine.address '{address}': {error}.") from None


@contextmanager
def _interrupts_set(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and a scheduler's stop set `stop`, which the ServerApp's thread sees."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler)  # a second one does not wait

    heeded = [number for number in NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, first) for number in heeded]
    try:
        yield
    finally:
        for number, handler in zip(heeded, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Flower logs every failed client with a traceback; the run's log has them already."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _same_environment() -> Iterator[None]:
    """Give the environment back as it was: Flower's backend changes PYTHONPATH."""
    before = dict(os.environ)
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # else Ray warns of a change to come
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
