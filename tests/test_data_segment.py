"""Text of scripts without spaces: cut into characters or words, and nothing is dropped for it."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import pytest
from foreign_files import installed
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.data.options import DataOptions
from fedsim.data.segment import spaced
from fedsim.data.store import open_corpus
from fedsim.data.text import words
from fedsim.errors import FedsimError

# Syllables by hand, after The Unicode Standard 15, chapter 16: each vowel, tone mark, medial and
# stacked letter with the consonant that it belongs to.
CLUSTERS = {
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e40\u0e14\u0e47\u0e01": (  # sawatdi dek
        "\u0e2a \u0e27\u0e31 \u0e2a \u0e14\u0e35 \u0e40\u0e14\u0e47 \u0e01"
    ),
    "\u0ea5\u0eb2\u0ea7\u0ec0\u0e95\u0eb1": "\u0ea5\u0eb2 \u0ea7 \u0ec0\u0e95\u0eb1",
    "\u1001\u103b\u1005\u103a\u1019\u1039\u1019\u102c": (  # a medial, a killer, a stacked letter
        "\u1001\u103b \u1005\u103a \u1019\u1039\u1019\u102c"
    ),
    "\u1781\u17d2\u1789\u17bb\u17c6\u179f\u17d2\u179a\u17a1\u17b6\u1789\u17cb": (  # khnom sralanh
        "\u1781\u17d2\u1789\u17bb\u17c6 \u179f\u17d2\u179a \u17a1\u17b6 \u1789\u17cb"
    ),
}


@pytest.mark.parametrize("text", CLUSTERS)
def test_characters_keep_their_signs(text: str) -> None:
    assert spaced(text).split() == CLUSTERS[text].split()
    assert spaced(f"ok {text}10, {text}!").split() == [
        "ok", *CLUSTERS[text].split(), "10,", *CLUSTERS[text].split(), "!"
    ]  # fmt: skip


without_spaces = st.characters(
    min_codepoint=0x0E00, max_codepoint=0x17FF, categories=("Lo", "Mn", "Mc", "Lm", "Nd")
)


@settings(max_examples=200, deadline=None)
@given(st.text(st.one_of(without_spaces, st.characters(exclude_categories=("Cs",))), max_size=30))
def test_nothing_is_lost_or_moved(text: str) -> None:
    for how in ("characters", "spaces"):
        assert "".join(spaced(text, how).split()) == "".join(text.split())  # type: ignore[arg-type]
    assert spaced(text, "spaces") == text
    again = spaced(spaced(text))
    assert again.split() == spaced(text).split()


def test_other_scripts_stay_as_they_are() -> None:
    for text in (
        "see you",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "caf\u00e9",
        "\u4eca\u5929",
    ):
        assert spaced(text) == text


THAI = "\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35"


def _corpus(tmp_path: Path, **options: object) -> tuple[int, dict]:
    file = tmp_path / "a.jsonl"
    rows = [{"user": f"p{user}", "text": THAI * 6} for user in range(8) for _ in range(3)]
    file.write_text("\n".join(map(json.dumps, rows)))
    corpus = open_corpus(DataOptions.model_validate({"path": str(file), "min_words": 1, **options}))
    assert corpus.account is not None
    return corpus.counts["words"], corpus.account


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_no_message_is_dropped_for_its_script(tmp_path: Path) -> None:
    """A message of 78 letters was one word of more than 50 characters, and gone."""
    number, account = _corpus(tmp_path)
    consonants = sum(unicodedata.category(char) == "Lo" for char in THAI) - THAI.count("\u0e32")
    assert number == 24 * 6 * consonants
    assert account["rows"]["dropped"] == {}
    assert account["changed"] == {"messages of a script without spaces, cut into characters": 24}


@pytest.mark.skipif(not installed("pythainlp"), reason="pythainlp is not installed (extra thai)")
def test_words_of_thai(tmp_path: Path) -> None:
    said = [
        "\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49",
        "\u0e2d\u0e32\u0e01\u0e32\u0e28",
        "\u0e14\u0e35",
    ]
    assert spaced(THAI, "words").split() == said
    assert words(spaced(THAI, "words")) == said
    assert _corpus(tmp_path, segment="words")[0] == 24 * 6 * 3


def test_without_pythainlp_a_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedsim.data import segment

    segment._thai_words.cache_clear()
    monkeypatch.setitem(sys.modules, "pythainlp.tokenize", None)
    with pytest.raises(FedsimError, match=r"run `pip install pythainlp`, or leave it out"):
        _corpus(tmp_path, segment="words")
