"""Does the number of users cost anything? Seconds a round and memory, population by cohort.

    python benchmarks/scale.py --out scale                        # 10^3 .. 10^6 users
    python benchmarks/scale.py --out scale --populations 1000 --cohorts 10,100

Writes synthetic federations, opens each in a fresh process, and trains a very small model on it
with every cohort and number of workers. `OUT/scale.csv` has a row for each run, `OUT/opened.csv`
one for each federation, `OUT/scale.png` shows both. Memory is the highest PSS that was seen (pages
that processes share are divided among them), looked at from outside ten times a second.

Seconds are those of the machine as it was: where others use its cores, compare ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil

from fedsim.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VOCABULARY, MEDIAN_SENTENCES, MAX_WORDS = 500, 5, 20
MODEL = ["model=lstm-small", "model.hidden=32", "model.embedding=16"]
LOOK_S = 0.1
MB = 1e6


def in_a_fresh_process(function: str, *arguments: object) -> dict[str, float]:
    """What a function of this module returns when a new process calls it."""
    code = (
        f"import json, scale; print(json.dumps(scale.{function}(*{[str(a) for a in arguments]})))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def generate(folder: str, users: str) -> dict[str, float]:
    """Write a federation: seconds, its megabytes, and those that the process had at most."""
    from fedsim.data.recipes import Federation
    from fedsim.data.synthetic import synthesise

    started = time.perf_counter()
    plan = Federation(users=int(users), median_sentences=MEDIAN_SENTENCES)
    synthesise(Path(folder), plan, VOCABULARY, MAX_WORDS)
    return {
        "generate_seconds": time.perf_counter() - started,
        "disk_mb": sum(file.stat().st_size for file in Path(folder).iterdir()) / MB,
        "generate_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB,
    }


def open_it(folder: str, users: str) -> dict[str, float]:
    """Open a federation as a worker does: seconds, and the megabytes that it adds."""
    import clients.app  # noqa: F401 - what a worker has imported before it opens anything
    from fedsim.config import load
    from fedsim.federation import open_federation

    config = load("default", [f"data.path={folder}", f"data.vocabulary={VOCABULARY}"])
    me = psutil.Process()
    before, started = me.memory_full_info().pss, time.perf_counter()
    federation = open_federation(config)
    for number, user in enumerate(federation.population[:: max(1, int(users) // 1000)]):
        federation.sequences(int(user)).tokens.sum()
        if number % 100 == 99:  # as after a message
            federation.corpus.forget_pages()
    seconds = time.perf_counter() - started
    return {"open_seconds": seconds, "open_mb": (me.memory_full_info().pss - before) / MB}


class Peaks:
    """The highest PSS of a run's main process and of its workers."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.main, self.workers = process, 0.0, 0.0

    def watch(self) -> None:
        """Look until the run ends."""
        main = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            try:
                self.main = max(self.main, main.memory_full_info().pss)
                for worker in _workers(main):
                    self.workers = max(self.workers, worker.memory_full_info().pss)
            except psutil.Error:  # one of them has just ended
                pass
            time.sleep(LOOK_S)


def _workers(main: psutil.Process) -> Iterator[psutil.Process]:
    """What it has below it but for multiprocessing's own processes."""
    below = main.children(recursive=True)
    forked = [child for child in below if child.ppid() != main.pid]
    for child in forked or below:
        if not any("resource_tracker" in part for part in child.cmdline()):
            yield child


def train(folder: Path, out: Path, cohort: int, workers: int, rounds: int) -> dict[str, float]:
    """One run: medians over its rounds but for the first, which warms up."""
    keys = [f"data.path={folder}", f"data.vocabulary={VOCABULARY}", *MODEL, "optimizer=sgd"]
    keys += ["client.lr=1.0", "canaries.per_cell=0", "server.average=0"]
    keys += ["evaluation.trigram=false", "evaluation.central=false", "evaluation.users=50"]
    keys += [f"server.cohort={cohort}", f"server.rounds={rounds + 1}", f"engine.workers={workers}"]
    command = [sys.executable, "-m", "run_sim", "train", "--out", str(out), *keys]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        peaks = Peaks(process)
        peaks.watch()
        if process.returncode:
            sys.exit(process.stderr.read().decode() if process.stderr else "")
    run = Run.open(out)
    table, profile = run.rounds.iloc[1:], run.profile
    spans = sum(worker["of_seconds"] for worker in profile["workers"])
    return {
        "seconds": float(table.seconds.median()),
        "tokens": float(table.tokens.median()),
        "tokens_per_second": float(table.tokens_per_second.median()),
        "microseconds_per_token": 1e6 * float((table.seconds / table.tokens).median()),
        "workers_busy": sum(w["seconds"] for w in profile["workers"]) / max(spans, 1e-9),
        "start_seconds": profile["parts"]["start"] + profile["parts"]["data"],
        "main_mb": peaks.main / MB,
        "worker_mb": peaks.workers / MB,
    }


def with_efficiency(table: pd.DataFrame) -> pd.DataFrame:
    """Adds what share of so many workers' speed there is, one worker being the measure."""
    cell = ["population", "cohort"]
    alone = table[table.workers == 1].set_index(cell)["microseconds_per_token"]
    base = alone.reindex(pd.MultiIndex.from_frame(table[cell])).to_numpy()
    return table.assign(efficiency=base / table.microseconds_per_token / table.workers)


def plot(runs: pd.DataFrame, opened: pd.DataFrame, file: Path) -> None:
    """Time against the population, memory against population and cohort, and the efficiency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (of_time, of_memory), (of_cohort, of_workers) = figure.subplots(2, 2)
    most = runs[runs.workers == runs.workers.max()]
    largest = runs[runs.population == runs.population.max()]
    users, workers = f"{runs.population.max():,} users", runs.workers.max()

    for cohort, rows in most.groupby("cohort"):
        of_time.plot(rows.population, rows.seconds, "o-", label=f"{cohort:,} users a round")
    of_time.set_yscale("log")
    _finish(of_time, f"A round costs what its cohort costs, {workers} workers", "seconds a round")

    middle = sorted(most.cohort.unique())[most.cohort.nunique() // 2]
    _memory(of_memory, most[most.cohort == middle], "population")
    of_memory.plot(
        opened.population, opened.open_mb, "^--", color="0.4", label="added by opening it"
    )
    _finish(of_memory, f"Memory, {middle:,} users a round", "MB, highest PSS")

    _memory(of_cohort, largest[largest.workers == workers], "cohort")
    _finish(of_cohort, f"Memory, {users}", "MB, highest PSS", "users a round")

    for count, rows in largest.groupby("workers"):
        name = f"{count} worker" + ("s" if count > 1 else "")
        of_workers.plot(rows.cohort, rows.workers_busy, "o-", label=f"{name}: time at work")
        if count > 1:
            of_workers.plot(
                rows.cohort, rows.efficiency, "s--", label=f"{name}: speed over {count} times one's"
            )
    of_workers.axhline(1, color="0.8", zorder=0)
    _finish(of_workers, f"Parallel efficiency, {users}", "share", "users a round")
    figure.savefig(file, dpi=120)


def _memory(axes: Axes, rows: pd.DataFrame, against: str) -> None:
    axes.plot(rows[against], rows.main_mb, "o-", label="main process")
    axes.plot(rows[against], rows.worker_mb, "s-", label="a worker")


def _finish(axes: Axes, title: str, y: str, x: str = "users in the federation") -> None:
    axes.set_title(title, fontsize="medium", loc="left")
    axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small", frameon=False, ncols=2 if axes.get_yscale() == "linear" else 1)


def main() -> None:
    """Measure, write the tables and the plot, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--populations", default="1000,10000,100000,1000000")
    parser.add_argument("--cohorts", default="10,100,1000,10000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    wanted = {
        name: [int(text) for text in getattr(arguments, name).split(",")]
        for name in ("populations", "cohorts", "workers")
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    opened, runs = [], []
    for population in wanted["populations"]:
        folder = (arguments.out / f"users-{population}").resolve()
        facts = in_a_fresh_process("generate", folder, population)
        facts |= in_a_fresh_process("open_it", folder, population)
        opened.append({"population": population, **facts})
        print(json.dumps(opened[-1]), flush=True)
        for cohort in [c for c in wanted["cohorts"] if c <= population // 2]:
            for workers in wanted["workers"]:
                out = arguments.out / f"run-{population}-{cohort}-{workers}"
                row = train(folder, out, cohort, workers, arguments.rounds)
                runs.append({"population": population, "cohort": cohort, "workers": workers, **row})
                print(json.dumps(runs[-1]), flush=True)
    table, of_federations = with_efficiency(pd.DataFrame(runs)), pd.DataFrame(opened)
    table.to_csv(arguments.out / "scale.csv", index=False)
    of_federations.to_csv(arguments.out / "opened.csv", index=False)
    plot(table, of_federations, arguments.out / "scale.png")
    print(of_federations.round(2).to_string(index=False))
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
