"""A campaign of seeded faults over short runs: same bits after each, or the documented refusal.

    python benchmarks/faults.py                       # 64 attempts, about 15 minutes on 2 cores
    python benchmarks/faults.py --count 8 --seed 7
    python benchmarks/faults.py --only torn

Each attempt disturbs one run of a federation of 30 made-up people, resumes it until it is
finished, and compares its model and tables with those of a run that nobody disturbed. It also
looks for processes, shared memory, temporary files and tracebacks. Exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from faulty import kinds_clients, kinds_files, kinds_processes
from faulty.attempt import REFUSED, SAME_BITS, Attempt, Lab

import fedsim.report.page  # noqa: F401
import server.app  # noqa: F401 - loaded here, once: the attempts are forks of this process
from fedsim.seeding import stream

FAILED = "failed"
# One of each sort comes first, so that a short campaign has them all.
FIRST = [
    "main process killed in a round",
    "worker killed",
    "second signal in the checkpoint",
    "client raises always",
    "client hangs once",
    "update is not finite",
    "no file can grow",
    "newest checkpoint torn",
]
Kind = tuple[int, Callable[[Attempt], str]]


def plan(kinds: dict[str, Kind], count: int) -> list[str]:
    """The kinds of `count` attempts: each kind once, then the rest in turn, then all over."""
    turns = [
        [name for name, (times, _) in kinds.items() if times > turn]
        for turn in range(max(times for times, _ in kinds.values()))
    ]
    once = [name for names in turns for name in names]
    return [once[i % len(once)] for i in range(count or len(once))]


def attempt(lab: Lab, kind: Callable[[Attempt], str], name: str, rng: np.random.Generator) -> dict:
    """One row: what came out, and what was wrong."""
    started = time.monotonic()
    trial = Attempt(lab, name, rng)
    try:
        outcome = kind(trial)
    except Exception as error:  # a fault that breaks the campaign's own look at it is a failure
        outcome = FAILED
        trial.problems.append(f"{type(error).__name__}: {error}")
    finally:
        trial.close()
    return {
        "outcome": FAILED if trial.problems else outcome,
        "problems": trial.problems,
        "seconds": round(time.monotonic() - started, 1),
    }


def summary(rows: list[dict]) -> pd.DataFrame:
    """Attempts and outcomes by kind."""
    table = pd.DataFrame(rows)
    counts = pd.crosstab(table.kind, table.outcome).reindex(
        index=list(dict.fromkeys(table.kind)), columns=[SAME_BITS, REFUSED, FAILED], fill_value=0
    )
    counts.insert(0, "attempts", counts.sum(axis=1))
    counts["seconds"] = table.groupby("kind").seconds.sum()
    counts.loc["all"] = counts.sum()
    return counts.astype({c: int for c in counts.columns if c != "seconds"})


def main() -> None:
    """Run the campaign and print a table by kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=0, help="attempts; 0: the whole plan")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kinds: dict[str, Kind] = {**kinds_processes.KINDS, **kinds_clients.KINDS, **kinds_files.KINDS}
    if kinds_files.mounts_permitted():
        kinds |= kinds_files.WITH_MOUNTS
    else:
        print("No mounts here: left out", *kinds_files.WITH_MOUNTS, file=sys.stderr)
    kinds = {
        name: kinds[name] for name in dict.fromkeys([*FIRST, *kinds]) if arguments.only in name
    }
    os.environ["OMP_NUM_THREADS"] = "1"
    # Ended by a signal it still ends what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["FEDSIM_CACHE"] = str(Path(folder) / "cache")
        lab = Lab(Path(folder))
        for number, name in enumerate(plan(kinds, arguments.count), 1):
            rng = stream(arguments.seed, f"fault {name}", number)
            row = attempt(lab, kinds[name][1], f"attempt-{number}", rng)
            rows.append({"number": number, "kind": name, **row})
            print(f"{number:3d}  {row['outcome']:9}  {name}  {row['seconds']} s", file=sys.stderr)
            for problem in row["problems"]:
                print(f"       {problem}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(summary(rows).to_string())
    failed = sum(row["outcome"] == FAILED for row in rows)
    if failed:
        sys.exit(f"{failed} of {len(rows)} attempts failed.")


if __name__ == "__main__":
    main()
