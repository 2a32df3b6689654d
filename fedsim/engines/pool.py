"""The default engine: persistent worker processes, parameters broadcast through shared memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from multiprocessing import connection
from typing import Any

from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from fedsim.device import available_cores
from fedsim.engines import starting
from fedsim.engines.broadcast import Broadcaster
from fedsim.engines.flower_compat import (
    FIRST_NODE,
    Run,
    empty_run,
    set_identity,
    set_message_id,
)
from fedsim.engines.local import is_expired, run_server
from fedsim.engines.outbox import Inbox
from fedsim.engines.segments import size_of
from fedsim.engines.worker import Done, Order, Task, work
from fedsim.sections import EngineOptions

WORKER_DIED = 8
ATTEMPTS = 2
PULL_WAIT_S = 0.5
PIPE_BYTES = 1 << 20  # a first reply of this size may well go through the pipe


class _Worker:
    """One process of so many, the pipe to it, and what it is at work on."""

    def __init__(self, client_app: str, workers: int) -> None:
        self.pipe, child = starting.pipe()
        self.process = starting.start(work, child, client_app, workers)
        child.close()
        self.message_id: str | None = None
        self.segment: str | None = None  # where the arrays of its reply go


def serve(
    server_app: str, client_app: str, settings: dict[str, Any], engine: EngineOptions
) -> None:
    """Run the ServerApp over `engine.workers` processes."""
    run_server(server_app, PoolGrid(client_app, engine.workers), settings)


class PoolGrid(Grid):
    """Flower's public Grid over a fixed set of processes that live as long as the run.

    A message goes to the next idle worker, whatever its node id: nodes are routing, users are
    data. A worker that dies is replaced and its message repeated once.
    """

    def __init__(self, client_app: str, workers: int = 0) -> None:
        set_identity()
        self._client_app = client_app
        self._run = empty_run()
        self._broadcaster = Broadcaster()
        self._messages: dict[str, Message] = {}
        self._tasks: dict[str, Task] = {}
        self._attempts: dict[str, int] = {}
        self._queue: deque[str] = deque()
        self._replies: dict[str, Message] = {}
        self._sent = 0
        self._reply_bytes = 0  # of the arrays of the largest reply so far
        count = workers or available_cores()
        self._inbox = Inbox(count)
        self._workers = [_Worker(client_app, count) for _ in range(count)]

    def set_run(self, run: Run) -> None:
        """Set the run this grid reports."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run information."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """One node id a worker, always the same."""
        return range(FIRST_NODE, FIRST_NODE + len(self._workers))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages and start idle workers; returns the message ids.

        Messages past their time to live are given up first: nobody waits for them any more, and
        a worker that hangs on one would be missing from now on.
        """
        self._give_up_expired()
        ids = []
        for message in messages:
            self._sent += 1
            message_id = f"message-{self._sent}"
            set_message_id(message, message_id)
            self._messages[message_id] = message
            self._tasks[message_id] = Task(
                self._broadcaster.pack(message_id, message.content),
                message.metadata.message_type,
                message.metadata.dst_node_id,
            )
            self._expect(message)
            self._queue.append(message_id)
            ids.append(message_id)
        self._feed()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there; waits up to half a second for the first."""
        wanted = list(message_ids)
        if not any(i in self._replies for i in wanted):
            self._collect(PULL_WAIT_S)
        return [self._replies.pop(i) for i in wanted if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then pull until all have replied or `timeout` seconds have passed."""
        waiting = set(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        out: list[Message] = []
        while waiting and (deadline is None or time.monotonic() < deadline):
            replies = list(self.pull_messages(waiting))
            waiting -= {r.metadata.reply_to_message_id for r in replies}
            out += replies
        return out

    def _expect(self, message: Message) -> None:
        """Room for the first replies too: a sum has eight bytes where a model has four."""
        if message.metadata.message_type.partition(".")[0] == "train":
            arrays = [r for r in message.content.values() if isinstance(r, ArrayRecord)]
            size = 2 * max((size_of(record) for record in arrays), default=0)
            if size > PIPE_BYTES:
                self._reply_bytes = max(self._reply_bytes, size)

    def _feed(self) -> None:
        for worker in self._workers:
            if worker.message_id is None and self._queue:
                worker.message_id = self._queue.popleft()
                worker.segment = self._inbox.offer(self._reply_bytes)
                try:
                    worker.pipe.send(Order(self._tasks[worker.message_id], worker.segment))
                except OSError:
                    self._replace(worker)

    def _collect(self, wait_s: float) -> None:
        busy = [w for w in self._workers if w.message_id is not None]
        ready = set(connection.wait([w.pipe for w in busy], wait_s))
        for worker in busy:
            if worker.pipe in ready:
                try:
                    done: Done = worker.pipe.recv()
                except (EOFError, OSError):
                    self._replace(worker)
                    continue
                message_id, worker.message_id = worker.message_id, None
                assert message_id is not None
                self._reply_bytes = max(self._reply_bytes, done.size)
                content = done.content
                self._finish(
                    message_id,
                    content if isinstance(content, Error) else self._inbox.read(content),
                )
                self._inbox.take_back(worker.segment)
        self._feed()

    def _finish(self, message_id: str, reply: RecordDict | Error) -> None:
        message = self._forget(message_id)
        if not is_expired(message):
            self._replies[message_id] = Message(reply, reply_to=message)

    def _forget(self, message_id: str) -> Message:
        """Free what an open message holds."""
        self._broadcaster.release(message_id)
        self._attempts.pop(message_id, None)
        del self._tasks[message_id]
        return self._messages.pop(message_id)

    def _give_up_expired(self) -> None:
        for message_id in [i for i in self._queue if is_expired(self._messages[i])]:
            self._queue.remove(message_id)
            self._forget(message_id)
        for worker in list(self._workers):
            running = worker.message_id
            if running is not None and is_expired(self._messages[running]):
                worker.process.kill()
                worker.message_id = None
                self._replace(worker)
                self._forget(running)
        self._replies = {i: r for i, r in self._replies.items() if not is_expired(r)}

    def _replace(self, worker: _Worker) -> None:
        """Start a new process for a dead one; repeat its message, or give it up with an error."""
        message_id = worker.message_id
        worker.pipe.close()
        worker.process.join(5)
        self._inbox.take_back(worker.segment)
        code = worker.process.exitcode
        new = _Worker(self._client_app, len(self._workers))
        self._workers[self._workers.index(worker)] = new
        if message_id is None:
            return
        self._attempts[message_id] = self._attempts.get(message_id, 0) + 1
        if self._attempts[message_id] < ATTEMPTS:
            self._queue.appendleft(message_id)
        else:
            reason = f"the worker process died twice on this message (exit code {code})"
            self._finish(message_id, Error(code=WORKER_DIED, reason=reason))

    def close(self) -> None:
        """End the workers and free the shared memory."""
        for worker in self._workers:
            if worker.message_id is not None:
                worker.process.terminate()  # busy with something nobody waits for
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
        self._inbox.close()
        self._broadcaster.close()
