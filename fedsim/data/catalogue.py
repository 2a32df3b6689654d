"""What data sets there are, what state they are in, and what a corpus looks like in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim.data.hub import folder_of
from fedsim.data.options import DataOptions
from fedsim.data.recipes import load_recipe, recipe_names
from fedsim.data.sources import cache_folder, find_files
from fedsim.data.splitting import PARTS
from fedsim.data.storage import META
from fedsim.data.store import Corpus, choose, is_corpus, plan
from fedsim.data.vocabulary import UNK
from fedsim.errors import FedsimError
from fedsim.seeding import stream

_BLOCK = 1 << 24


@dataclass(frozen=True)
class Entry:
    """One data set; counts are those that its recipe expects, None where it cannot know.

    state: "cached" (built), "ready" (the source is here), "missing", "own" (needs a path) or
    "broken"; note: the sentence that says what to do, or "".
    """

    name: str
    title: str
    licence: str
    users: int | None
    words: int | None
    state: str
    note: str


def entries() -> list[Entry]:
    """All data sets that come with fedsim, by name."""
    return [_entry(name) for name in recipe_names()]


def _entry(name: str) -> Entry:
    try:
        recipe = load_recipe(name)
    except FedsimError as error:
        return Entry(name, "", "", None, None, "broken", str(error))
    expected = recipe.expected
    users = expected.users if expected else None
    words = expected.words if expected else None
    state, note = "ready", ""
    if recipe.source.kind == "own":
        state, note = "own", f"Give data.path: {recipe.source.get or 'the path of your file'}."
    elif recipe.source.kind == "hub" and not folder_of(recipe.source, cache_folder()).is_dir():
        state, note = "missing", "Is fetched from the Hugging Face hub when it is used first."
    else:
        try:
            folder, _ = plan(recipe, DataOptions(name=name))
            state = "cached" if (folder / META).is_file() else "ready"
        except FedsimError as error:
            state, note = "missing", str(error)
    return Entry(name, recipe.title, recipe.licence, users, words, state, note)


def origin(options: DataOptions) -> dict[str, Any] | None:
    """What the user's own files were recognized as, plain values; None where there was no choice.

    read_as, why: the data set, and what showed it; files: how many are read; left_out: the names
    of those that are something else.
    """
    recipe = load_recipe(options.name)
    if not recipe.source.recognize or is_corpus(options):
        return None
    choice = choose(find_files(recipe, options.path), options)
    return {
        "read_as": choice.found.recipe,
        "why": choice.found.why,
        "files": len(choice.files),
        "left_out": [file.name for file in choice.left_out],
    }


def statistics(corpus: Corpus) -> dict[str, Any]:
    """The corpus in numbers, plain values: counts by split, spread over users, OOV rates."""
    words = corpus.words_per_user()
    deciles = np.quantile(words, np.arange(11) / 10, method="nearest")
    return {
        "name": corpus.name,
        "title": corpus.title,
        "licence": corpus.licence,
        "citation": corpus.citation,
        "homepage": corpus.homepage,
        "digest": corpus.digest,
        **corpus.counts,
        "split": {part: corpus.split_counts(part) for part in PARTS},
        "words_per_user_deciles": [int(value) for value in deciles],
        "account": corpus.account,
        "out_of_vocabulary": {part: _oov(corpus.split_tokens(part)) for part in PARTS},
    }


def _oov(tokens: np.ndarray) -> float:
    """The share of words that the vocabulary does not have; 0 for no words."""
    unknown = sum(
        int(np.count_nonzero(tokens[first : first + _BLOCK] == UNK))
        for first in range(0, len(tokens), _BLOCK)
    )
    return unknown / max(1, len(tokens))


def sample_sentences(corpus: Corpus, count: int, seed: int = 0) -> list[str]:
    """Sentences of different training users, drawn by `seed`, as the model sees them."""
    users = corpus.split("train")
    draw = stream(seed, "sample sentences")
    chosen = draw.choice(len(users), min(count, len(users)), replace=False)
    out = []
    for user in chosen:
        mine = corpus.sequences(users[int(user)])
        out.append(corpus.vocabulary.decode(mine.take([int(draw.integers(len(mine)))]).tokens))
    return out
