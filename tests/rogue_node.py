"""A SuperNode that its owner has tampered with: it speaks Flower's wire protocol and may lie.

It trains in this process with the real ClientApp, and a test decides what goes out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supernode.fleet_http_connection import http_request_response

from clients.app import app

# What is asked, and the honest reply to it, become what is sent.
Lie = Callable[[Message, Message], Sequence[Message]]


class RogueNode:
    """Connects to the SuperLink with the shard of a node that does not run.

    `refusals` are what the SuperLink said against a message that was pushed.
    """

    def __init__(self, superlink: str, shard: Path, lie: Lie) -> None:
        self.refusals: list[str] = []
        self.asked: list[Message] = []
        self._superlink, self._shard, self._lie = superlink, shard, lie
        self._stop = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RogueNode:
        """Be connected."""
        self._thread.start()
        assert self._connected.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join(60)

    def _serve(self) -> None:
        with http_request_response(self._superlink, insecure=True) as connection:
            node, receive, send, _, _, pull, push, confirm = connection
            self._connected.set()
            while not self._stop.is_set():
                if (came := receive()) is None:
                    time.sleep(0.2)
                    continue
                told, tree = came
                run = told.metadata.run_id
                message = pull_and_inflate_object_from_tree(
                    tree,
                    lambda name, run=run: pull(run, name),  # type: ignore[misc]
                    lambda name, run=run: confirm(run, name),  # type: ignore[misc]
                    return_type=Message,
                )
                message.metadata.__dict__["_message_id"] = told.metadata.message_id
                context = Context(run, node, {"shard": str(self._shard)}, RecordDict(), {})
                self.asked.append(message)
                for reply in self._lie(message, app(message, context)):
                    self._push(reply, send, push)

    def _push(self, reply: Message, send: Callable, push: Callable) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            tree, parts = get_object_tree(reply), get_all_nested_objects(reply)
            contents = {name: part.deflate() for name, part in parts.items()}
        run = reply.metadata.run_id
        try:
            wanted, session = send(reply, tree, 0.1)
            for name in wanted:
                push(run, session, name, contents[name])
        except Exception as error:
            with suppress(Exception):
                error = RuntimeError(f"{error}: {error.response.text}")  # type: ignore[attr-defined]
            self.refusals.append(str(error))
