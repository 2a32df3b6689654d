"""Words, vocabulary and ragged sequences, on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.sequences import Sequences, offsets_of
from fedsim.data.text import pieces, words
from fedsim.data.vocabulary import BOS, EOS, PAD, SPECIALS, UNK, Vocabulary


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Don't STOP me now!!", ["don't", "stop", "me", "now"]),
        ("don\u2019t don\u00b4t o'clock 'quoted'", ["don't", "don't", "o'clock", "quoted"]),
        ("snake_case a_b", ["snake", "case", "a", "b"]),
        ("see u @ 8:30pm :-)", ["see", "u", "8", "30pm"]),
        ("", []),
        ("... \u2764\ufe0f \U0001f600", []),
        ("Straße ÉCOLE cafe\u0301", ["strasse", "école", "café"]),
        ("\uff21\uff22\uff23 ﬁne", ["abc", "fine"]),
        ("今天准时回来吗 ok", ["今", "天", "准", "时", "回", "来", "吗", "ok"]),
        ("ねこカナ", ["ね", "こ", "カ", "ナ"]),
        ("한국어 좋아요", ["한국어", "좋아요"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("نیم\u200cروز", ["نیم\u200cروز"]),
        ("soft\u00adhyphen", ["softhyphen"]),
        ("ΣΊΣΥΦΟΣ", ["σίσυφοσ"]),
    ],
)
def test_words(message: str, expected: list[str]) -> None:
    assert words(message) == expected


def test_a_token_of_more_than_50_characters_is_no_word() -> None:
    longest = "b" * 50
    for letter in ("a", "ü"):  # the ASCII shortcut and the other way
        key = letter * 51
        assert words(f"see {key} {longest} {letter * 8000} you") == ["see", longest, "you"]
    assert words("a" * 30 + "'" + "a" * 30) == []
    assert words("é" * 50) == ["é" * 50]


@given(st.text())
def test_words_of_words_are_the_same(message: str) -> None:
    found = words(message)
    assert words(" ".join(found)) == found
    assert not any(c.isspace() or c == "_" for word in found for c in word)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_ascii_shortcut_changes_nothing(message: str) -> None:
    with_umlaut = words(message + " ü")
    assert with_umlaut == [*words(message), "ü"]


@given(st.integers(0, 500), st.integers(1, 40))
def test_pieces_are_full_but_the_last(length: int, most: int) -> None:
    found = list(pieces(length, most))
    assert sum(found) == length
    assert all(piece == most for piece in found[:-1])
    assert all(0 < piece <= most for piece in found[-1:])


def test_vocabulary_ranks_by_frequency_then_alphabet() -> None:
    found = Vocabulary.choose(["b", "c", "a", "rare", "never"], np.array([2, 5, 2, 1, 0]), 7)
    assert found.words == [*SPECIALS, "c", "a", "b"]
    assert len(found) == 7
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    ids = found.encode(["a", "rare", "c"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [5, UNK, 4]
    assert found.decode(ids) == "a <unk> c"
    assert "b" in found
    assert "never" not in found


def test_vocabulary_holds_only_words_that_occur() -> None:
    found = Vocabulary.choose(["x", "y"], np.array([1, 0]), 100)
    assert found.words[4:] == ["x"]


ragged = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=8)


def _sequences(lists: list[list[int]]) -> Sequences:
    flat = [token for tokens in lists for token in tokens]
    lengths = np.array([len(tokens) for tokens in lists], np.int64)
    return Sequences(np.array(flat, np.int32), offsets_of(lengths))


def _lists(sequences: Sequences) -> list[list[int]]:
    return [tokens.tolist() for tokens in sequences]


@given(ragged, st.data())
def test_sequences_behave_like_lists(lists: list[list[int]], data: st.DataObject) -> None:
    sequences = _sequences(lists)
    assert len(sequences) == len(lists)
    assert _lists(sequences) == lists
    assert sequences.lengths.tolist() == [len(tokens) for tokens in lists]
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1))) if lists else []
    taken = sequences.take(chosen)
    assert _lists(taken) == [lists[i] for i in chosen]
    assert taken.tokens.dtype == np.int32
    assert taken.offsets.dtype == np.int64
    joined = Sequences.concatenate([sequences, taken])
    assert _lists(joined) == lists + [lists[i] for i in chosen]
    assert len(Sequences.concatenate([])) == 0
