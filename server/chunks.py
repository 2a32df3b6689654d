"""How users are cut into messages: those with most text first, the last messages small.

A round ends when the last worker does. If the last message is small, nobody waits long for it; if
the first ones are large, there are few, and each costs a model's bytes on the way back.
"""

from __future__ import annotations

import numpy as np

AHEAD = 1.5  # a message is the share of one node in the work left, divided by this
SMALLEST = 1 / 16  # of a node's share in all the work
MOST_USERS = 100  # a message, however short their texts: what is lost with a worker is no more


def cut(users: np.ndarray, tokens: np.ndarray, nodes: int, chunk: int) -> list[list[int]]:
    """Chunks that cover `users`, to be sent in this order to whichever node is free.

    `tokens` is the work for each user. A `chunk` other than 0 fixes the number of users a message.
    """
    order = np.argsort(-tokens, kind="stable")
    users, tokens = users[order], tokens[order] + 1  # a user without text is some work too
    if chunk:
        ends = [*range(chunk, len(users), chunk), len(users)] if len(users) else []
    else:
        ends = _guided(tokens, nodes)
    return [users[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]


def _guided(tokens: np.ndarray, nodes: int) -> list[int]:
    """Guided self-scheduling (Polychronopoulos and Kuck 1987) over users of different size."""
    done = np.cumsum(tokens)
    total = int(done[-1]) if len(done) else 0
    least = SMALLEST * total / nodes
    ends: list[int] = []
    start = before = 0
    while start < len(tokens):
        share = max(least, (total - before) / (AHEAD * nodes))
        end = int(np.searchsorted(done, before + share, "right"))
        end = min(max(end, start + 1), start + MOST_USERS)
        ends.append(end)
        start, before = end, int(done[end - 1])
    return ends
