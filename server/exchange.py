"""Send messages through a Flower grid and take the replies as they come, in message order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from fedsim.errors import FedsimError

IDLE_S = 0.02  # between two pulls that brought nothing


def wait_for_nodes(grid: Grid, timeout_s: float) -> list[int]:
    """The ids of the connected nodes, ascending; waits until there is at least one."""
    deadline = time.monotonic() + timeout_s
    while not (nodes := sorted(grid.get_node_ids())):
        if time.monotonic() > deadline:
            raise FedsimError(f"No node connected within {timeout_s:.0f} s; start one and resume.")
        time.sleep(IDLE_S)
    return nodes


def replies_in_order(
    grid: Grid, messages: Sequence[Message], timeout_s: float
) -> Iterator[Message | None]:
    """One reply a message, in the order of `messages`; None where none came in time.

    Replies are handed on as soon as all earlier ones have been: the sum over them is made in one
    order whatever the number of workers, and only what came out of turn is held in memory.
    """
    ids = list(grid.push_messages(messages))
    waiting, early = set(ids), dict[str, Message]()
    deadline = time.monotonic() + timeout_s
    for message_id in ids:
        while message_id in waiting and time.monotonic() < deadline:
            pulled = list(grid.pull_messages([i for i in ids if i in waiting]))
            for reply in pulled:
                waiting.discard(reply.metadata.reply_to_message_id)
                early[reply.metadata.reply_to_message_id] = reply
            if not pulled:
                time.sleep(IDLE_S)
        yield early.pop(message_id, None)
