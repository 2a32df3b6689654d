"""From a stream of messages to cleaned sentences of known users, with an account of the rest."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from fedsim.data.drops import Drops
from fedsim.data.recipes import Cleaning
from fedsim.data.text import pieces, words

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
    messages: Iterable[tuple[str, str]], cleaning: Cleaning, max_words: int, drops: Drops
) -> Collected:
    """Clean the messages, cap each user's words and cut long messages into sentences.

    Counts in `drops` what was read and what of it is dropped here.
    """
    out = Collected()
    user_ids: dict[str, int] = {}
    word_ids: dict[str, int] = {}
    used: list[int] = []
    excluded = dict.fromkeys(cleaning.drop_users, 0)
    seen: set[bytes] = set()
    for user, text in messages:
        drops.rows.read += 1
        if user in excluded:
            excluded[user] += 1
            continue
        number = user_ids.setdefault(user, len(user_ids))
        if number == len(used):
            used.append(0)
            out.rows.append(0)
        room = cleaning.cap_words - used[number]
        if room <= 0:
            drops.rows.drop(beyond(cleaning))
            continue
        if cleaning.deduplicate and not _is_new(seen, number, text):
            drops.rows.drop("repeated by the same user")
            continue
        message = words(text)
        drops.words.read += len(message)
        if cleaning.drop_repeated_token and _is_filler(message):
            drops.rows.drop("of one word over and over")
            drops.words.drop("of one word over and over", len(message))
            continue
        if not message:
            drops.rows.drop("without a word")
            continue
        drops.words.drop(beyond(cleaning), max(0, len(message) - room))
        message = message[:room]
        used[number] += len(message)
        out.rows[number] += 1
        out.tokens.extend([word_ids.setdefault(word, len(word_ids)) for word in message])
        for length in pieces(len(message), max_words):
            out.lengths.append(length)
            out.users.append(number)
    out.names, out.words = list(user_ids), list(word_ids)
    _account_users(out, excluded, drops)
    return out


def beyond(cleaning: Cleaning) -> str:
    """Why text after the cap is dropped."""
    return f"after a user's first {cleaning.cap_words:,} words (cap_words)"


def _account_users(found: Collected, excluded: dict[str, int], drops: Drops) -> None:
    named = {user for user, rows in excluded.items() if rows}
    drops.rows.drop("of users who are left out by name (drop_users)", sum(excluded.values()))
    drops.users.drop("left out by name (drop_users)", len(named))
    drops.users.read = len({*found.names, *named, *drops.silent})
    silent = drops.users.read - len(named) - len(found.names)
    drops.users.drop("without any text", silent)
    drops.sentences.read = len(found.lengths)


def _is_new(seen: set[bytes], user: int, text: str) -> bool:
    mark = hashlib.blake2b(f"{user} {text}".encode("utf-8", "replace"), digest_size=12).digest()
    if mark in seen:
        return False
    seen.add(mark)
    return True


def _is_filler(message: list[str]) -> bool:
    return len(message) >= _REPEATS and len(set(message)) == 1
