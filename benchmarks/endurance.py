"""A thousand rounds on two workers, one of them killed every hundred: does anything grow?

    python benchmarks/endurance.py                     # 1,000 rounds, endurance.png
    python benchmarks/endurance.py --rounds 200 --kill-every 50

Every ten rounds it looks at the memory of the main process and of the worker that is never
killed, at the memory of all processes of the run (PSS: shared pages counted once), at open files
and at shared-memory segments. Exit code 1 where the median memory of the last quarter of the rounds
is above that of the second by more than `ROOM_SHARE` and `ROOM_BYTES`, or where more files,
segments or processes are held; the first quarter is left out, since caches fill and allocators
settle in it.

What is held is the least that is seen in a quarter: while a round's messages are out there is one
segment more, so that a median of 25 looks says only at which moments they fell.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import psutil
from faulty import inside
from faulty.federation import write_federation
from faulty.orders import Orders
from faulty.processes import SHARED_MEMORY, Command, left_behind

from fedsim.runs import Run

ROOM_SHARE, ROOM_BYTES = 0.02, 4e6  # growth up to the larger of the two is none
MEMORY = {
    "main_rss": "main process, RSS",
    "worker_rss": "worker that is never killed, RSS",
    "all_pss": "all processes, PSS",
}
COUNTS = {
    "main_files": "open files of the main process",
    "worker_files": "open files of the worker",
    "segments": "shared-memory segments",
    "processes": "processes",
}


@dataclass(frozen=True)
class Sample:
    """What the run held at one moment; memory in bytes."""

    round: int
    seconds: float
    main_rss: int
    worker_rss: int
    all_pss: int
    main_files: int
    worker_files: int
    segments: int
    processes: int


class Watch:
    """Looks at a run's processes from outside."""

    def __init__(self, command: Command, orders: Orders) -> None:
        self.command = command
        self.main = psutil.Process(command.pid)
        self.prefix = inside.segment_prefix(orders).lstrip("/")
        self.started = time.monotonic()

    def workers(self) -> list[psutil.Process]:
        """The workers, the oldest first."""
        return sorted(self.command.workers(), key=psutil.Process.create_time)

    def sample(self, round: int) -> Sample:
        """How much there is now. Raises psutil.Error where a process ends meanwhile."""
        everybody = [self.main, *self.main.children(recursive=True)]
        oldest = self.workers()[0]
        return Sample(
            round,
            time.monotonic() - self.started,
            self.main.memory_info().rss,
            oldest.memory_info().rss,
            sum(p.memory_full_info().pss for p in everybody),
            self.main.num_fds(),
            oldest.num_fds(),
            len(list(SHARED_MEMORY.glob(self.prefix + "*"))),
            len(everybody),
        )


def endure(folder: Path, rounds: int, kill_every: int, sample_every: int) -> pd.DataFrame:
    """Train for so many rounds; one row a sample, and `killed` where a worker was killed then."""
    orders = Orders("ed00ace", str(folder))
    path = folder / "run"
    keys = ["--preset", write_federation(folder, rounds), "--out", path]
    keys += ["server.checkpoint_every=10", "evaluation.every=20"]
    command = Command(["train", *keys], orders, fresh=True)
    watch, rows = Watch(command, orders), []
    for due in range(sample_every, rounds, sample_every):
        if not command.wait_until(lambda due=due: rounds_in(path) >= due):
            break
        kill = due % kill_every == 0
        try:
            rows.append({**asdict(watch.sample(due)), "killed": kill})
            if kill:
                watch.workers()[-1].kill()
        except psutil.Error:  # a worker is being replaced: the next sample will do
            continue
    code = command.wait()
    left = left_behind(orders)
    if code or left:
        sys.exit(f"exit code {code}, left behind: {left}\n{command.said()}")
    run = Run.open(path)
    if run.rounds["round"].tolist() != list(range(1, rounds + 1)) or run.rounds.users_failed.any():
        sys.exit("The record is not that of so many rounds without a failed user.")
    return pd.DataFrame(rows)


def rounds_in(path: Path) -> int:
    """Rounds that are in the table."""
    file = path / "rounds.csv"
    return file.read_bytes().count(b"\n") - 1 if file.is_file() else 0


def growth(samples: pd.DataFrame) -> pd.DataFrame:
    """The first, second and last quarter of the rounds, and whether the last has more.

    Medians of memory, and of the rest the least.
    """
    quarter = pd.qcut(samples["round"], 4, labels=False)
    rows = []
    for name, title in {**MEMORY, **COUNTS}.items():
        of_quarter = samples[name].groupby(quarter)
        usual = of_quarter.median() if name in MEMORY else of_quarter.min()
        first, second, last = (float(usual[q]) for q in (0, 1, 3))
        room = max(ROOM_SHARE * second, ROOM_BYTES) if name in MEMORY else 0
        scale = 1e6 if name in MEMORY else 1
        rows.append(
            {
                "what": title + (", MB" if name in MEMORY else ""),
                "first quarter": round(first / scale, 1),
                "second quarter": round(second / scale, 1),
                "last quarter": round(last / scale, 1),
                "growth": round((last - second) / scale, 1),
                "grown": last > second + room,
            }
        )
    return pd.DataFrame(rows)


def plot(samples: pd.DataFrame, file: Path) -> None:
    """Memory above, counts below, a line for each kill."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for name, title in MEMORY.items():
        above.plot(samples["round"], samples[name] / 1e6, label=title)
    for name, title in COUNTS.items():
        below.step(samples["round"], samples[name], where="post", label=title)
    for axes in (above, below):
        for killed in samples["round"][samples.killed]:
            axes.axvline(killed, color="0.85", zorder=0)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
    above.set_ylabel("MB")
    above.set_title("A worker is killed at each grey line", fontsize="medium", loc="left")
    below.set_xlabel("round")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run, plot, print; exit code 1 where something grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--kill-every", type=int, default=100)
    parser.add_argument("--sample-every", type=int, default=10)
    parser.add_argument("--plot", type=Path, default=Path("endurance.png"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        samples = endure(
            Path(folder), arguments.rounds, arguments.kill_every, arguments.sample_every
        )
    table = growth(samples)
    plot(samples, arguments.plot)
    if arguments.json:
        print(json.dumps({"growth": table.to_dict("records"), "samples": samples.to_dict("list")}))
    else:
        print(table.to_string(index=False))
        print(
            f"{arguments.rounds} rounds in {samples.seconds.iloc[-1]:.0f} s, "
            f"{int(samples.killed.sum())} workers killed; {arguments.plot}"
        )
    if table.grown.any():
        sys.exit(f"Grown: {', '.join(table.what[table.grown])}.")


if __name__ == "__main__":
    main()
