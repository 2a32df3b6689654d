"""Opening a corpus: from the cache if it is sound, built from the source if not."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.data import synthetic
from fedsim.data.build import build
from fedsim.data.drops import Drops
from fedsim.data.options import TEXT_OPTIONS, DataOptions
from fedsim.data.readers import READERS, Reader
from fedsim.data.readers.columns import folder_values
from fedsim.data.readers.names import tidied
from fedsim.data.readers.packed import bare_suffix
from fedsim.data.recipes import Cleaning, Recipe, load_recipe
from fedsim.data.recognize import OWN, Choice, chosen
from fedsim.data.segment import segmented
from fedsim.data.sequences import Sequences
from fedsim.data.sources import cache_folder, content_digest, find_files
from fedsim.data.splitting import PARTS
from fedsim.data.storage import (
    FORMAT,
    META,
    Damaged,
    drafted,
    forget_pages,
    load_array,
    load_names,
    load_vocabulary,
    read_meta,
)
from fedsim.data.vocabulary import Vocabulary
from fedsim.data.watch import Watch
from fedsim.errors import FedsimError
from fedsim.paths import expanded
from fedsim.registry import nearest

__all__ = ["Corpus", "Sequences", "Vocabulary", "open_corpus"]

ALL_WORDS = 2**31 - 1  # as many as a word id can name
_CLEANING = (
    "cap_words",
    "min_words",
    "word_users",
    "deduplicate",
    "drop_users",
)  # of a recipe, which options may change
_READERS = 2  # raised where readers make other text of the same files, so that it is read again
_RELEASE = ("vocabulary_noise", "vocabulary_words", "vocabulary_delta", "vocabulary_seed")
# Options that decide how a file is read, and what the readers call them.
_READING = {"user_column": "user", "text_column": "text", "encoding": "encoding",
            "quoting": "quoting"}  # fmt: skip
_log = logging.getLogger(__name__)


class Corpus:
    """Users and their sentences, memory-mapped and read-only; users are ordered by split.

    A user is a number in `range(corpus.users)`. The parts of a user's text are "train" (without
    the held-out tail), "heldout" (the last tenth of a training user's sentences, empty for the
    others) and "all". Words are counted without BOS and EOS, which are not stored.
    """

    def __init__(self, folder: Path) -> None:
        """Map the corpus in `folder`; raises `storage.Damaged` where it is not sound."""
        about = read_meta(folder)
        self.folder = folder.resolve()
        self.name: str = about["name"]
        self.title: str = about["title"]
        self.licence: str = about["licence"]
        self.citation: str = about["citation"]
        self.homepage: str = about["homepage"]
        # A shard is known by the corpus that it is a part of: nodes and server compare it.
        self.shard: dict[str, Any] | None = about.get("shard")
        self.digest: str = self.shard["corpus"] if self.shard else about["digest"]
        self.counts: dict[str, int] = about["counts"]
        # How a private vocabulary was chosen, see `fedsim.data.private_vocabulary.Release.about`.
        self.vocabulary_release: dict[str, Any] | None = about.get("vocabulary_release")
        # What was read and what of it was dropped (`data.drops`); None where nothing was read.
        self.account: dict[str, Any] | None = about.get("account")
        self.users: int = self.counts["users"]
        self.vocabulary: Vocabulary = load_vocabulary(folder)
        self._split: dict[str, int] = about["split"]
        self._tokens = load_array(folder, "tokens")
        self._sentences = load_array(folder, "sentence_offsets")
        self._users = load_array(folder, "user_offsets")
        self._heldout = load_array(folder, "heldout_start")
        self._name_offsets = load_array(folder, "name_offsets")
        self._names = load_names(folder)

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path]]:
        return Corpus, (self.folder,)  # a worker maps the files again instead of copying them

    def split(self, name: str) -> range:
        """The users of "train", "validation", "donors" or "test"."""
        if name not in PARTS:
            raise FedsimError(f"There is no split '{name}': {nearest(name, PARTS)}")
        start = sum(self._split[part] for part in PARTS[: PARTS.index(name)])
        return range(start, start + self._split[name])

    @property
    def split_sizes(self) -> dict[str, int]:
        """Number of users of each split."""
        return dict(self._split)

    @cached_property
    def hosted(self) -> np.ndarray:
        """Whether the text of each user is here, bool (users,); False only in a shard."""
        return np.diff(self._users) > 0

    def split_counts(self, name: str) -> dict[str, int]:
        """Number of users, sentences and words of a split, without touching the text."""
        users, first, last = self._split_bounds(name)
        words = int(self._sentences[last] - self._sentences[first])
        return {"users": len(users), "sentences": last - first, "words": words}

    def split_tokens(self, name: str) -> np.ndarray:
        """All words of a split's users in one run, int32 (words,); a view of the file."""
        _, first, last = self._split_bounds(name)
        return self._tokens[self._sentences[first] : self._sentences[last]]

    def split_sequences(self, name: str) -> Sequences:
        """All sentences of a split's users; the tokens are a view of the file."""
        _, first, last = self._split_bounds(name)
        return self._between(first, last)

    def words_per_user(self) -> np.ndarray:
        """Number of words of every user, int64 (users,)."""
        return np.diff(self._sentences[self._users])

    def sequences(self, user: int, part: str = "train") -> Sequences:
        """The user's sentences; the tokens are a view of the file."""
        return self._between(*self._bounds(user, part))

    def sentence_count(self, user: int, part: str = "train") -> int:
        """Number of the user's sentences, without touching the text."""
        first, last = self._bounds(user, part)
        return last - first

    def token_count(self, user: int, part: str = "train") -> int:
        """Number of the user's words, without touching the text."""
        first, last = self._bounds(user, part)
        return int(self._sentences[last] - self._sentences[first])

    def sizes(self, users: np.ndarray, part: str = "train") -> np.ndarray:
        """(sentences, words) of many users, int64 (len(users), 2), without touching the text."""
        if len(users) and not 0 <= users.min() <= users.max() < self.users:
            raise IndexError(f"users are not in range({self.users})")
        first = (self._heldout if part == "heldout" else self._users)[users]
        last = self._heldout[users] if part == "train" else self._users[users + 1]
        words = self._sentences[last] - self._sentences[first]
        return np.stack([last - first, words], axis=1)

    def user_name(self, user: int) -> str:
        """Who the user is in the source."""
        start, end = self._name_offsets[self._checked(user) : user + 2]
        return self._names[start:end].tobytes().decode()

    def forget_pages(self) -> None:
        """Keep nothing of the text that was read in this process's memory."""
        forget_pages([self._tokens, self._sentences, self._users, self._heldout])

    def _between(self, first: int, last: int) -> Sequences:
        offsets = self._sentences[first : last + 1]
        start = offsets[0]
        return Sequences(self._tokens[start : offsets[-1]], offsets - start)

    def _split_bounds(self, name: str) -> tuple[range, int, int]:
        """The users of a split, its first and its past-the-last sentence."""
        users = self.split(name)
        return users, int(self._users[users.start]), int(self._users[users.stop])

    def _checked(self, user: int) -> int:
        # A negative index would silently be another user.
        if not 0 <= user < self.users:
            raise IndexError(f"user {user} is not in range({self.users})")
        return user

    def _bounds(self, user: int, part: str) -> tuple[int, int]:
        """First and past-the-last sentence of a part."""
        self._checked(user)
        if part == "train":
            return int(self._users[user]), int(self._heldout[user])
        if part == "heldout":
            return int(self._heldout[user]), int(self._users[user + 1])
        if part == "all":
            return int(self._users[user]), int(self._users[user + 1])
        raise FedsimError(f"There is no part '{part}': choose train, heldout or all.")


def open_corpus(options: DataOptions) -> Corpus:
    """The corpus that `options` ask for; the first time it is built into the cache.

    A cached corpus that is damaged or of another format version is built again. Raises
    FedsimError for an unknown data set, a missing corpus, broken input or effect-less options.
    """
    if is_corpus(options):
        return _open_directory(options)
    recipe = load_recipe(options.name)
    folder, make = plan(recipe, options)
    try:
        return Corpus(folder)
    except Damaged as damage:
        if folder.exists():
            _log.warning("The cached corpus %s is built again: %s.", folder, damage)
    _build_into(folder, make)
    return Corpus(folder)


def open_with_all_words(options: DataOptions) -> Corpus:
    """`open_corpus` with every word in the vocabulary; a corpus that is generated or finished
    keeps the vocabulary that it has."""
    if is_corpus(options) or load_recipe(options.name).generated is not None:
        return open_corpus(options)
    return open_corpus(options.model_copy(update={"vocabulary": ALL_WORDS}))


def open_folder(folder: Path) -> Corpus:
    """The corpus or shard in `folder`; FedsimError where it is not sound."""
    try:
        return Corpus(folder)
    except Damaged as damage:
        raise FedsimError(
            f"{folder}: this corpus cannot be used because {damage}: write it again."
        ) from damage


def plan(recipe: Recipe, options: DataOptions) -> tuple[Path, Callable[[Path], None]]:
    """Where the corpus belongs in the cache, and the function that writes it into a folder."""
    files = find_files(recipe, options.path)
    found: dict[str, Any] = {}
    if recipe.source.recognize:
        choice = choose(files, options)
        files, found = choice.files, choice.found.options
        recipe = load_recipe(choice.found.recipe) if choice.found.recipe != OWN else recipe
    made: dict[str, Any] = {"max_words": options.max_words, "vocabulary": options.vocabulary}
    make: Callable[[Path], None]
    if recipe.generated is not None:
        _refuse_reading(recipe, options)
        make = partial(synthetic.write, recipe=recipe, **made)
    else:
        reader = _reader(recipe, options, found)
        asked = tuple(tidied(name)[0] for name in options.drop_users or ())
        cleaning = _cleaning(recipe, options, asked)
        made |= {"reader": reader.model_dump(mode="json"), "cleaning": cleaning.model_dump()}
        made |= {"segment": options.segment, "text": asdict(options.text)}
        if options.release is not None:
            made["release"] = {key: getattr(options, key) for key in _RELEASE}

        def make(folder: Path) -> None:
            drops = Drops()
            how = options.segment
            watch = Watch(asked, cleaning.drop_users, cleaning.deduplicate, drops.hints)
            build(
                folder,
                segmented(watch.over(reader.read(files, drops, watch.began)), how, drops),
                recipe,
                cleaning,
                options.text,
                options.max_words,
                options.vocabulary,
                drops,
                options.release,
            )

    # The ending chooses the format of a table, and a folder may be called user=ann.
    names = [[bare_suffix(file), folder_values(file)] for file in files]
    key = [FORMAT, _READERS, content_digest(files), names, recipe.key(), made]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "corpora" / f"{recipe.name}-{digest[:20]}", make


def _cleaning(recipe: Recipe, options: DataOptions, asked: tuple[str, ...]) -> Cleaning:
    """The recipe's cleaning as the user's options alter it; asked: users to be left out."""
    changes = {key: getattr(options, key) for key in _CLEANING}
    changes["drop_users"] = (*recipe.cleaning.drop_users, *asked)
    cleaning = recipe.cleaning.model_copy(
        update={key: value for key, value in changes.items() if value is not None}
    )
    if cleaning.cap_words < cleaning.min_words:
        raise FedsimError(
            f"data.cap_words={cleaning.cap_words} is below data.min_words="
            f"{cleaning.min_words}, which would drop every user: raise it or lower the other."
        )
    return cleaning


def choose(files: Sequence[Path], options: DataOptions) -> Choice:
    """What the user's files are, as the data set `own` finds it by looking at them."""
    return chosen(files, options.user_column, options.text_column, options.encoding)


def _reader(recipe: Recipe, options: DataOptions, found: dict[str, Any]) -> Reader:
    """The recipe's reader as what was found in the file and the user's options alter it."""
    return recipe.make_reader(**(found | _reading(recipe, options)))


def _reading(recipe: Recipe, options: DataOptions) -> dict[str, str]:
    """The reader's options that the user changed."""
    changed = {}
    has = READERS[recipe.reader["name"]].model_fields
    for option, key in _READING.items():
        value = getattr(options, option)
        if value != DataOptions.model_fields[option].default:
            if key not in has:
                raise FedsimError(
                    f"data.{option}='{value}' has no effect with the data set '{recipe.name}': "
                    "its format has no such choice."
                )
            changed[key] = value
    return changed


def _refuse_reading(recipe: Recipe, options: DataOptions) -> None:
    for key in (*_CLEANING, *TEXT_OPTIONS, "segment", _RELEASE[0]):
        if getattr(options, key) != DataOptions.model_fields[key].default:
            raise FedsimError(
                f"data.{key} has no effect with the generated data set '{recipe.name}': "
                "leave it out."
            )


def is_corpus(options: DataOptions) -> bool:
    """Whether the user's path is that of a corpus, or of what is left of one."""
    if not options.path:
        return False
    folder = expanded(options.path, "data.path")
    with suppress(OSError):  # a name that is too long, a folder that may not be looked into
        return (folder / META).is_file() or (folder / "tokens.npy").is_file()
    return False


def _open_directory(options: DataOptions) -> Corpus:
    """A corpus directory of the user's, as `data synth` writes it."""
    folder = Path(options.path or "").expanduser()
    if options.name != "own":
        raise FedsimError(
            f"data.path='{folder}' is a corpus already, so data.name='{options.name}' has no "
            "effect: leave out one of the two."
        )
    corpus = open_folder(folder)
    defaults = DataOptions(name="own", path=options.path)
    for key in (*_READING, "max_words", "segment", *TEXT_OPTIONS, *_CLEANING, *_RELEASE):
        if getattr(options, key) != getattr(defaults, key):
            raise FedsimError(
                f"data.{key} has no effect with the finished corpus '{folder}': leave it out."
            )
    if options.vocabulary not in (defaults.vocabulary, len(corpus.vocabulary)):
        raise FedsimError(
            f"data.vocabulary={options.vocabulary} has no effect with the finished corpus "
            f"'{folder}', which has {len(corpus.vocabulary)}: leave it out."
        )
    return corpus


def _build_into(folder: Path, make: Callable[[Path], None]) -> None:
    """Build beside `folder` and rename, so that nobody ever sees half a corpus."""
    try:
        with drafted(folder) as draft:
            make(draft)
            _install(draft, folder)
    except OSError as error:
        raise FedsimError(
            f"The corpus cannot be built in the cache {folder.parent} ({error}): "
            "free some space or set FEDSIM_CACHE to a folder that can be written."
        ) from error


def _install(draft: Path, folder: Path) -> None:
    """Put the draft in place; a sound corpus that another process put there meanwhile stays."""
    for _ in range(10):
        try:
            draft.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        try:
            read_meta(folder)
            return
        except Damaged:
            # Another process may move it first.
            with drafted(folder) as aside, suppress(FileNotFoundError):
                folder.rename(aside / "damaged")
    raise OSError(f"other processes keep replacing {folder}")
