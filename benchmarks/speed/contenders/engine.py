"""fedsim itself: the Flower apps on the pool engine, as `run_sim.py train` runs them.

Rounds are timed from outside, by the rows that appear in the run's table. The variant is
`engine.kernel`, "" being whatever the product chooses.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.engines import starting
from speed.job import PROCESSES, Job, events
from speed.work_order import About

if TYPE_CHECKING:
    from fedsim.runs import Run

LOOK_S = 0.01  # looking takes time from the run
NEVER = 1_000_000


def run(job: Job) -> None:
    """One run of the product."""
    starting.prepare()  # as `run_sim.py train` does, before all other imports
    from fedsim.config import from_dict
    from fedsim.simulation import simulate

    work = job.work()
    folder = job.folder / "run"
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(folder / "rounds.csv", job, ended))
    watch.start()
    try:
        cohort = work.cohorts.shape[1]
        done = simulate(from_dict(_config(work.about, cohort, job)), folder, quiet=True)
    finally:
        ended.set()
        watch.join()
    _report_ready(done, job)
    if job.model_out is not None:
        job.save({name: p.detach().numpy() for name, p in done.model().named_parameters()})


def _config(about: About, cohort: int, job: Job) -> dict[str, object]:
    engine = {"name": "pool", "workers": PROCESSES, "device": "cpu"}
    if job.variant:
        engine["kernel"] = job.variant
    return {
        "seed": about.seed,
        "data": {"path": about.corpus},
        "model": {"name": about.model},
        "strategy": {"name": "fedavg"},
        "optimizer": {"name": "sgd"},
        "client": {"batch_size": about.batch_size, "lr": about.lr, "max_grad_norm": 0.0},
        "server": {"rounds": job.rounds, "cohort": cohort, "checkpoint_every": NEVER},
        "evaluation": {"every": NEVER, "trigram": False, "central": False},
        "canaries": {"per_cell": 0},
        "engine": engine,
    }


def _watch(table: Path, job: Job, ended: threading.Event) -> None:
    """Say when each row of the table came."""
    rows = last = 0
    while not ended.wait(LOOK_S):
        try:
            size = os.stat(table).st_size
        except FileNotFoundError:
            continue
        if size != last:
            at, last = time.time(), size
            now = table.read_bytes().count(b"\n") - 1
            for round in range(rows + 1, now + 1):
                job.say("round", at, round=round)
            rows = now


def _report_ready(done: Run, job: Job) -> None:
    """The first round began as long before its row as the row says that it lasted."""
    first = next(e for e in events(job.report) if e["event"] == "round")
    job.say("ready", first["at"] - float(done.rounds.seconds.iloc[0]))
