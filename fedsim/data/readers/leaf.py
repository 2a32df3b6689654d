"""LEAF's JSON (Caldas et al. 2018) of its three sets of text: shakespeare, sent140, reddit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedsim.data.drops import Dropped
from fedsim.data.readers.base import READERS, Began, Reader, Row, check_text, check_user
from fedsim.data.readers.json_text import load_json
from fedsim.data.readers.windows import joined
from fedsim.errors import FedsimError

_TWEET = 4  # sent140 rows: id, date, query, user, text, training or test
# LEAF's preprocessing leaves the same text in each of these folders.
_STAGES = ({"all_data"}, {"sampled_data"}, {"rem_user_data"}, {"train", "test", "val"})


@READERS.register("leaf")
class Leaf(Reader):
    """`{users, num_samples, user_data: {user: {x, y}}}`; what x holds says which set it is.

    shakespeare: windows of 80 characters and the next one, put together to the user's text again.
    sent140: rows with a tweet. reddit: comments as token sequences with <BOS>, <EOS> and <PAD>.
    """

    def takes(self, file: Path) -> bool:
        """JSON files."""
        return super().takes(file) and file.suffix.lower() == ".json"

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(user, text) in the order of the list of users."""
        _one_stage(files)
        for file in files:
            yield Began(file)
            for user, x, y, counted in _users(file):
                place = f"{file}, user '{user}'"
                texts, missing = _texts(x, y, place)
                if not 0 <= counted - len(y) <= missing:
                    raise FedsimError(
                        f"{place}: has {len(y):,} samples where num_samples says {counted:,}: "
                        "get or preprocess the file again."
                    )
                for text in texts:
                    yield (user, check_text(text, place)) if text else Dropped("without text", user)


def _one_stage(files: Sequence[Path]) -> None:
    """FedsimError where a folder of all stages was given, which would read all text repeatedly."""
    parents = {file.parent for file in files}
    for folder in {parent.parent for parent in parents}:
        names = {parent.name for parent in parents if parent.parent == folder}
        found = [sorted(stage & names)[0] for stage in _STAGES if stage & names]
        if len(found) > 1:
            raise FedsimError(
                f"{folder}: holds the same text in the folders {', '.join(found)}: "
                "give one of them, or one with train and test alone."
            )


def _users(file: Path) -> Iterator[tuple[str, list[Any], list[Any], int]]:
    """(name, x, y, number of samples) of each user, after the checks that need no look at x."""
    cure = "give a JSON file as LEAF's preprocess.sh writes it."
    content = load_json(file)
    kinds = {"users": list, "num_samples": list, "user_data": dict}
    for key, kind in kinds.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise FedsimError(f"{file}: has no {kind.__name__} '{key}' at the top: {cure}")
    users, counts, data = (content[key] for key in kinds)
    if len(users) != len(counts):
        raise FedsimError(
            f"{file}: lists {len(users):,} users and {len(counts):,} num_samples: {cure}"
        )
    seen: set[str] = set()
    for number, (user, count) in enumerate(zip(users, counts, strict=True), 1):
        name = check_user(user, f"{file}, users, entry {number}")
        place = f"{file}, user '{name}'"
        if name in seen:
            raise FedsimError(f"{place}: is listed twice: {cure}")
        seen.add(name)
        if name not in data:
            raise FedsimError(f"{place}: is listed and has no user_data: {cure}")
        if not isinstance(count, int):
            raise FedsimError(f"{place}: its num_samples is no whole number: {cure}")
        yield name, *_samples(data[name], place, cure), count
    for name in data:
        # LEAF's split leaves users of a single sample in, with nothing in them.
        if name not in seen and _samples(data[name], f"{file}, user '{name[:60]}'", cure)[0]:
            raise FedsimError(
                f"{file}, user '{name[:60]}': has user_data and is not listed: {cure}"
            )


def _samples(data: Any, place: str, cure: str) -> tuple[list[Any], list[Any]]:
    x, y = (data.get("x"), data.get("y")) if isinstance(data, dict) else (None, None)
    if not isinstance(x, list) or not isinstance(y, list):
        raise FedsimError(f"{place}: has no lists x and y: {cure}")
    if len(x) != len(y):
        raise FedsimError(f"{place}: has {len(x):,} x and {len(y):,} y: {cure}")
    return x, y


def _texts(x: list[Any], y: list[Any], place: str) -> tuple[list[str], float]:
    """The user's texts, and how many samples LEAF may count that are not in the file."""
    if not x:
        return [], float("inf")  # somebody whose few comments are all in another part
    if all(isinstance(one, str) for one in (*x, *y)) and all(len(one) == 1 for one in y):
        # The test part is counted before its first windows, which overlap train, are dropped.
        return joined(list(zip(x, y, strict=True))), max(map(len, x)) - 1
    if all(isinstance(row, list) and _is_tweet(row) for row in x):
        return [row[_TWEET] for row in x], 0
    if all(isinstance(sequences, list) and all(map(_is_tokens, sequences)) for sequences in x):
        # Train, val and test each carry the count of all three.
        return [_comment(sequences) for sequences in x], float("inf")
    raise FedsimError(
        f"{place}: its x is none of LEAF's texts (strings with the next character, rows with a "
        "tweet, lists of tokens): give shakespeare, sent140 or reddit."
    )


def _is_tweet(row: list[Any]) -> bool:
    return len(row) > _TWEET and all(isinstance(cell, str) for cell in row[: _TWEET + 1])


def _is_tokens(sequence: Any) -> bool:
    return isinstance(sequence, list) and all(isinstance(token, str) for token in sequence)


def _comment(sequences: list[list[str]]) -> str:
    """The comment's tokens with spaces between; what LEAF put around them is taken off."""
    tokens = [token for sequence in sequences for token in sequence]
    if tokens[:1] == ["<BOS>"]:
        del tokens[0]
    while tokens[-1:] == ["<PAD>"]:
        del tokens[-1]
    if tokens[-1:] == ["<EOS>"]:
        del tokens[-1]
    return " ".join(tokens)
