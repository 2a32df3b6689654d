"""From a stream of messages to cleaned sentences of known users, with an account of the rest."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from fedsim.data.drops import Drops
from fedsim.data.recipes import Cleaning
from fedsim.data.text import Tokenizer, pieces

# "ha ha" and "no no no" are typing; one word four times over is filler (measured on chitchat).
_REPEATS = 4


@dataclass
class Collected:
    """Cleaned sentences in the order of reading, with provisional word ids.

    tokens, lengths, users: word ids end to end, the length and the user of each sentence.
    rows: how many rows of each user have become sentences.
    """

    names: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    tokens: array = field(default_factory=lambda: array("i"))
    lengths: array = field(default_factory=lambda: array("i"))
    users: array = field(default_factory=lambda: array("i"))
    rows: array = field(default_factory=lambda: array("q"))


def collect(
    messages: Iterable[tuple[str, str]],
    cleaning: Cleaning,
    tokenizer: Tokenizer,
    max_words: int,
    drops: Drops,
) -> Collected:
    """Clean the messages, cut them into sentences of at most `max_words`, cap each user's words.

    Counts in `drops` what was read and what of it is dropped here.
    """
    out = Collected()
    user_ids: dict[str, int] = {}
    word_ids: dict[str, int] = defaultdict(count().__next__)
    used: list[int] = []
    excluded = dict.fromkeys(cleaning.drop_users, 0)
    seen: set[bytes] = set()
    most, rows, beyond_cap = cleaning.cap_words, 0, 0
    for user, text in messages:
        rows += 1
        if user in excluded:
            excluded[user] += 1
            continue
        number = user_ids.setdefault(user, len(user_ids))
        if number == len(used):
            used.append(0)
            out.rows.append(0)
        if used[number] >= most:
            beyond_cap += 1
            continue
        if cleaning.deduplicate and not _is_new(seen, number, text):
            drops.rows.drop("repeated by the same user")
            continue
        said = tokenizer.sentences(text)
        total = sum(map(len, said))
        drops.words.read += total
        if not total:
            drops.rows.drop("without a word")
        elif cleaning.drop_repeated_token and _is_filler(said, total):
            drops.rows.drop("of one word over and over")
            drops.words.drop("of one word over and over", total)
        else:
            kept = min(total, most - used[number])
            _append(out, number, said, kept, max_words, word_ids)
            drops.words.drop(beyond(cleaning), total - kept)
            used[number] += kept
    out.names, out.words = list(user_ids), list(word_ids)
    drops.rows.read += rows
    drops.rows.drop(beyond(cleaning), beyond_cap)
    _account(out, excluded, tokenizer, drops)
    return out


def _append(
    out: Collected,
    user: int,
    said: list[list[str]],
    room: int,
    max_words: int,
    word_ids: dict[str, int],
) -> None:
    """Append the first `room` words of a message."""
    out.rows[user] += 1
    for sentence in said:
        if len(sentence) > room:
            sentence = sentence[:room]
        room -= len(sentence)
        out.tokens.extend(map(word_ids.__getitem__, sentence))
        for length in pieces(len(sentence), max_words):
            out.lengths.append(length)
            out.users.append(user)


def beyond(cleaning: Cleaning) -> str:
    """Why text after the cap is dropped."""
    return f"after a user's first {cleaning.cap_words:,} words (cap_words)"


def _account(
    found: Collected, excluded: dict[str, int], tokenizer: Tokenizer, drops: Drops
) -> None:
    named = {user for user, rows in excluded.items() if rows}
    drops.rows.drop("of users who are left out by name (drop_users)", sum(excluded.values()))
    drops.users.drop("left out by name (drop_users)", len(named))
    drops.users.read = len({*found.names, *named, *drops.silent})
    silent = drops.users.read - len(named) - len(found.names)
    drops.users.drop("without any text", silent)
    drops.sentences.read = len(found.lengths)
    drops.words.read += tokenizer.dropped.total()
    drops.words.dropped += tokenizer.dropped
    drops.signs += tokenizer.signs
    drops.changed += tokenizer.changed


def _is_new(seen: set[bytes], user: int, text: str) -> bool:
    mark = hashlib.blake2b(f"{user} {text}".encode("utf-8", "replace"), digest_size=12).digest()
    if mark in seen:
        return False
    seen.add(mark)
    return True


def _is_filler(said: list[list[str]], total: int) -> bool:
    return total >= _REPEATS and len({word for sentence in said for word in sentence}) == 1
