"""The body of a pool worker: import once, then one message after another."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection

from flwr.app import Error

from fedsim.engines.broadcast import Receiver
from fedsim.engines.outbox import Outbox
from fedsim.engines.segments import Packed


@dataclass(frozen=True)
class Task:
    """One message, without what only the main process needs."""

    content: Packed
    message_type: str
    node_id: int


@dataclass(frozen=True)
class Order:
    """A task for one worker, and the segment that its reply's arrays should go to."""

    task: Task
    segment: str | None


@dataclass(frozen=True)
class Done:
    """What a worker replied, and the bytes of its arrays."""

    content: Packed | Error
    size: int


def work(pipe: Connection, client_app: str, workers: int) -> None:
    """Serve tasks from `pipe` until it closes. Runs in a process of its own, one of `workers`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    # Nothing is to be saved here: the main process's handler would only raise in a client.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_main, daemon=True).start()
    from flwr.app import Message

    from fedsim.engines.flower_compat import set_identity
    from fedsim.engines.local import run_client
    from fedsim.engines.replies import made_in
    from fedsim.references import load

    set_identity()
    app = load(client_app)
    receiver, outbox = Receiver(), Outbox(workers)
    while True:
        try:
            order: Order = pipe.recv()
        except (EOFError, OSError):
            return
        task = order.task
        message = Message(receiver.unpack(task.content), task.node_id, task.message_type)
        with made_in(outbox.memory(order.segment)):
            reply = run_client(app, message)
        if reply.has_error():
            done = Done(reply.error, 0)
        else:
            done = Done(*outbox.pack(reply.content, order.segment))
        try:
            pipe.send(done)
        except OSError:  # the main process is gone
            return
        # Nothing of a message is kept while the worker waits: its segments can then be unmapped.
        del order, task, message, reply, done


def _end_with_main() -> None:
    """End with the main process, even where a client hangs: a killed one cannot say goodbye."""
    main = parent_process()
    if main is not None:
        main.join()
        os._exit(1)
