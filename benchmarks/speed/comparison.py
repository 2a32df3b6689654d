"""The whole comparison: everybody's first round is checked, then they take turns."""

from __future__ import annotations

import platform
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from speed.entries import ENTRIES, GEMM, REFERENCE, problem
from speed.federation import work_order, write_corpus
from speed.flops import flops_per_token
from speed.measure import Bench, Measurement
from speed.table import ROUNDS, STARTS, markdown, summary
from speed.work_order import WorkOrder, relative_difference

# Rounding: 2e-5 where a simulator averages models instead of changes of them.
LARGEST_DIFFERENCE = 1e-3


@dataclass
class Comparison:
    """What was measured so far; `check` each model, then `measure`, then `write`."""

    folder: Path
    out: Path
    peers: Path
    timeout_s: float
    differences: dict[tuple[str, str], float] = field(default_factory=dict)
    problems: dict[tuple[str, str], str] = field(default_factory=dict)
    other_results: list[str] = field(default_factory=list)
    work: dict[str, WorkOrder] = field(default_factory=dict)
    gemm: dict[str, list[float]] = field(default_factory=dict)
    rounds: list[tuple[str, str, int, int, float, int]] = field(default_factory=list)
    starts: list[tuple[str, str, int, float, float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        logs = self.out / "logs"
        logs.mkdir(exist_ok=True)
        for log in logs.glob("*.log"):
            log.unlink()
        self.bench = Bench(self.folder, logs, self.peers, self.timeout_s)
        write_corpus(self.folder / "corpus")

    def check(self, model: str, names: list[str], rounds: int, cohort: int) -> None:
        """One round of everybody, compared with the bare loop's."""
        work = self.work[model] = work_order(self.folder / "corpus", model, rounds, cohort)
        work.save(self._order(model))
        reference: dict[str, np.ndarray] | None = None
        self.differences |= {(model, name): float("nan") for name in names}
        for name in sorted(names, key=lambda name: name != REFERENCE):
            reason = problem(ENTRIES[name], self.peers)
            file = self.folder / "model.npz"
            file.unlink(missing_ok=True)
            if not reason:
                done = self.bench.measure(name, self._order(model), 1, file)
                reason = done.problem
            if reason:
                self.problems[model, name] = reason
                _say(f"{model}, {name}: {reason}")
                if name == REFERENCE:
                    raise SystemExit(f"There is nothing to compare with: {name} {reason}.")
                continue
            with np.load(file) as arrays:
                mine = dict(arrays)
            reference = mine if reference is None else reference
            difference = relative_difference(mine, reference, work.parameters)
            self.differences[model, name] = difference
            _say(f"{model}, {name}: first update differs by {difference:.1e}")
            if not difference <= LARGEST_DIFFERENCE:
                self.problems[model, name] = f"another result: differs by {difference:.1e}"
                self.other_results.append(f"{name} ({model})")

    def measure(self, repeats: int, rounds: int) -> None:
        """Turns of everybody who passed, each repetition beginning with another one."""
        for repeat in range(repeats):
            for model in self.work:
                able = [n for m, n in self.differences if m == model and not self._failed(m, n)]
                for name in rotated([*able, GEMM], repeat):
                    self._turn(model, name, repeat, rounds)

    def write(self) -> pd.DataFrame:
        """Write the tables and return the summary."""
        rounds = pd.DataFrame(self.rounds, columns=list(ROUNDS))
        starts = pd.DataFrame(self.starts, columns=list(STARTS))
        per_token = {}
        for model, work in self.work.items():
            lengths = [work.round_lengths(r) for r in range(2, work.n_rounds + 1)]
            about = work.about
            per_token[model] = flops_per_token(
                about.family, about.sizes, about.vocabulary, np.concatenate(lengths)
            )
        gemm = {model: statistics.median(rates) for model, rates in self.gemm.items()}
        table = summary(rounds, starts, per_token, gemm, self.differences, self.problems)
        for name, rows in {"rounds": rounds, "starts": starts, "summary": table}.items():
            rows.to_csv(self.out / f"{name}.csv", index=False)
        (self.out / "table.md").write_text(markdown(table))
        self._per_token = per_token
        return table

    def machine(self) -> dict[str, object]:
        """What the figures are of."""
        about = {"flops_per_token": self._per_token, "gemm_flops": self.gemm}
        return {
            "processor": _processor(),
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            **about,
        }

    def _turn(self, model: str, name: str, repeat: int, rounds: int) -> None:
        done = self.bench.measure(name, self._order(model), rounds)
        if name == GEMM and done.problem:
            _say(f"{repeat + 1}: sgemm: {done.problem}")
        elif name == GEMM:
            self.gemm.setdefault(model, []).append(done.gemm_flops)
            _say(f"{repeat + 1}: sgemm {done.gemm_flops / 1e9:.0f} GFLOP/s")
        elif done.problem:
            self.problems[model, name] = done.problem
            _say(f"{repeat + 1}: {model}, {name}: {done.problem}")
        else:
            self._keep(model, name, repeat, done)
            typical = statistics.median(done.seconds[1:] or done.seconds)
            _say(f"{repeat + 1}: {model}, {name}: {typical:.2f} s a round")

    def _keep(self, model: str, name: str, repeat: int, done: Measurement) -> None:
        work = self.work[model]
        for round, seconds in enumerate(done.seconds, 1):
            self.rounds.append((model, name, repeat, round, seconds, work.n_tokens(round)))
        start = (done.ready_s, done.first_round_s, done.memory_bytes)
        self.starts.append((model, name, repeat, *start))

    def _failed(self, model: str, name: str) -> bool:
        return (model, name) in self.problems

    def _order(self, model: str) -> Path:
        return self.folder / f"{model}.npz"


def rotated(names: list[str], by: int) -> list[str]:
    """The same order, begun `by` places later."""
    by %= len(names)
    return names[by:] + names[:by]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
