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

import pandas as pd
import psutil

from fedsim.runs import Run

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
    """Its children but for multiprocessing's resource tracker."""
    for child in main.children():
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
    (time_axes, memory_axes), (cohort_axes, efficiency_axes) = figure.subplots(2, 2)
    most = runs[runs.workers == runs.workers.max()]
    for cohort, rows in most.groupby("cohort"):
        time_axes.plot(rows.population, rows.seconds, "o-", label=f"{cohort:,} users a round")
    time_axes.set_yscale("log")
    time_axes.set_ylabel("seconds a round")
    time_axes.set_title(f"A round costs what its cohort costs ({most.workers.max()} workers)")
    middle = sorted(most.cohort.unique())[most.cohort.nunique() // 2]
    rows = most[most.cohort == middle]
    memory_axes.plot(rows.population, rows.main_mb, "o-", label="main process")
    memory_axes.plot(rows.population, rows.worker_mb, "s-", label="a worker")
    memory_axes.plot(
        opened.population, opened.open_mb, "^--", color="0.4", label="of it: the open federation"
    )
    memory_axes.set_title(f"Memory against the population ({middle:,} users a round)")
    largest = most[most.population == most.population.max()]
    cohort_axes.plot(largest.cohort, largest.main_mb, "o-", label="main process")
    cohort_axes.plot(largest.cohort, largest.worker_mb, "s-", label="a worker")
    cohort_axes.set_title(f"Memory against the cohort ({largest.population.max():,} users)")
    for workers, rows in runs[runs.population == runs.population.max()].groupby("workers"):
        efficiency_axes.plot(
            rows.cohort,
            rows.workers_busy,
            "o-",
            label=f"{workers} worker(s): share of time at work",
        )
        if workers > 1:
            efficiency_axes.plot(
                rows.cohort, rows.efficiency, "s--", label=f"{workers} workers: parallel efficiency"
            )
    efficiency_axes.set_ylim(0, 1.15)
    efficiency_axes.axhline(1, color="0.85", zorder=0)
    efficiency_axes.set_title(f"Workers ({runs.population.max():,} users)")
    for axes, label in (
        (time_axes, "users in the federation"),
        (memory_axes, "users in the federation"),
        (cohort_axes, "users a round"),
        (efficiency_axes, "users a round"),
    ):
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_title(axes.get_title(), fontsize="medium", loc="left")
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        if axes in (memory_axes, cohort_axes):
            axes.set_ylim(bottom=0)
            axes.set_ylabel("MB, highest PSS")
        axes.legend(fontsize="small", frameon=False)
    figure.savefig(file, dpi=120)


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
