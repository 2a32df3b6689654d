"""What lies in the cache, how large it is, and clearing it: nothing there cannot be made again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsim.data.sources import cache_folder
from fedsim.errors import FedsimError
from fedsim.studies import cell_store
from fedsim.studies.cell_store import CELLS

# Folder of the cache -> what is in it.
KINDS = {
    CELLS: "runs of studies, which studies with the same cells share",
    "corpora": "texts as they are trained on",
    "baselines": "scores of trigrams and of central training",
    "pretrained": "models after a first corpus",
    "native": "the compiled kernel",
    "hashes": "digests of files, by their time stamp",
    "hub": "files from the Hugging Face hub",
}
DAY_S = 86_400.0


@dataclass(frozen=True)
class Entry:
    """One thing in the cache. used: seconds since the epoch; usable: whether the code that is
    installed would ask for it; about: what a cell is a run of."""

    kind: str
    path: Path
    size: int
    used: float
    usable: bool = True
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its file or folder."""
        return self.path.name

    @property
    def days(self) -> float:
        """Since it was used last."""
        return max(0.0, (time.time() - self.used) / DAY_S)


def entries(kind: str) -> list[Entry]:
    """All of a kind, the one that was used last first. Raises FedsimError for an unknown kind."""
    if kind not in KINDS:
        raise FedsimError(f"There is no kind '{kind}' in the cache; choose one of: "
                          f"{', '.join(KINDS)}.")  # fmt: skip
    found = _cells() if kind == CELLS else _others(kind)
    return sorted(found, key=lambda entry: (-entry.used, entry.name))


def stale(found: Iterable[Entry]) -> list[Entry]:
    """Those that nothing asks for any more, and those that hold no finished or paused run."""
    return [e for e in found if not e.usable or e.about.get("state") in ("failed", "")]


def beyond(found: Iterable[Entry], size: float) -> list[Entry]:
    """Those to remove so that the others have at most `size` bytes, least recently used first."""
    out, total = [], 0
    for entry in sorted(found, key=lambda entry: -entry.used):
        total += entry.size
        if total > size:
            out.append(entry)
    return out


def remove(entry: Entry) -> bool:
    """Whether it was removed: a cell that is being trained stays.

    Raises FedsimError where the system refuses.
    """
    try:
        if entry.kind != CELLS:
            shutil.rmtree(entry.path) if entry.path.is_dir() else entry.path.unlink()
            return True
        with cell_store.alone(entry.path, wait=False) as held:
            if not held:
                return False
            if entry.path.exists():
                shutil.rmtree(entry.path)
            for suffix in (".json", ".lock"):
                entry.path.with_suffix(suffix).unlink(missing_ok=True)
    except FileNotFoundError:
        return False  # somebody else was faster
    except OSError as error:
        raise FedsimError(f"Cannot remove {entry.path}: {error.strerror}.") from None
    return True


def _cells() -> Iterator[Entry]:
    code = cell_store.code_digest()
    for record in sorted(cell_store.cells_folder().glob("*.json")):
        path, about = record.with_suffix(""), _record(record)
        told: dict[str, Any] = {"made_by": about.get("made_by"), "code": str(about.get("code", ""))}
        now = {**cell_store.made_with(), **told}
        usable = {key: about.get(key) for key in now} == now and told["code"].startswith(code)
        used = (path if path.exists() else record).stat().st_mtime
        yield Entry(CELLS, path, _size(path) + _size(record), used, usable, _described(path))


def _record(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        tree = json.loads(path.read_text("utf-8"))
        if isinstance(tree, dict):
            return tree
    return {}


def _described(path: Path) -> dict[str, Any]:
    run = cell_store.readable(path)
    if run is None:
        return {"state": ""}
    config, status = run.config, run.status
    out = {"state": status["state"], "round": status["round"], "rounds": config.server.rounds,
           "strategy": config.strategy.name, "privacy": config.privacy.name,
           "model": config.model.name, "data": config.data.name, "seed": config.seed}  # fmt: skip
    return out | ({"error": status["error"]} if status.get("error") else {})


def _others(kind: str) -> Iterator[Entry]:
    folder = cache_folder() / kind
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            yield Entry(kind, path, _size(path), path.stat().st_mtime)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.lstat().st_size if not file.is_dir() else 0
    return total
