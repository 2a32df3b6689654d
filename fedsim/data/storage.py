"""The files of a built corpus: written in blocks, sealed with checksums, checked when opened."""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedsim.data.vocabulary import SPECIALS, Vocabulary
from fedsim.files import affixes, clear_temporaries

# Raise it whenever a change of readers, words, cleaning, splitting, the synthetic generator or the
# files below changes what is built.
FORMAT = 5

ARRAYS: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype("<i4"),
    "sentence_offsets": np.dtype("<i8"),
    "user_offsets": np.dtype("<i8"),
    "heldout_start": np.dtype("<i8"),
    "name_offsets": np.dtype("<i8"),
}
FILES = (*(f"{name}.npy" for name in ARRAYS), "names.bin", "vocabulary.txt")
META = "meta.json"

# Larger files are checked by size and by evenly spread blocks (first and last included), so that
# opening stays fast; smaller ones by every byte.
_FULL_CHECK_BYTES = 64 << 20
_BLOCKS, _BLOCK_BYTES = 256, 64 << 10


class Damaged(Exception):
    """A stored corpus that is absent, incomplete, altered or of another format version."""


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A fresh folder beside `folder`, to be renamed to it; what is left of it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_temporaries(folder.parent, once=True)
    begins, ends = affixes(folder.name)
    draft = Path(tempfile.mkdtemp(ends, f"{begins}_", folder.parent))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class CorpusWriter:
    """Appends users to a folder; memory is that of one block. Ends with `finish`."""

    def __init__(self, folder: Path) -> None:
        """Start an empty corpus in the existing `folder`."""
        self.folder = folder
        self._files: dict[str, BinaryIO] = {n: (folder / f"{n}.npy").open("wb") for n in ARRAYS}
        self._lengths = dict.fromkeys(ARRAYS, 0)
        for name in ARRAYS:
            self._header(name)
        self._names = (folder / "names.bin").open("wb")
        self._ends = {"sentence_offsets": 0, "user_offsets": 0, "name_offsets": 0}
        for name in self._ends:
            self._append(name, np.zeros(1, np.int64))

    def add(
        self,
        tokens: np.ndarray,
        sentence_lengths: np.ndarray,
        sentences: np.ndarray,
        heldout: np.ndarray,
        names: Sequence[str],
    ) -> None:
        """Append users: their tokens, the length of each sentence, and per user the number of
        sentences, the number held out at the end, and the name."""
        first = self._ends["user_offsets"]
        self._append("tokens", tokens)
        self._append_ends("sentence_offsets", sentence_lengths)
        self._append("heldout_start", first + np.cumsum(sentences) - heldout)
        self._append_ends("user_offsets", sentences)
        encoded = [name.encode() for name in names]
        self._names.write(b"".join(encoded))
        self._append_ends("name_offsets", np.array([len(name) for name in encoded], np.int64))

    def finish(self, vocabulary: Vocabulary, about: dict[str, Any]) -> None:
        """Write vocabulary and description, then seal the folder."""
        for name, file in self._files.items():
            file.seek(0)
            self._header(name)
            file.close()
        self._names.close()
        text = "\n".join(vocabulary.words)
        (self.folder / "vocabulary.txt").write_bytes(text.encode())
        files = {name: _describe(self.folder / name) for name in FILES}
        body = {**about, "format": FORMAT, "counts": self._counts(vocabulary), "files": files}
        body["digest"] = _digest(
            [FORMAT, about["split"], [(name, files[name]["sha256"]) for name in FILES]]
        )
        body["seal"] = _digest(body)
        (self.folder / META).write_text(json.dumps(body, indent=1), "utf-8")

    def close(self) -> None:
        """Close the files of a corpus that will not be finished."""
        for file in (*self._files.values(), self._names):
            file.close()

    def _counts(self, vocabulary: Vocabulary) -> dict[str, int]:
        return {
            "users": self._lengths["heldout_start"],
            "sentences": self._ends["user_offsets"],
            "words": self._lengths["tokens"],
            "vocabulary": len(vocabulary),
        }

    def _append(self, name: str, values: np.ndarray) -> None:
        np.ascontiguousarray(values, ARRAYS[name]).tofile(self._files[name])
        self._lengths[name] += len(values)

    def _append_ends(self, name: str, lengths: np.ndarray) -> None:
        if len(lengths):
            ends = self._ends[name] + np.cumsum(lengths, dtype=np.int64)
            self._append(name, ends)
            self._ends[name] = int(ends[-1])

    def _header(self, name: str) -> None:
        # NumPy pads the header for the length to grow, so it can be written again at the end.
        np.lib.format.write_array_header_1_0(
            self._files[name],
            {
                "descr": ARRAYS[name].str,
                "fortran_order": False,
                "shape": (self._lengths[name],),
            },
        )


def read_meta(folder: Path) -> dict[str, Any]:
    """The description of a sound corpus; raises Damaged with the reason otherwise.

    Constant memory; a fraction of a second however large the corpus is.
    """
    try:
        body = json.loads((folder / META).read_bytes())
    except (OSError, ValueError) as error:
        raise Damaged(f"{META} cannot be read") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise Damaged("it was written by another version of fedsim")
    seal = body.pop("seal", None)
    if seal != _digest(body):
        raise Damaged(f"{META} was altered")
    for name in FILES:
        said = body["files"][name]
        try:
            size = (folder / name).stat().st_size
            if size != said["bytes"]:
                raise Damaged(f"{name} has {size} bytes instead of {said['bytes']}")
            key = "sha256" if size < _FULL_CHECK_BYTES else "sampled"
            if _hash(folder / name, full=key == "sha256") != said[key]:
                raise Damaged(f"{name} was altered")
        except OSError as error:
            raise Damaged(f"{name} cannot be read") from error
    return body


def load_array(folder: Path, name: str) -> np.ndarray:
    """One array of a checked corpus, mapped read-only."""
    mapped = np.load(folder / f"{name}.npy", mmap_mode="r")
    return mapped.view(np.ndarray)  # plain views of it are several times cheaper to slice


def forget_pages(arrays: Iterable[np.ndarray]) -> None:
    """Unmap the pages of mapped arrays that were touched: what is read again comes from the
    system's cache. Else a process would grow by all that it has ever read."""
    for array in arrays:
        owner: Any = array
        while owner is not None and not isinstance(owner, mmap.mmap):
            owner = owner.base
        if owner is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            owner.madvise(mmap.MADV_DONTNEED)


def load_names(folder: Path) -> np.ndarray:
    """The UTF-8 names of all users in one run, uint8, mapped read-only."""
    file = folder / "names.bin"
    if not file.stat().st_size:  # the server's shard; an empty file cannot be mapped
        return np.empty(0, np.uint8)
    return np.memmap(file, np.uint8, "r").view(np.ndarray)


def load_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary of a checked corpus."""
    words = (folder / "vocabulary.txt").read_bytes().decode().split("\n")
    return Vocabulary(words[len(SPECIALS) :])


def _describe(file: Path) -> dict[str, Any]:
    return {
        "bytes": file.stat().st_size,
        "sha256": _hash(file, full=True),
        "sampled": _hash(file, full=False),
    }


def _hash(file: Path, full: bool) -> str:
    with file.open("rb") as stream:
        if full:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        last = max(0, file.stat().st_size - _BLOCK_BYTES)
        total = hashlib.sha256()
        for i in range(_BLOCKS):
            stream.seek(last * i // (_BLOCKS - 1))
            total.update(stream.read(_BLOCK_BYTES))
        return total.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
