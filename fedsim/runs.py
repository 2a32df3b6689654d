"""A run folder is the record: config, provenance, tables, checkpoints, model, report."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsim.checkpoints import (
    load_latest,
    remove_after,
    save_arrays,
    save_checkpoint,
)
from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.files import clear_temporaries, remove_temporaries, write_atomically
from fedsim.locks import lock
from fedsim.profile import Profile, added
from fedsim.program import command
from fedsim.run_reading import PROFILE, STATEMENT, RunReader
from fedsim.showing import shown
from fedsim.soundness import require_sound
from fedsim.table_files import columns_for, header, rows_text
from fedsim.tables import TABLES

# What does not change any more once a run is finished.
SEALED = ("config.json", "provenance.json", STATEMENT, "privacy.txt", "vocabulary.txt",
          "model.safetensors",
          *(f"{name}.csv" for name in TABLES))  # fmt: skip
FOLDERS = ("checkpoints", "audit", "clients")


class Run(RunReader):
    """One run folder. Reading it never changes it; the server writes through the same class."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._sums: dict[str, tuple[Any, int]] = {}  # of the tables that this object appends to

    def __repr__(self) -> str:
        from fedsim.run_display import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from fedsim.run_display import as_html

        return as_html(self)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run. Raises FedsimError where `path` is not a run folder, or where one of its
        files is not as the run left it.

        What processes that were killed left half-written is removed.
        """
        run = cls(path)
        try:
            missing = [n for n in ("config.json", "status.json") if not (run.path / n).is_file()]
        except (OSError, ValueError) as error:  # a name that is too long, a NUL in it
            reason = getattr(error, "strerror", None) or error
            raise FedsimError(f"{path} is not a run folder: {reason}.") from None
        if missing:
            raise FedsimError(f"{path} is not a run folder: it has no {missing[0]}.")
        for folder in (run.path, *(run.path / name for name in FOLDERS)):
            clear_temporaries(folder)
        require_sound(run)
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that writes into the folder; the lock ends with the process.

        Raises FedsimError where another one holds it. Take it before anything is written, the
        status included.
        """
        with lock(self.path):
            yield

    @classmethod
    def create(cls, path: str | Path, config: Config, provenance: Mapping[str, Any]) -> Run:
        """A new folder with config, provenance and a status. Refuses one that exists."""
        run = cls(path)
        try:
            (run.path / "checkpoints").mkdir(parents=True)
        except FileExistsError:
            raise FedsimError(
                f"{path} exists; choose another --out, or continue it with "
                f"`{command('resume', path)}`."
            ) from None
        except OSError as error:
            raise FedsimError(
                f"Cannot create {path}: {error.strerror}; choose another --out."
            ) from None
        run._write_json("status.json", {"state": "running", "round": 0})
        run._write_json("config.json", config.as_dict())
        run._write_json("provenance.json", provenance)
        run.checksums.keep({n: run.checksums.sum_of(n) for n in ("config.json", "provenance.json")})
        return run

    def set_status(self, state: str, round: int, **more: Any) -> None:
        """Replace the status. With "finished" no table grows any more."""
        if state == "finished":
            names = [name for name in SEALED if (self.path / name).is_file()]
            self.checksums.keep({n: self.checksums.sum_of(n) for n in names}, complete=True)
        self._write_json("status.json", {"state": state, "round": round, **more})

    def save_statement(self, statement: Mapping[str, Any], text: str) -> None:
        """Write `privacy.json` and, for people, `privacy.txt`."""
        self._replace(STATEMENT, as_json(statement))
        self._replace("privacy.txt", f"{text}\n".encode())

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a table's CSV; every row has exactly the schema's columns."""
        with self._writing(f"{name}.csv") as path, path.open("ab") as file:
            schema = columns_for(path, TABLES[name])
            head = header(schema) if file.tell() == 0 else ""
            total, size = self._sums.get(name) or self._begun(name)
            data = (head + rows_text(rows, schema)).encode()
            file.write(data)
            total.update(data)
            self._sums[name] = total, size + len(data)

    def replace(self, name: str, rows: pd.DataFrame, keys: list[str]) -> None:
        """Put rows into a table in place of those that agree with one of them in `keys`."""
        old = self.table(name)
        new = pd.MultiIndex.from_frame(rows[keys])
        replaced = pd.MultiIndex.from_frame(old[keys]).isin(new) if len(old) else np.empty(0, bool)
        if not (replaced.any() or self.checksums.complete):
            self.append(name, rows.to_dict("records"))
            return
        whole = [*old[~replaced].to_dict("records"), *rows.to_dict("records")]
        text = header(TABLES[name]) + rows_text(whole, TABLES[name])
        self._replace(f"{name}.csv", text.encode())
        self._sums.pop(name, None)

    def save_detail(self, measure: str, name: str, rows: pd.DataFrame) -> None:
        """Write `audit/MEASURE.NAME.parquet`: what is behind a leakage measure's figures."""
        buffer = io.BytesIO()
        rows.to_parquet(buffer, index=False)
        with self._writing("audit") as folder:
            folder.mkdir(exist_ok=True)
        self._replace(f"audit/{measure}.{name}.parquet", buffer.getvalue())

    def save_measured(self, measure: str, record: Mapping[str, Any]) -> None:
        """Write `audit/MEASURE.json`: what decided what the measure found, and what it left."""
        with self._writing("audit") as folder:
            folder.mkdir(exist_ok=True)
        self._replace(f"audit/{measure}.json", as_json(record))

    def log(self, text: str) -> None:
        """Add to `run.log`, with the time."""
        with self._writing("run.log") as path, path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().isoformat(timespec='seconds')} {shown(text.rstrip())}\n")

    def save_checkpoint(
        self,
        round: int,
        arrays: Mapping[str, np.ndarray],
        table_lengths: Mapping[str, int],
        keep: int,
    ) -> None:
        """Checkpoint the server's state and how far the tables were when it was reached."""
        for name in table_lengths:
            with self._writing(f"{name}.csv") as path, path.open("rb") as file:
                os.fsync(file.fileno())
        meta = {"tables": dict(table_lengths), "identity": self.config.identity()}
        save_checkpoint(self.path / "checkpoints", round, arrays, meta, keep)
        made = {f"{name}.csv": (size, s.hexdigest()) for name, (s, size) in self._sums.items()}
        self.checksums.keep(made)

    def rewind(self) -> tuple[int, dict[str, np.ndarray], list[str]]:
        """Load the newest whole checkpoint and cut the tables back to it.

        Returns its round, its arrays, and a sentence for each damaged checkpoint passed over;
        those are removed.
        """
        arrays, meta, problems = load_latest(self.path / "checkpoints")
        if meta["identity"] != self.config.identity():
            raise FedsimError(
                f"{self.path}/config.json was changed after the run began; a resumed run keeps "
                "its config."
            )
        lengths, sizes = (
            {name: meta["tables"].get(name, 0) for name in TABLES},
            self.table_lengths(),
        )
        for name, length in lengths.items():
            if sizes.get(name, 0) < length:
                raise FedsimError(
                    f"{self.path / name}.csv is missing or shorter than its checkpoint says; "
                    "restore it."
                )
        self.checksums.keep(
            {f"{name}.csv": self.checksums.sum_of(f"{name}.csv", lengths[name]) for name in sizes}
        )
        self._sums.clear()
        for name, length in lengths.items():
            with self._writing(f"{name}.csv") as path:
                if sizes.get(name, 0) > length:
                    os.truncate(path, length)
                path.with_suffix(".parquet").unlink(missing_ok=True)  # its rows are made again
        remove_after(self.path / "checkpoints", meta["round"])
        for folder in (self.path, self.path / "checkpoints"):
            remove_temporaries(folder)
        return meta["round"], arrays, problems

    def save_model(self, arrays: Mapping[str, np.ndarray], words: list[str], digest: str) -> None:
        """Write `model.safetensors` and the vocabulary beside it."""
        meta = {"vocabulary_size": len(words), "digest": digest, "config": self.config.as_dict()}
        save_arrays(self.path / "model.safetensors", arrays, meta)
        write_atomically(self.path / "vocabulary.txt", "\n".join(words).encode())

    def export_tables(self) -> None:
        """Write each table that has been begun as Parquet beside its CSV; of any run."""
        for name in TABLES:
            if (self.path / f"{name}.csv").is_file():
                buffer = io.BytesIO()
                self.table(name).to_parquet(buffer, index=False)
                write_atomically(self.path / f"{name}.parquet", buffer.getvalue())

    def add_profile(self, profile: Profile) -> None:
        """Add what a session of the run took to those before it."""
        try:
            profiles = [*self.read_json(PROFILE)["profiles"]]
            added(profiles)
        except (FedsimError, KeyError, TypeError, ValueError, AttributeError):
            profiles = []
        self._write_json(PROFILE, {"profiles": [*profiles, profile.as_dict()]})

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """The path of a file of the record; what the system refuses becomes one sentence."""
        path = self.path / name
        try:
            yield path
        except OSError as error:
            raise FedsimError(
                f"Cannot write {path} ({error.strerror}); free space, then "
                f"`{command('resume', self.path)}`."
            ) from None

    def _begun(self, name: str) -> tuple[Any, int]:
        """SHA-256 over a table's bytes so far, to go on from, and how many they are."""
        total, size = hashlib.sha256(), 0
        path = self.path / f"{name}.csv"
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
                    size += len(block)
        return total, size

    def _replace(self, name: str, data: bytes) -> None:
        """Replace a file that is checked when the run is opened."""
        with self.checksums.replacing(name, data):
            write_atomically(self.path / name, data)

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, as_json(value))


def as_json(value: Mapping[str, Any]) -> bytes:
    """A JSON file of the run."""
    return (json.dumps(value, indent=2) + "\n").encode()


def new_run_folder(label: str, root: str | Path = "runs") -> Path:
    """A fresh name such as runs/20261121-154501-default."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(root) / f"{stamp}-{label}"
    number = 2
    while path.exists():
        path = Path(root) / f"{stamp}-{label}-{number}"
        number += 1
    return path
