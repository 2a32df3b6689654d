"""Users cut into messages: everybody once, most text first, a short tail, few messages."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from fedsim.config import Config
from fedsim.federation import open_federation
from server.chunks import MOST_USERS, cut


def sizes(users: int, seed: int = 0) -> np.ndarray:
    """Words of users, log-normal as people are."""
    return np.exp(np.random.default_rng(seed).normal(5, 1, users)).astype(np.int64)


def makespan(chunks: list[list[int]], tokens: np.ndarray, nodes: int) -> int:
    """When the last of `nodes` equal workers ends that take the chunks in order."""
    ends = [0] * nodes
    for chunk in chunks:
        heapq.heappush(ends, heapq.heappop(ends) + int(tokens[chunk].sum()))
    return max(ends)


@pytest.mark.parametrize("users", [0, 1, 2, 7, 50, 1000])
@pytest.mark.parametrize("nodes", [1, 2, 16])
@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_everybody_is_in_one_chunk(users: int, nodes: int, chunk: int) -> None:
    ids = np.arange(users) * 3 + 5
    chunks = cut(ids, sizes(users), nodes, chunk)
    assert sorted(user for part in chunks for user in part) == ids.tolist()
    assert all(0 < len(part) <= MOST_USERS for part in chunks)
    if chunk:
        assert {len(part) for part in chunks[:-1]} <= {chunk}


def test_the_largest_come_first_and_the_last_chunks_are_small() -> None:
    tokens = sizes(50)
    chunks = cut(np.arange(50), tokens, 2, 0)
    order = [user for part in chunks for user in part]
    assert tokens[order].tolist() == sorted(tokens.tolist(), reverse=True)
    work = [int(tokens[part].sum()) for part in chunks]
    assert work[0] > 3 * work[-1]
    assert len(chunks) < 20


@pytest.mark.parametrize("nodes", [2, 8])
@pytest.mark.parametrize("users", [50, 400])
def test_no_worker_waits_long_for_the_last(users: int, nodes: int) -> None:
    for seed in range(20):
        tokens = sizes(users, seed)
        best = max(int(tokens.max()), tokens.sum() / nodes)
        assert makespan(cut(np.arange(users), tokens, nodes, 0), tokens, nodes) < 1.1 * best


def test_users_whose_text_is_elsewhere_are_cut_too() -> None:
    chunks = cut(np.arange(40), np.zeros(40, np.int64), 2, 0)
    assert sorted(user for part in chunks for user in part) == list(range(40))
    assert 4 <= len(chunks) < 20


def test_sizes_are_those_of_the_sequences(config: Config) -> None:
    federation = open_federation(config)
    users = np.arange(federation.users)
    for part in ("train", "all"):
        texts = [federation.sequences(int(u), part) for u in users]
        expected = [(len(t), len(t.tokens) + len(t)) for t in texts]
        assert federation.sizes(users, part).tolist() == [list(pair) for pair in expected]
