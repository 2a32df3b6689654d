"""A small federation in files, and a plain-Python reading of what the store should hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from fedsim.data.text import words

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FEDSIM_DATA") or ROOT.parent / "shared" / "data")

needs_data = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the corpora are not at {DATA} (FEDSIM_DATA)"),
]


def write_jsonl(file: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """Rows of (user, text) as the table reader takes them."""
    file.write_text("".join(json.dumps({"user": u, "text": t}) + "\n" for u, t in rows), "utf-8")
    return file


def people(count: int = 20, messages: int = 12) -> list[tuple[str, str]]:
    """(user, text) rows of `count` users who take turns; every user has words of their own."""
    return [
        (f"person{user}", f"hello number {turn} from own{user} it's word{user * turn % 17} here")
        for turn in range(messages)
        for user in range(count)
    ]


def naive_sentences(
    rows: Iterable[tuple[str, str]], max_words: int, cap: int, minimum: int
) -> dict[str, list[list[str]]]:
    """What each kept user's sentences are, written as plainly as possible."""
    text: dict[str, list[list[str]]] = {}
    for user, message in rows:
        text.setdefault(user, []).append(words(message))
    out = {}
    for user, messages in text.items():
        room, sentences = cap, []
        for message in messages:
            kept = message[:room]
            room -= len(kept)
            sentences += [kept[i : i + max_words] for i in range(0, len(kept), max_words)]
        if sum(map(len, sentences)) >= minimum:
            out[user] = sentences
    return out
