"""A run folder is the record: config, provenance, tables, checkpoints, model, report."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedsim.checkpoints import (
    load_arrays,
    load_latest,
    remove_after,
    save_arrays,
    save_checkpoint,
)
from fedsim.config import Config, from_dict
from fedsim.config_history import current
from fedsim.errors import FedsimError
from fedsim.files import remove_temporaries, write_atomically
from fedsim.locks import lock
from fedsim.profile import Profile, added
from fedsim.program import command
from fedsim.provenance import FORMAT
from fedsim.table_files import header, read_rows, rows_text
from fedsim.tables import TABLES

if TYPE_CHECKING:
    from fedsim.models.base import LanguageModel

STATES = ("running", "finished", "paused", "interrupted", "failed")
PROFILE = "profile.json"
STATEMENT = "privacy.json"


class Run:
    """One run folder. Reading it never changes it; the server writes through the same class."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    # -- reading -----------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run. Raises FedsimError where `path` is not a run folder."""
        run = cls(path)
        for name in ("config.json", "status.json"):
            if not (run.path / name).is_file():
                raise FedsimError(f"{path} is not a run folder: it has no {name}.")
        return run

    @cached_property
    def config(self) -> Config:
        """The resolved config."""
        return from_dict(current(self._read_json("config.json")))

    @property
    def status(self) -> dict[str, Any]:
        """`state` (one of `STATES`), `round`, `error` where it failed."""
        status = self._read_json("status.json")
        round = status.get("round")
        if status.get("state") not in STATES or type(round) is not int or round < 0:
            raise FedsimError(
                f"{self.path / 'status.json'} does not say how far the run is; restore it."
            )
        return status

    @property
    def begun(self) -> bool:
        """Whether there is anything to resume from: not so while it still pretrains."""
        return any((self.path / "checkpoints").iterdir()) or bool(self.table_lengths())

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, machine, corpus digest and git state."""
        return self._read_json("provenance.json")

    def require_format(self) -> None:
        """Raise FedsimError where a run cannot go on since another version began it."""
        if self.provenance.get("format") != FORMAT:
            raise FedsimError(
                f"{self.path} was begun by another version of fedsim, which drew noise and made "
                "canary users' text differently: it can be read, but not continued; start a new "
                "run."
            )

    @property
    def corpus_digest(self) -> str:
        """What the run's corpus was, to the byte."""
        corpus = self.provenance.get("corpus")
        if not isinstance(corpus, dict) or not isinstance(corpus.get("digest"), str):
            raise FedsimError(
                f"{self.path / 'provenance.json'} does not say of which corpus the run is; "
                "restore it."
            )
        return corpus["digest"]

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables in `fedsim.tables.TABLES`, with its types; empty before any row.

        A last row that was cut off (kill -9, a full disk) is left out. Raises FedsimError where
        anything else is not as it was written.
        """
        return read_rows(self.path / f"{name}.csv", TABLES[name])

    @property
    def rounds(self) -> pd.DataFrame:
        """One row a round."""
        return self.table("rounds")

    @property
    def clients(self) -> pd.DataFrame:
        """One row a user and round."""
        return self.table("clients")

    @property
    def evaluations(self) -> pd.DataFrame:
        """Scores on held-out users, one row an evaluation."""
        return self.table("evaluations")

    @property
    def results(self) -> pd.DataFrame:
        """The final table: the federated model and its baselines on unseen test users."""
        return self.table("results")

    @property
    def exposure(self) -> pd.DataFrame:
        """Exposure and extraction of every canary at every evaluation."""
        return self.table("exposure")

    @property
    def profile(self) -> dict[str, Any]:
        """Where the wall time went, all sessions of the run together; see `fedsim.profile`."""
        try:
            return added(self._read_json(PROFILE)["profiles"])
        except (FedsimError, KeyError, TypeError, ValueError, AttributeError):
            return added([])  # never saved or damaged: nothing depends on it

    @property
    def privacy(self) -> dict[str, Any] | None:
        """The privacy statement (`fedsim.privacy.statement`); None without a mechanism."""
        if not (self.path / STATEMENT).is_file():
            return None
        return {**self._read_json(STATEMENT), "rounds_done": self.status["round"]}

    @property
    def digest(self) -> str:
        """SHA-256 of the final model: equal digests mean equal models."""
        return str(self.status.get("digest", ""))

    def model(self) -> LanguageModel:
        """The final global model, in eval mode on the CPU."""
        from fedsim.models import build
        from fedsim.parameters import Layout, Parameters

        file = self.path / "model.safetensors"
        if not file.is_file() or not self.digest:
            raise FedsimError(
                f"{self.path} has no model yet; it is saved at the end of the run: "
                f"`{command('resume', self.path)}`."
            )
        arrays, meta = load_arrays(file)
        if meta.get("vocabulary_size") != len(self.vocabulary()):
            raise FedsimError(
                f"{self.path / 'vocabulary.txt'} is not the vocabulary of {file.name}; restore it."
            )
        model = build(self.config.model.options, meta["vocabulary_size"])
        named = {name: arrays[name] for name, _ in model.named_parameters() if name in arrays}
        parameters = Parameters.from_arrays(named)
        if parameters.digest() != self.digest or parameters.layout != Layout.of(model):
            raise FedsimError(f"{file} is not the model that the run ended with; restore it.")
        parameters.load_into(model)
        return model.eval()

    def vocabulary(self) -> list[str]:
        """The words by id, the special ones first."""
        path = self.path / "vocabulary.txt"
        try:
            return path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no UTF-8"
            raise FedsimError(f"Cannot read {path}: {reason}; restore it.") from None

    # -- writing -----------------------------------------------------------------------------

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
        return run

    def set_status(self, state: str, round: int, **more: Any) -> None:
        """Replace the status."""
        self._write_json("status.json", {"state": state, "round": round, **more})

    def save_statement(self, statement: Mapping[str, Any], text: str) -> None:
        """Write `privacy.json` and, for people, `privacy.txt`."""
        self._write_json(STATEMENT, statement)
        write_atomically(self.path / "privacy.txt", f"{text}\n".encode())

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a table's CSV; every row has exactly the schema's columns."""
        text = rows_text(rows, TABLES[name])
        with self._writing(f"{name}.csv") as path, path.open("ab") as file:
            head = header(TABLES[name]) if file.tell() == 0 else ""
            file.write((head + text).encode())

    def replace(self, name: str, rows: pd.DataFrame, keys: list[str]) -> None:
        """Put rows into a table in place of those that agree with one of them in `keys`."""
        old = self.table(name)
        new = pd.MultiIndex.from_frame(rows[keys])
        replaced = pd.MultiIndex.from_frame(old[keys]).isin(new) if len(old) else np.empty(0, bool)
        if not replaced.any():
            self.append(name, rows.to_dict("records"))
            return
        whole = [*old[~replaced].to_dict("records"), *rows.to_dict("records")]
        text = header(TABLES[name]) + rows_text(whole, TABLES[name])
        write_atomically(self.path / f"{name}.csv", text.encode())

    def save_detail(self, measure: str, name: str, rows: pd.DataFrame) -> None:
        """Write `audit/MEASURE.NAME.parquet`: what is behind a leakage measure's figures."""
        buffer = io.BytesIO()
        rows.to_parquet(buffer, index=False)
        with self._writing("audit") as folder:
            folder.mkdir(exist_ok=True)
        write_atomically(self.path / "audit" / f"{measure}.{name}.parquet", buffer.getvalue())

    def detail(self, measure: str, name: str) -> pd.DataFrame | None:
        """The inverse of `save_detail`; None where there is none, or it is damaged."""
        try:
            return pd.read_parquet(self.path / "audit" / f"{measure}.{name}.parquet")
        except (OSError, ValueError):
            return None

    def log(self, text: str) -> None:
        """Add to `run.log`, with the time."""
        with self._writing("run.log") as path, path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().isoformat(timespec='seconds')} {text.rstrip()}\n")

    def table_lengths(self) -> dict[str, int]:
        """Bytes of each table that has been begun: how far the record is."""
        paths = {name: self.path / f"{name}.csv" for name in TABLES}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}

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
            profiles = [*self._read_json(PROFILE)["profiles"]]
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

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FedsimError(f"{self.path} is not a run folder: it has no {name}.") from None
        except OSError as error:
            raise FedsimError(f"Cannot read {path}: {error.strerror}.") from None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number without end
            raise FedsimError(f"{path} is not valid JSON ({error}); restore it.") from None
        if not isinstance(tree, dict):
            raise FedsimError(f"{path} should hold a JSON object; restore it.")
        return tree

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, (json.dumps(value, indent=2) + "\n").encode())


def new_run_folder(label: str, root: str | Path = "runs") -> Path:
    """A fresh name such as runs/20261121-154501-default."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path(root) / f"{stamp}-{label}"
    number = 2
    while path.exists():
        path = Path(root) / f"{stamp}-{label}-{number}"
        number += 1
    return path
