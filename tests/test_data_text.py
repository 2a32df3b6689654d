"""Words, vocabulary and ragged sequences, on cases whose answer is known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedsim.data.emoji import EMOJI
from fedsim.data.patterns import pattern
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.data.text import (
    Tokenization,
    Tokenizer,
    pieces,
    sentences,
    typed_length,
    words,
)
from fedsim.data.vocabulary import BOS, EOS, NUMBER, PAD, SPECIALS, UNK, Vocabulary, specials_of

CASES = [
    # words
    ("Don't STOP me now", "don't stop me now"),
    (
        "don\u2019t don\u00b4t don`t o'clock 'quoted' \u2018quoted\u2019",
        "don't don't don't o'clock quoted quoted",
    ),
    ("snake_case well-known", "snake case well known"),
    ("", ""),
    ("(see) [you] #later, ok; bye: \u201cok\u201d \u2013 50%", "see you later ok bye ok <number>"),
    ("Straße ÉCOLE cafe\u0301", "straße école café"),
    ("\uff21\uff22 \ufb01ne", "\uff41\uff42 \ufb01ne"),
    ("İstanbul ΣΊΣΥΦΟΣ", "i̇stanbul σίσυφος"),
    ("今天准时回来吗 ok", "今 天 准 时 回 来 吗 ok"),
    ("ねこカナ ﾈｺ", "ね こ カ ナ ﾈ ｺ"),
    ("한국어 좋아요", "한국어 좋아요"),
    ("हिन्दी भाषा", "हिन्दी भाषा"),
    ("نیم\u200cروز", "نیم\u200cروز"),
    ("soft\u00adhyphen le\u200eft \ufeffbom", "softhyphen left bom"),
    ("gr8 2nite b4 mp3 3D 4ever", "gr8 2nite b4 mp3 3d 4ever"),
    # sentences
    ("One. Two!", "one | two"),
    ("what?! no... yes.. ok\u2026 bye", "what | no | yes | ok | bye"),
    ("first line\nsecond line\r\n\r\nthird", "first line | second line | third"),
    ("a<br>b<p class='x'>c</p>", "a | b | c"),
    ("今天\u3002明天\uff01", "今 天 | 明 天"),
    ("क्या? हाँ। ठीक", "क्या | हाँ | ठीक"),
    ("ما؟ نعم", "ما | نعم"),
    ('"Really?" she said.', "really | she said"),
    ("I live in the U.S.A. now", "i live in the u.s.a. now"),
    (
        "e.g. this, i.e. that, a.k.a it at 5 p.m. ok",
        "e.g. this i.e. that a.k.a. it at <number> p.m. ok",
    ),
    (
        "Mr. Smith and Dr. J. K. Jones vs. J. Doe etc. end",
        "mr smith and dr j k jones vs j doe etc end",
    ),
    ("K. Bye. So am I. Ok", "k | bye | so am i | ok"),
    ("No. 5 is it. No. Really", "no <number> is it | no | really"),
    ("version 3.5 at 10:30. Done", "version <number> at <number> | done"),
    ("read config.yaml in /etc/apt", "read config yaml in etc apt"),
    ("well...,fine", "well fine"),
    # emoji
    (
        "love \u2764\ufe0f \u2764 \u2764\ufe0e\U0001f600\U0001f600",
        "love \u2764\ufe0f \u2764\ufe0f \u2764\ufe0f \U0001f600 \U0001f600",
    ),
    (
        "\U0001f469\U0001f3fd\u200d\U0001f4bb \U0001f44d\U0001f3ff",
        "\U0001f469\U0001f3fd\u200d\U0001f4bb \U0001f44d\U0001f3ff",
    ),
    (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f1eb\U0001f1f7",
    ),
    ("1\ufe0f\u20e3 #\u20e3 \u2122 \u2122\ufe0f", "1\ufe0f\u20e3 #\ufe0f\u20e3 \u2122\ufe0f"),
    ("See you! \U0001f600 Bye", "see you \U0001f600 | bye"),
    ("hi:) :D :-( ;P <3 xD :'( ^^ T_T o.O", "hi :) :D :-( ;P <3 xd :'( ^^ T_T o.O"),
    ("x.x.202 t.t.c x.x.x", "x.x <number> t.t.c. x.x.x."),
    ("let;s that's (a:b) 8) x=1", "let s that's a b <number> x <number>"),
    # numbers
    ("at 10:30, 8pm, 8.30pm, 21st", "at <number> <number> <number> <number>"),
    ("on 12/05/2014 or 2014-05-12", "on <number> or <number>"),
    ("$3.50, 1,000,000 and .5 or 10k", "<number> <number> and <number> or <number>"),
    ("call +1 (555) 123-4567 now", "call <number> now"),
    ("call 9123 4567 or 555-1234, 06 12 34 56 78", "call <number> or <number> <number>"),
    ("ref AB12345 key 9f86d081884c7d65", "ref <number> key <number>"),
    ("3 4 5", "<number> <number> <number>"),
    ("v2.0.1 24/7 5'11 90's 3x", "<number> <number> <number> <number> <number>"),
    ("\uff11\uff10 \u0663", "<number> <number>"),
    # addresses
    ("mail a.b+c@mail.example.com.", "mail <address>"),
    ("see https://x.org/a?b=1&c=2. Then www.x.com!", "see <address> | then <address>"),
    ("google.com bbc.co.uk/news bit.ly/x", "<address> <address> <address>"),
    ("@ann_b hi, meet @ 5", "<address> hi meet @"[:-2] + " <number>"),
    ("/u/some_name said", "<address> said"),
    # what other programs left
    (
        "&lt;3 you &amp; me &amp;amp; R&D &#39;quoted&#39; don&#x27;t &foo;",
        "<3 you me r d quoted don't foo",
    ),
    ("AT&T gt amp", "at t gt amp"),
    ("be <b>bold</b> <a href='http://x.org'>here</a> <i think>", "be bold here i think"),
    (
        "<#> at <TIME> <DECIMAL> by <EMAIL> <URL>",
        "<number> at <number> <number> by <address> <address>",
    ),
    ("<number> <address> <unk> number", "<number> <address> <unk> number"),
]


def said(message: str, **options: str) -> str:
    """The sentences in one line, with bars between."""
    found = sentences(message, Tokenization(**options))  # type: ignore[arg-type]
    return " | ".join(" ".join(sentence) for sentence in found)


@pytest.mark.parametrize(("message", "expected"), CASES)
def test_sentences_are_those_of_a_phone_keyboard(message: str, expected: str) -> None:
    assert said(message) == expected


@pytest.mark.parametrize(
    "part",
    [".", "aa.", "a-", "1.", "a.", "<a x=1 ", "a@", "a.b@", ":-", "+1 ", "é-", "&amp;", "v1."],
)
def test_a_long_line_is_cut_in_time_that_grows_with_it(part: str) -> None:
    """Where each place looked through the rest of the line this would take hours."""
    assert len(words(part * 100_000 + ",x")) <= 300_001


PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"


def examples() -> list[tuple[str, str]]:
    """The rows of the first table of the page on text: what is typed, what it is read as."""
    table = PAGE.read_text("utf-8").split("| typed | read as |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(.*)` \| (.*) \|$", table, re.MULTILINE)
    return [(typed, read.replace("` / `", " | ").strip("`")) for typed, read in rows]


@pytest.mark.parametrize(("message", "expected"), examples())
def test_the_page_shows_what_is_read(message: str, expected: str) -> None:
    assert said(message) == expected


@pytest.mark.parametrize(
    ("options", "message", "expected"),
    [
        ({"emoji": "drop"}, "hi \U0001f600! :) bye", "hi | bye"),
        ({"case": "keep"}, "The U.S. Straße :D IT'S A.b", "The U.S. Straße :D IT'S A.b."),
        ({"numbers": "keep"}, "at 10:30 AB12345 on 5TH, $3.50", "at 10:30 ab12345 on 5th 3.50"),
        ({"numbers": "keep"}, "call 9123 4567 <#>", "call 9123 4567 <number>"),
        ({"numbers": "keep"}, "@ann a@b.com", "<address> <address>"),
        ({"sentences": "keep"}, "One. Two!\nThree", "one two three"),
    ],
)
def test_options(options: dict[str, str], message: str, expected: str) -> None:
    assert said(message, **options) == expected


def test_a_token_of_more_than_50_characters_is_no_word() -> None:
    longest = "b" * 50
    for letter in ("a", "ü"):  # the ASCII shortcut and the other way
        tokenizer = Tokenizer()
        key = letter * 51
        found = tokenizer.sentences(f"see {key} {longest} {letter * 8000} you")
        assert found == [["see", longest, "you"]]
        assert tokenizer.dropped == {"of more than 50 characters": 2}
    assert words("a" * 30 + "'" + "a" * 30) == []
    assert words("é" * 50) == ["é" * 50]


def test_what_a_message_loses_is_counted() -> None:
    tokenizer = Tokenizer(Tokenization(emoji="drop"))
    assert tokenizer.sentences("<b>Hi</b> &amp; bye, \U0001f600 :) (ok)?!") == [["hi", "bye", "ok"]]
    assert tokenizer.dropped == {"emoji (data.emoji=drop)": 2}
    assert tokenizer.changed == {"HTML entities (decoded)": 1}
    assert tokenizer.signs == {
        "that end a sentence (. ! ? ...)": 2,
        "in HTML tags": 7,
        "other than letters, digits, emoji": 4,  # & , ( )
    }


def test_an_emoji_is_one_key() -> None:
    keys = {
        "a": 1,
        "don't": 5,
        ":)": 2,
        "\U0001f600": 1,
        "\u2764\ufe0f": 1,
        "1\ufe0f\u20e3": 1,
        "": 0,
    }
    keys["\U0001f468\u200d\U0001f469\u200d\U0001f467"] = 1
    assert {word: typed_length(word) for word in keys} == keys


# Text that is likely to be cut in more than one way.
_ASCII_PIECES = r"""
    a b I don't U.S.A. e.g. Mr. J. no. 5 0 10:30 0:0A 3.5 +1 555 1234 (06) 9123 4567 AB12345 v2.0
    a@b.com @bob /u/bob www.x.y http:// x.com/y :) :D <3 T_T o.O x.x. ... ? ! , ; ' ` - _ . / \ & #
    &amp; &lt; &#39; <b> </b> <br> <#> <number> <unk> < >
"""
_OTHER_PIECES = """
    \u2019 \xb4 ß É İ Σ é e\u0301 \u0301 今 ね \uff88 \uff9e हिन्दी \u0e48 \u200c \u200d \ufe0f
    \u20e3 1\ufe0f\u20e3 \u2764 \u2122\ufe0f \u2640 \U0001f600 \U0001f3fd \U0001f469 \U0001f1e9
    \U0001f1ea \U000e0067 \xad \u200e \u2028 \xbd \xb2 \u2167 \u0663 \uff11 \u1fef \u212a \u3002
    \uff01
"""
BLANKS = [" ", "  ", "\n", ""]
ASCII_PIECES = st.sampled_from([*_ASCII_PIECES.split(), *BLANKS])
PIECES = ASCII_PIECES | st.sampled_from([*_OTHER_PIECES.split(" "), *BLANKS])
MESSAGES = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))
HOW = st.builds(
    Tokenization,
    emoji=st.sampled_from(["keep", "drop"]),
    case=st.sampled_from(["fold", "keep"]),
    numbers=st.sampled_from(["class", "keep"]),
    sentences=st.sampled_from(["split", "keep"]),
)


@settings(max_examples=400, deadline=None)
@example("0&#39;0:0A", Tokenization())  # the number ends where a word begins
@given(MESSAGES, HOW)
def test_words_of_words_are_the_same(message: str, how: Tokenization) -> None:
    found = sentences(message, how)
    assert all(found)
    for sentence in found:
        assert sentences(" ".join(sentence), how) == [sentence]
        assert not any(c.isspace() for word in sentence for c in word)


@settings(max_examples=300, deadline=None)
@given(MESSAGES, HOW)
def test_no_letter_digit_or_emoji_is_lost_in_silence(message: str, how: Tokenization) -> None:
    """What no token takes holds none of them, and every character is counted."""
    tokenizer = Tokenizer(how)
    text = tokenizer.prepared(message)
    found = tokenizer.sentences(message)
    expression = pattern(text.isascii(), how.numbers == "class")
    rest = expression.sub(" ", text)
    assert not any(c.isalnum() for c in rest)
    assert re.search(EMOJI, rest) is None
    # Commas may stand between plain words of one match.
    tokens = [
        part
        for match in expression.finditer(text)
        if match.lastgroup not in ("end", "line", "tag")
        for part in (
            match[0].replace(",", " ").split()
            if match.lastgroup == "words"
            else ["".join(match[0].split())]
        )
    ]
    assert len("".join(text.split())) == sum(map(len, tokens)) + tokenizer.signs.total()
    assert len(tokens) == sum(map(len, found)) + tokenizer.dropped.total()


@given(st.lists(ASCII_PIECES, max_size=12).map("".join), HOW)
def test_the_ascii_shortcut_changes_nothing(message: str, how: Tokenization) -> None:
    with_umlaut = words(message + " \n ü", how)
    assert with_umlaut == [*words(message, how), "ü"]


@given(st.integers(0, 500), st.integers(1, 40))
def test_pieces_are_full_but_the_last(length: int, most: int) -> None:
    found = list(pieces(length, most))
    assert sum(found) == length
    assert all(piece == most for piece in found[:-1])
    assert all(0 < piece <= most for piece in found[-1:])


def test_vocabulary_ranks_by_frequency_then_alphabet() -> None:
    found = Vocabulary.choose(
        ["b", "c", "a", "rare", "never", NUMBER], np.array([2, 5, 2, 1, 0, 9]), len(SPECIALS) + 3
    )
    assert found.words == [*SPECIALS, "c", "a", "b"]
    assert len(found) == len(SPECIALS) + 3
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    ids = found.encode(["a", "rare", "c"])
    assert ids.dtype == np.int32
    first = len(SPECIALS)
    assert ids.tolist() == [first + 1, UNK, first]
    assert found.decode(ids) == "a <unk> c"
    assert "b" in found
    assert "never" not in found


def test_vocabulary_holds_only_words_that_occur() -> None:
    found = Vocabulary.choose(["x", "y"], np.array([1, 0]), 100)
    assert found.words[len(SPECIALS) :] == ["x"]


def test_older_runs_have_fewer_special_words() -> None:
    assert specials_of([*SPECIALS, "i", "you"]) == len(SPECIALS)
    assert specials_of(["<pad>", "<bos>", "<eos>", "<unk>", "i", "<number>"]) == 4


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
