"""Checksums of a run's files: what anybody but the run changed is noticed when the run is opened.

`checksums.json` holds for each file how many bytes of it are checked and their SHA-256. Of a run
that is under way a table may have grown since: its first bytes are checked. Folders of earlier
versions have no such file, and their tables are only checked for what they say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath

from fedsim.errors import FedsimError
from fedsim.files import write_atomically
from fedsim.program import command

FILE = "checksums.json"
CONFIG = "config.json"
_BLOCK = 1 << 20

Sum = tuple[int, str]  # bytes from the start of the file, and their SHA-256 in hex


class Checksums:
    """Those of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def require(self) -> bool:
        """Raise FedsimError for the first file that is not as the run left it.

        Those in folders below are left to whoever reads them: they can be made again. False where
        the run has no checksums.
        """
        files, _ = self._read()
        for name in files:
            if "/" not in name:
                self.require_one(name)
        return bool(files)

    @property
    def complete(self) -> bool:
        """Whether the run is finished, so that no table grows any more."""
        return self._read()[1]

    def keep(self, sums: Mapping[str, Sum], complete: bool = False) -> None:
        """Take these for what the files are from now on; those of other files stay."""
        known, _ = self._read()
        self._write({**known, **{name: [made] for name, made in sums.items()}}, complete)

    @contextmanager
    def replacing(self, name: str, data: bytes) -> Iterator[None]:
        """Around the replacement of a file by `data`: whenever the process ends, one of both is
        what the file holds."""
        known, complete = self._read()
        if not known:  # a folder of an earlier version
            yield
            return
        new = (len(data), hashlib.sha256(data).hexdigest())
        before = known.get(name) or [self.sum_of(name)]
        self._write({**known, name: [*before, new]}, complete)
        yield
        self._write({**known, name: [new]}, complete)

    def sum_of(self, name: str, length: int | None = None) -> Sum:
        """Of a file, or of its first bytes; a file that is missing has none."""
        if name == CONFIG:
            return _sum_of_config(self.folder / name)
        total, size = hashlib.sha256(), 0
        try:
            with (self.folder / name).open("rb") as file:
                while block := file.read(min(_BLOCK, _BLOCK if length is None else length - size)):
                    total.update(block)
                    size += len(block)
        except (FileNotFoundError, IsADirectoryError):
            pass
        except OSError as error:
            raise FedsimError(f"Cannot read {self.folder / name}: {error.strerror}.") from None
        return size, total.hexdigest()

    def require_one(self, name: str) -> None:
        """Raise FedsimError where the file is not as the run left it."""
        known = self._read()
        while not self._fits(name, *known):
            before, known = known, self._read()
            if known == before:  # else the run has gone on meanwhile
                self._refuse(name, known[0])

    def _fits(self, name: str, files: dict[str, list[Sum]], complete: bool) -> bool:
        grows = not complete and name.endswith(".csv")
        return name not in files or any(
            self.sum_of(name, made[0] if grows else None) == made for made in files[name]
        )

    def _refuse(self, name: str, files: dict[str, list[Sum]]) -> None:
        path, what = self.folder / name, "was changed after"
        if not path.is_file():
            what = "is missing since"
        if name.endswith(".csv"):
            shortest = min(files[name])[0]
            if self.sum_of(name, shortest)[0] < shortest:
                what = "is missing or shorter than it was when"
        folder, _, file = name.rpartition("/")
        cure = "train the run anew"
        if folder:
            again = command("audit", self.folder, "--measures", file.partition(".")[0])
            cure = f"take it again with `{again}`"
        raise FedsimError(f"{path} {what} the run wrote it; restore it from a copy, or {cure}.")

    def _read(self) -> tuple[dict[str, list[Sum]], bool]:
        path = self.folder / FILE
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            files = {
                str(name): [(int(size), str(digest)) for size, digest in sums]
                for name, sums in tree["files"].items()
            }
            return files, bool(tree["complete"])
        except FileNotFoundError:
            return {}, False
        except OSError as error:
            raise FedsimError(f"Cannot read {path}: {error.strerror}.") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise FedsimError(
                f"{path} is damaged; restore it from a copy, or remove it to do without its checks."
            ) from None

    def _write(self, files: Mapping[str, list[Sum]], complete: bool) -> None:
        text = json.dumps({"complete": complete, "files": dict(files)}, indent=1)
        write_atomically(self.folder / FILE, f"{text}\n".encode())


def _sum_of_config(path: Path) -> Sum:
    """Of what a config says, but for where the text lies and how the run is carried out: a folder
    may be taken to another machine, and its config be told so by hand."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        for section in ("data", "pretrain"):
            if section in tree:
                name = PurePath(str(tree[section].get("name"))).name
                tree[section] = {**tree[section], "name": name, "path": None}
        said = {key: value for key, value in tree.items() if key not in ("engine", "tracking")}
        text = json.dumps(said, sort_keys=True).encode()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        text = b""
    return len(text), hashlib.sha256(text).hexdigest()
