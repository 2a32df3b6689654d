"""The in-process engine: one client after another, for debugging and small runs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedsim.engines.flower_compat import (
    FIRST_NODE,
    RUN_ID,
    Run,
    empty_run,
    isolated,
    set_identity,
    set_message_id,
)
from fedsim.interrupts import held_back
from fedsim.references import load
from fedsim.sections import EngineOptions

if TYPE_CHECKING:
    from fedsim.engines.pool import PoolGrid

CLIENT_RAISED = 2  # Flower's own code for a ClientApp that raised


def run_client(app: ClientApp, message: Message) -> Message:
    """One ClientApp call; an exception becomes an error reply that carries the traceback.

    The context's state starts empty: here users are data, and what must outlive a message
    belongs to the server.
    """
    context = Context(
        run_id=RUN_ID,
        node_id=message.metadata.dst_node_id,
        node_config={},
        state=RecordDict(),
        run_config={},
    )
    try:
        return app(message=message, context=context)
    except Exception:
        return Message(Error(code=CLIENT_RAISED, reason=traceback.format_exc()), reply_to=message)


def is_expired(message: Message) -> bool:
    """True where the message's time to live is over: nobody waits for its reply."""
    return time.time() > message.metadata.created_at + message.metadata.ttl


def serve(
    server_app: str, client_app: str, settings: dict[str, Any], engine: EngineOptions
) -> None:
    """Run the ServerApp with all clients in this process."""
    run_server(server_app, LocalGrid(client_app), settings)


def run_server(server_app: str, grid: LocalGrid | PoolGrid, settings: dict[str, Any]) -> None:
    """Call the ServerApp on a grid of this machine, and close the grid."""
    context = Context(
        run_id=RUN_ID, node_id=0, node_config={}, state=RecordDict(), run_config=settings
    )
    try:
        load(server_app)(grid=grid, context=context)
    finally:
        with held_back():  # a second Ctrl-C would leave workers and shared memory to others
            grid.close()


class LocalGrid(Grid):
    """Flower's public Grid over function calls; a pull executes one waiting message."""

    def __init__(self, client_app: str, nodes: int = 1) -> None:
        set_identity()
        self._app: ClientApp = load(client_app)
        self._nodes = nodes
        self._run = empty_run()
        self._inbox: dict[str, Message] = {}
        self._sent = 0

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
        """The ids of the nodes, always the same."""
        return range(FIRST_NODE, FIRST_NODE + self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages and forget those past their time to live; returns the new ids."""
        self._inbox = {i: m for i, m in self._inbox.items() if not is_expired(m)}
        ids = []
        for message in messages:
            self._sent += 1
            message_id = f"message-{self._sent}"
            set_message_id(message, message_id)
            self._inbox[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Execute the first waiting message among `message_ids`."""
        for message_id in message_ids:
            if message_id in self._inbox:
                message = self._inbox.pop(message_id)
                message.content = isolated(message.content)
                return [run_client(self._app, message)]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then pull until all have replied."""
        ids = list(self.push_messages(messages))
        return [reply for message_id in ids for reply in self.pull_messages([message_id])]

    def close(self) -> None:
        """Forget what was not executed."""
        self._inbox.clear()
