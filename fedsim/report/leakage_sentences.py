"""Sentences that came out of a model, masked so that a report gives nobody's text away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedsim.data.vocabulary import specials_of
from fedsim.errors import FedsimError
from fedsim.leakage.canaries import drawn
from fedsim.report.formats import count
from fedsim.runs import Run

MOST = 30  # sentences of a list
SHORTEST = 3  # letters of a word whose first one may be seen: of "i" or "a" nothing would be hidden
UNMASKED = (
    "This list shows what people really typed, unmasked because it was asked for: do not pass "
    "this page on."
)


@dataclass(frozen=True)
class Sentences:
    """A list for the page. rows: text, whether it is a canary, and a cell for each of `heads`."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[dict[str, Any]]
    warning: str
    masked: bool  # whether people's words are


def masked(text: str) -> str:
    """First letters and lengths: "hello are you" as "h____ a__ y__"."""
    return " ".join(_hidden(word) for word in text.split())


def _hidden(word: str) -> str:
    shown = word[0] if len(word) >= SHORTEST and word[:2].isalpha() and word.isprintable() else "_"
    return shown + "_" * (len(word) - 1)


def canaries_of(run: Run) -> set[str]:
    """The word ids of the run's canaries, joined by spaces: they follow from its config alone."""
    try:
        table = run.vocabulary()
        words = drawn(run.config.canaries, len(table), run.config.seed, specials_of(table))
    except FedsimError:
        return set()
    return {" ".join(map(str, row)) for row in words}


def sentences_of(run: Run, measure: str, unmask: bool) -> Sentences | None:
    """What a measure got out of the model, in words; None where nothing did or it is not known."""
    if measure not in LISTS:
        return None
    name, columns, shaped = LISTS[measure]
    table = run.detail(measure, name)
    if table is None or not columns <= set(table.columns) or table.empty:
        return None
    try:
        return shaped(table, run, unmask)
    except (TypeError, ValueError, IndexError):
        return None  # columns of another kind: damaged, or of another build


def _listed(
    caption: str, heads: Sequence[str], rows: Sequence[dict[str, Any]], unmask: bool
) -> Sentences | None:
    real = any(not row["canary"] for row in rows)
    warning = UNMASKED if unmask and real else ""
    return Sentences(caption, heads, rows, warning, real and not unmask) if rows else None


def _shown(text: str, canary: bool, unmask: bool) -> str:
    return text if canary or unmask else masked(text)


def _found(table: pd.DataFrame, run: Run, unmask: bool) -> Sentences | None:
    """Of `memorisation` and `generation`: canaries first, then those of the fewest users."""
    canaries = canaries_of(run)
    asked = "prefix_words" in table.columns
    table = table.assign(canary=[str(ids) in canaries for ids in table["ids"]])
    different = table.drop_duplicates("ids")
    different = different.sort_values("canary", ascending=False, kind="stable")
    rows = [
        {
            "text": _shown(str(row["words"]), row["canary"], unmask),
            "canary": row["canary"],
            "cells": [len(str(row["words"]).split()), int(row["users"]), int(row["repeats"])]
            + ([int(row["prefix_words"]), "yes" if row["predictable"] else "no"] if asked else []),
        }
        for _, row in different.head(MOST).iterrows()
    ]
    heads = ["words", "users who hold it", "times in their text"]
    if asked:
        heads += ["words typed", "a trigram of other people gives it too"]
    alone = int(((different["users"] == 1) & ~different["only_canary_users"]).sum())
    caption = (
        f"{count(len(different), 'different sentence')} came out, of which {alone:,} "
        f"{'is' if alone == 1 else 'are'} of one real user alone"
    )
    return _listed(caption, heads, rows, unmask)


def _read(table: pd.DataFrame, run: Run, unmask: bool) -> Sentences | None:
    """Of `updates`: sentences that the server has word for word, each once."""
    canary = False  # members whose updates are attacked are real people
    read = table[table["exact"].astype(bool)]
    different = read.drop_duplicates(["user", "text"])
    rows = [
        {
            "text": _shown(str(row.text), canary, unmask),
            "canary": canary,
            "cells": [len(str(row.text).split())],
        }
        for row in different.head(MOST).itertuples()
    ]
    users = count(different["user"].nunique(), "user")
    caption = f"{count(len(different), 'sentence')} of {users} that the server read word for word"
    return _listed(caption, ["words"], rows, unmask)


def _planted(table: pd.DataFrame, run: Run, unmask: bool) -> Sentences | None:
    """Of `canaries`: those that greedy decoding completes, the most exposed first."""
    words = run.vocabulary()
    out = table[(table["kind"] == "planted") & table["greedy"].astype(bool)]
    out = out.sort_values(["exposure_bits", "canary"], ascending=[False, True])
    rows = [
        {
            "text": " ".join(words[int(i)] for i in str(row.words).split()),
            "canary": True,
            "cells": [int(row.users), int(row.repeats), f"{float(row.exposure_bits):.2f} bits"],
        }
        for row in out.head(MOST).itertuples()
    ]
    caption = f"{count(len(out), 'canary', 'canaries')} that the model completes"
    return _listed(caption, ["held by users", "copies each", "exposure"], rows, unmask)


# Measure -> the detail that holds its sentences, the columns needed of it, and how they are shown.
_FOUND = {"words", "ids", "users", "repeats", "only_canary_users"}
LISTS: dict[
    str, tuple[str, set[str], Callable[[pd.DataFrame, Run, bool], Sentences | None]]
] = {
    "memorisation": ("extracted_sentences", _FOUND | {"prefix_words", "predictable"}, _found),
    "generation": ("generated_sentences", _FOUND, _found),
    "updates": ("sentences", {"user", "text", "exact"}, _read),
    "canaries": (
        "canaries",
        {"kind", "greedy", "exposure_bits", "canary", "words", "users", "repeats"},
        _planted,
    ),
}  # fmt: skip
