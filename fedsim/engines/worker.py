"""The body of a pool worker: import once, then one message after another."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection

from fedsim.engines.broadcast import Packed, unpack


@dataclass(frozen=True)
class Task:
    """One message, without what only the main process needs."""

    content: Packed
    message_type: str
    node_id: int


def work(pipe: Connection, client_app: str) -> None:
    """Serve tasks from `pipe` until it closes. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    threading.Thread(target=_end_with_main, daemon=True).start()
    from flwr.app import Message

    from fedsim.engines.flower_compat import set_identity
    from fedsim.engines.local import run_client
    from fedsim.references import load

    set_identity()
    app = load(client_app)
    while True:
        try:
            task: Task = pipe.recv()
        except (EOFError, OSError):
            return
        message = Message(unpack(task.content), task.node_id, task.message_type)
        reply = run_client(app, message)
        try:
            pipe.send(reply.error if reply.has_error() else reply.content)
        except OSError:  # the main process is gone
            return


def _end_with_main() -> None:
    """End with the main process, even where a client hangs: a killed one cannot say goodbye."""
    main = parent_process()
    if main is not None:
        main.join()
        os._exit(1)
