"""One attempt: commands on one run folder, what went wrong, and what must hold at its end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal

from faulty.federation import write_federation
from faulty.orders import ClientFault, Orders
from faulty.processes import Command, left_behind
from fedsim.runs import Run
from fedsim.tables import TABLES, TIMING_COLUMNS

SAME_BITS = "same bits"
REFUSED = "refused"
ROUNDS = 6
INTERRUPTED = 130
MENDABLE = 2


class Lab:
    """What all attempts share: the federation, and unbroken runs of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.preset = write_federation(folder, ROUNDS)
        self._dropped: dict[tuple[int, int], Run] = {}
        notes = folder / "unbroken"
        notes.mkdir()
        orders = Orders("0000000", str(notes), count_writes=True)
        self.reference = self._run(orders, folder / "unbroken" / "run", "local")
        self.writes = int((notes / "writes").read_text())
        started = time.monotonic()
        self._run(Orders("0000000", str(notes)), folder / "unbroken" / "pool", "pool")
        # Longer than a whole run, since a worker may have to start within it.
        self.patience_s = max(8.0, 1.5 * (time.monotonic() - started))
        cohorts = self.reference.clients.groupby("round").user
        self.cohorts = {int(r): [int(u) for u in users] for r, users in cohorts}

    def dropped(self, round: int, user: int) -> Run:
        """The unbroken run in which one user always fails in one round."""
        if (round, user) not in self._dropped:
            notes = self.folder / f"without-{round}-{user}"
            notes.mkdir()
            orders = Orders("0000000", str(notes), [ClientFault("raise", round, user)])
            self._dropped[round, user] = self._run(orders, notes / "run", "local")
        return self._dropped[round, user]

    def _run(self, orders: Orders, path: Path, engine: str) -> Run:
        keys = ["--preset", self.preset, "--out", path, "--engine", engine]
        command = Command(["train", *keys], orders)
        if command.wait():
            raise RuntimeError(f"The unbroken run failed:\n{command.said()}")
        command.close()
        return Run.open(path)


class Attempt:
    """One run that is disturbed, and a list of all that is not as it should be."""

    def __init__(self, lab: Lab, name: str, rng: np.random.Generator) -> None:
        self.lab, self.rng = lab, rng
        self.folder = lab.folder / name
        self.folder.mkdir()
        self.path = self.folder / "run"
        self.identity = rng.bytes(4).hex()[:7]
        self.problems: list[str] = []
        self.commands: list[Command] = []

    # -- what a kind of fault is made of -----------------------------------------------------

    def orders(self, **faults: Any) -> Orders:
        """Orders for this attempt's processes."""
        return Orders(self.identity, str(self.folder), **faults)

    def train(self, *keys: str, orders: Orders | None = None, **how: Any) -> Command:
        """Start `train` into the attempt's folder, on the pool unless the keys say otherwise."""
        arguments = ["train", *keys, "--preset", self.lab.preset, "--out", self.path]
        return self.command(arguments, orders, **how)

    def resume(self, *keys: str, orders: Orders | None = None, **how: Any) -> Command:
        """Start `resume`."""
        return self.command(["resume", self.path, *keys], orders, **how)

    def command(
        self, arguments: Sequence[Any], orders: Orders | None = None, **how: Any
    ) -> Command:
        """Start any command (`Command` says how)."""
        command = Command(arguments, orders or self.orders(), **how)
        self.commands.append(command)
        return command

    def one_of(self, things: Sequence[Any]) -> Any:
        """A random one."""
        return things[int(self.rng.integers(len(things)))]

    def seconds(self, most: float) -> float:
        """A random time."""
        return float(self.rng.uniform(0, most))

    def rows(self, table: str = "rounds") -> int:
        """How many rows a table of the run has; 0 before it is there."""
        file = self.path / f"{table}.csv"
        return max(0, file.read_bytes().count(b"\n") - 1) if file.is_file() else 0

    def status(self) -> dict[str, Any]:
        """The run's status; empty before there is one."""
        return Run(self.path).status if (self.path / "status.json").is_file() else {}

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.problems.append(otherwise)

    def expect_sentence(self, command: Command, said: str) -> None:
        """The command ends with exit code 2 and one sentence, the last of what it says."""
        code, lines = command.wait(), command.said().strip().splitlines()
        self.expect(code == MENDABLE, f"exit code {code} instead of 2")
        last = lines[-1] if lines else ""
        self.expect(sum(line.startswith("Error: ") for line in lines) == 1, "not one sentence")
        self.expect(re.search(said, last) is not None, f"'{last}' does not say '{said}'")

    # -- how it ends -------------------------------------------------------------------------

    def to_the_end(self, *keys: str, resume: Callable[..., Command] | None = None) -> str:
        """Resume an interrupted run; it has the unbroken run's record then.

        A run that was ended before its first checkpoint is refused in one sentence.
        """
        if self.status().get("state") != "finished":
            engine = keys or ("--engine", self.one_of(["pool", "local", "local"]))
            begun = any((self.path / "checkpoints").glob("round-*.safetensors"))
            command = (resume or self.resume)(*engine)
            if not begun:
                self.expect_sentence(command, "not a run folder|Start the run anew")
                self.expect(not self.rows(), "rounds that no checkpoint covers")
                return REFUSED
            code = command.wait()
            self.expect(code == 0, f"resume ended with exit code {code}: {last_line(command)}")
        return self._reported()

    def _reported(self) -> str:
        """A finished run may have been ended while its report was written."""
        if not (self.path / "report.html").is_file():
            code = self.command(["report", self.path]).wait()
            self.expect(code == 0, f"report ended with exit code {code}")
        return self.same_bits()

    def same_bits(self, reference: Run | None = None, skip: str = "") -> str:
        """The run is finished, and its model and tables are those of the reference."""
        reference, run = reference or self.lab.reference, Run.open(self.path)  # a next command
        status = self.status()
        self.expect(status.get("state") == "finished", f"status {status}")
        self.expect(status.get("digest") == reference.digest, "another model")
        for name in (table for table in TABLES if table != skip):
            try:
                mine, theirs = _lasting(run.table(name)), _lasting(reference.table(name))
                assert_frame_equal(mine, theirs)
                if (path := run.path / f"{name}.csv").is_file():
                    assert_frame_equal(
                        run.table(name), pd.read_parquet(path.with_suffix(".parquet"))
                    )
            except (AssertionError, OSError) as error:
                self.problems.append(f"table {name}: {' '.join(str(error).split())[:200]}")
        return SAME_BITS

    def close(self) -> None:
        """Look at what is left on the machine and in the folder, and at all that was said."""
        for command in self.commands:
            if command.running():
                command.kill()
                self.problems.append(f"{command.arguments[0]} was still running")
        self.problems += left_behind(self.orders())
        for command in self.commands:
            self.expect("Traceback" not in command.said(), f"a traceback: {last_line(command)}")
            command.close()
        if self.status().get("state") == "finished":
            left = [file.name for file in self.path.rglob("*.tmp")]
            self.expect(not left, f"temporary files: {left}")


def last_line(command: Command) -> str:
    """The last that a command said."""
    lines = command.said().strip().splitlines()
    return lines[-1] if lines else "nothing"


def _lasting(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[c for c in table.columns if c in TIMING_COLUMNS])
