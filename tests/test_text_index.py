"""The index of text against searching sentence by sentence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedsim.leakage.text_index as text_index
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.leakage.text_index import TextIndex
from fedsim.leakage.texts import Texts

SENTENCE = st.lists(st.integers(4, 7), max_size=6)


def sequences(sentences: list[list[int]]) -> Sequences:
    """Lists of ids as `Sequences`."""
    lengths = np.array([len(s) for s in sentences], np.int64)
    return Sequences(np.array([w for s in sentences for w in s], np.int32), offsets_of(lengths))


def holds(sentence: list[int], query: list[int], whole: bool) -> bool:
    """The definition."""
    if whole or not query:
        return bool(query) and sentence == query
    return any(sentence[i : i + len(query)] == query for i in range(len(sentence)))


@given(
    st.lists(st.tuples(st.integers(0, 3), SENTENCE), min_size=1, max_size=12),
    st.lists(SENTENCE, max_size=8),
    st.booleans(),
    st.sampled_from([3, 1 << 21]),
)
def test_what_is_found_is_what_searching_finds(
    text: list[tuple[int, list[int]]], queries: list[list[int]], whole: bool, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_index, "_BLOCK", block)
        texts = Texts(sequences([s for _, s in text]), np.array([u for u, _ in text]))
        found = TextIndex(texts).find(sequences(queries), whole)
    expected = [
        (q, s, text[s][0])
        for q, query in enumerate(queries)
        for s in range(len(text))
        if holds(text[s][1], query, whole)
    ]
    pairs = zip(found.query.tolist(), found.sentence.tolist(), found.owner.tolist(), strict=True)
    assert list(pairs) == expected
    owners = [sorted({u for p, _, u in expected if p == q}) for q in range(len(queries))]
    assert [found.owners(q).tolist() for q in range(len(queries))] == owners
    assert found.users.tolist() == [len(o) for o in owners]
    assert found.repeats.tolist() == [
        sum(p == q for p, _, _ in expected) for q in range(len(queries))
    ]


def test_only_the_pairs_of_named_users_remain() -> None:
    texts = Texts(sequences([[4, 5], [4, 5], [6]]), np.array([0, 1, 1]))
    found = TextIndex(texts).find(sequences([[4, 5], [6], [4]]))
    mine = found.of(np.array([1, 0, 0]))
    assert mine.query.tolist() == [0, 2]
    assert mine.owner.tolist() == [1, 0]
    assert mine.repeats.tolist() == [1, 0, 1]


def test_a_hash_that_collides_finds_nothing_false(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words decide, whatever the hash says."""
    monkeypatch.setattr(text_index, "_scattered", lambda ids: np.zeros(len(ids), np.uint64))
    texts = Texts(sequences([[4, 5], [6, 7], [5, 4]]), np.array([0, 1, 2]))
    assert TextIndex(texts).find(sequences([[6, 7]])).sentence.tolist() == [1]
    assert TextIndex(texts).find(sequences([[7, 7]])).sentence.tolist() == []
