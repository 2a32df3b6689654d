"""What a run folder says: config, status, provenance, tables, model."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fedsim.checkpoints import load_arrays
from fedsim.checksums import Checksums
from fedsim.config import Config, from_dict
from fedsim.config_history import current
from fedsim.errors import FedsimError
from fedsim.locks import holder
from fedsim.privacy.claims import completed
from fedsim.profile import added
from fedsim.program import command
from fedsim.provenance import FORMAT
from fedsim.table_files import read_rows
from fedsim.tables import TABLES

if TYPE_CHECKING:
    from fedsim.models.base import LanguageModel

# What the file says. Of a run that was killed it goes on saying "running", and `status` "stopped".
STATES = ("running", "finished", "paused", "interrupted", "failed")
PROFILE = "profile.json"
STATEMENT = "privacy.json"


class RunReader:
    """Everything that is read of a run folder; reading never changes it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checksums = Checksums(self.path)

    @cached_property
    def config(self) -> Config:
        """The resolved config."""
        return from_dict(current(self.read_json("config.json")))

    @property
    def status(self) -> dict[str, Any]:
        """`state`, `round`, `error` where it failed.

        The state is one of `STATES`, or "stopped": it says that it is running, and no process is.
        """
        status = self.read_json("status.json")
        round = status.get("round")
        if status.get("state") not in STATES or type(round) is not int or round < 0:
            raise FedsimError(
                f"{self.path / 'status.json'} does not say how far the run is; restore it."
            )
        stopped = status["state"] == "running" and holder(self.path) is None
        return {**status, "state": "stopped"} if stopped else status

    @property
    def begun(self) -> bool:
        """Whether there is anything to resume from: not so while it still pretrains."""
        return any((self.path / "checkpoints").iterdir()) or bool(self.table_lengths())

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, machine, corpus digest and git state."""
        return self.read_json("provenance.json")

    def require_format(self) -> None:
        """Raise FedsimError where a run cannot go on since another version began it."""
        if self.provenance.get("format") != FORMAT:
            raise FedsimError(
                f"{self.path} was begun by another version of fedsim, which drew noise, made "
                "canary users' text or cut messages into words differently: it can be read, but "
                "not continued; start a new run."
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
            return added(self.read_json(PROFILE)["profiles"])
        except (FedsimError, KeyError, TypeError, ValueError, AttributeError):
            return added([])  # never saved or damaged: nothing depends on it

    @property
    def privacy(self) -> dict[str, Any] | None:
        """The privacy statement (`fedsim.privacy.statement`); None without a mechanism."""
        if not (self.path / STATEMENT).is_file():
            return None
        return completed({**self.read_json(STATEMENT), "rounds_done": self.status["round"]})

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
            if self.status["state"] == "finished":
                raise FedsimError(f"{file} is missing; restore it from a copy.")
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

    def detail(self, measure: str, name: str) -> pd.DataFrame | None:
        """What is behind a leakage measure's figures; None where it was not kept.

        Raises FedsimError where it is not as it was written.
        """
        file = f"audit/{measure}.{name}.parquet"
        path = self.path / file
        if not path.is_file():
            return None
        self.checksums.require_one(file)
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError):
            raise FedsimError(
                f"{path} is damaged; restore it from a copy, or take it again with "
                f"`{command('audit', self.path, '--measures', measure)}`."
            ) from None

    def measured(self, measure: str) -> dict[str, Any] | None:
        """What `save_measured` wrote of a leakage measure; None where it is not there or damaged:
        the measure can be taken again."""
        name = f"audit/{measure}.json"
        try:
            self.checksums.require_one(name)
            return self.read_json(name)
        except FedsimError:
            return None

    def table_lengths(self) -> dict[str, int]:
        """Bytes of each table that has been begun: how far the record is."""
        paths = {name: self.path / f"{name}.csv" for name in TABLES}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}

    def read_json(self, name: str) -> dict[str, Any]:
        """One of its JSON files. Raises FedsimError where it is missing or no JSON object."""
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
