"""Send messages through a Flower grid and take the replies as they come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from flwr.app import Error, Message
from flwr.serverapp import Grid

IDLE_S = 0.02  # the first pause between two pulls that brought nothing; grows
LONGEST_IDLE_S = 0.5
LOOK_S = 5.0  # how often to see whether the nodes are still there

NO_REPLY = 101
NOT_SENT = 102
NODE_GONE = 103
# With Flower's own for a node or a message that is unavailable: 3, 4 and 5 (flwr ErrorCode).
UNANSWERED = {NO_REPLY, NOT_SENT, NODE_GONE, 3, 4, 5}

NOWHERE = -1  # the node of a message that no connected node can take


def exchange(
    grid: Grid, messages: Iterable[Message], timeout_s: float, at_once: int | None = None
) -> Iterator[tuple[Message, Message]]:
    """(message, reply) pairs in order of arrival, one for every message.

    What was not sent, came too late or went to a node that has left is answered with an error. No
    more than `at_once` messages are taken and sent while none of them is answered; None: all.
    """
    coming = iter(messages)
    waiting: dict[str, Message] = {}
    deadline: float | None = None
    idle, looked = IDLE_S, time.monotonic()
    while True:
        free = None if at_once is None else at_once - len(waiting)
        if taken := list(islice(coming, free)):
            yield from _sent(grid, taken, waiting)
            del taken
            deadline = deadline or time.monotonic() + timeout_s
        elif not waiting:
            return
        if not waiting:
            continue
        started = time.monotonic()
        pulled = list(grid.pull_messages(list(waiting)))
        came = bool(pulled)
        while pulled:  # none is kept when it is done with: it may hold a model's bytes
            reply = pulled.pop(0)
            asked = waiting.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:  # else it came twice
                yield asked, reply
            del reply, asked
        now = time.monotonic()
        if deadline and now > deadline:
            break
        if came:
            idle = IDLE_S
            continue
        if now - looked > LOOK_S:
            looked = now
            yield from _gone(grid, waiting)
        if now - started < idle:  # a grid that waits by itself needs no pause
            time.sleep(idle)
            idle = min(idle * 1.5, LONGEST_IDLE_S)
    for message in (*waiting.values(), *coming):
        yield message, _error(message, NO_REPLY, f"no reply within {timeout_s:g} s")


def _sent(
    grid: Grid, messages: list[Message], waiting: dict[str, Message]
) -> Iterator[tuple[Message, Message]]:
    """Send the messages; those that were go into `waiting`, the others are answered at once."""
    sendable = [m for m in messages if m.metadata.dst_node_id != NOWHERE]
    pushed = set(grid.push_messages(sendable))
    there = {m.metadata.message_id: m for m in sendable if m.metadata.message_id in pushed}
    waiting.update(there)
    for message in messages:
        if message.metadata.dst_node_id == NOWHERE:
            yield message, _error(message, NOT_SENT, "no connected node hosts this user")
        elif message.metadata.message_id not in there:
            yield message, _error(message, NOT_SENT, "the message could not be sent to its node")


def _gone(grid: Grid, waiting: dict[str, Message]) -> Iterator[tuple[Message, Message]]:
    """Give up what was sent to nodes that are not connected any more."""
    connected = set(grid.get_node_ids())
    for message_id, message in list(waiting.items()):
        if message.metadata.dst_node_id not in connected:
            del waiting[message_id]
            yield message, _error(message, NODE_GONE, "its node has disconnected")


def _error(message: Message, code: int, reason: str) -> Message:
    return Message(Error(code=code, reason=reason), reply_to=message)
