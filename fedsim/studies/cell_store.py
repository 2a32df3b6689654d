"""Where the cells of all studies lie: in one cache, by what decides what they are.

A cell is a run of a config. Two studies that ask for the same one share it, whatever folder they
write to; changed text, code or libraries make another one of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedsim.config import Config
from fedsim.data.options import DataOptions
from fedsim.data.sources import cache_folder
from fedsim.data.storage import drafted
from fedsim.data.store import open_corpus, open_with_all_words
from fedsim.errors import FedsimError
from fedsim.files import write_atomically
from fedsim.locks import locked_file
from fedsim.runs import Run
from fedsim.source import code_digest, libraries, module_digest

FORMAT = 1  # of what lies in the cache
CELLS = "cells"
_NOT_COPIED = ("checkpoints",)  # a cell that is finished goes on from nothing
_SHARED = (".safetensors",)  # files that are replaced and never written into

Train = Callable[[Config, Path], None]  # a function of a module, for it goes to other processes


class CellStore:
    """The cells that `train` makes, by default federated training."""

    def __init__(self, train: Train | None = None, root: Path | None = None) -> None:
        """root: in the place of the cache that all studies share. Raises FedsimError where it
        cannot be written."""
        self.root = root or cells_folder()
        self._train = train
        self._texts: dict[tuple[str, bool], str] = {}
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FedsimError(
                f"Cannot write {self.root} ({error.strerror}), where studies keep their cells; set "
                "FEDSIM_CACHE to a folder that can be written."
            ) from None

    def path(self, config: Config) -> Path:
        """The folder of a config's run, which need not be there."""
        about = self._about(config)
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        path = self.root / key
        record = path.with_suffix(".json")
        if not record.is_file():
            write_atomically(record, json.dumps(about, indent=1).encode())
        return path

    def found(self, path: Path) -> Run | None:
        """The run at a `path`, however far it is, which counts as used; see `readable`."""
        run = readable(path)
        if run is not None:
            with suppress(OSError):
                os.utime(path)  # `cache prune` goes by when a cell was used last
        return run

    def _about(self, config: Config) -> dict[str, Any]:
        """What decides what a cell is."""
        texts = [self._digest(config.data, all_words=False)]
        if config.pretrain.name:
            texts.append(self._digest(config.pretrain.like(config.data), all_words=True))
        return {"config": config.identity(), "texts": texts, **made_with(self._train)}

    def _digest(self, options: DataOptions, all_words: bool) -> str:
        key = options.model_dump_json(), all_words
        if key not in self._texts:
            opened = open_with_all_words(options) if all_words else open_corpus(options)
            self._texts[key] = opened.digest
        return self._texts[key]


def made_with(train: Train | None = None) -> dict[str, Any]:
    """What a cell is made by now: one that was made by something else is not asked for again."""
    by, code = "simulate", code_digest()
    if train is not None:
        by = f"{train.__module__}:{train.__qualname__}"
        code += module_digest(train.__module__)
    return {"format": FORMAT, "made_by": by, "code": code, "libraries": libraries()}


def cells_folder() -> Path:
    """In the cache of everything that can be made again."""
    return cache_folder() / CELLS


def readable(path: Path) -> Run | None:
    """The run in a folder; None where a process was killed before there was one, or it is damaged:
    a cache is made again, not mended."""
    if not all(
        (path / name).is_file() for name in ("config.json", "status.json", "provenance.json")
    ):
        return None
    try:
        run = Run.open(path)
        _ = run.status, run.config
    except FedsimError:
        return None
    return run


@contextmanager
def alone(path: Path, wait: bool = True) -> Iterator[bool]:
    """Be the only process that makes this cell: others wait until it is there.

    Yields whether one is, which without `wait` one may not be.
    """
    with locked_file(path.with_suffix(".lock"), wait) as held:
        yield held


def publish(run: Run, folder: Path) -> Path:
    """A copy of a finished cell in the folder of a study, which stays readable wherever that goes;
    returns its path. What is there already stays: the copy may have been audited since."""
    target = folder / published(run)
    if not target.exists():
        with suppress(FileExistsError, OSError), drafted(target) as draft:
            _copy_missing(run.path, draft)
            draft.rename(target)
    _copy_missing(run.path, target)
    return target


def published(run: Run) -> Path:
    """Where `publish` puts it, relative to the study's folder."""
    return Path("cells") / run.path.name


def _copy_missing(source: Path, target: Path) -> None:
    """Files that the target has not; large ones that nobody writes into share their bytes."""
    try:
        for name in _NOT_COPIED:
            (target / name).mkdir(parents=True, exist_ok=True)
        for path in sorted(source.rglob("*")):
            own = path.relative_to(source)
            if path.is_dir() or own.parts[0] in _NOT_COPIED or own.name == ".lock":
                continue
            if not (target / own).exists():
                (target / own).parent.mkdir(parents=True, exist_ok=True)
                _copy(path, target / own)
    except OSError as error:
        raise FedsimError(
            f"Cannot write {target} ({error.strerror}); free space or choose another --out: what "
            "was trained is kept."
        ) from None


def _copy(path: Path, target: Path) -> None:
    if path.suffix in _SHARED:
        with suppress(OSError):  # on another disk
            os.link(path, target)
            return
    shutil.copy2(path, target)
