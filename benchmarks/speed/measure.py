"""One contender's process, run and read: how long it took to be ready, its rounds, its memory."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from speed.entries import ENTRIES, command
from speed.job import events
from speed.processes import Outcome, run_process

BENCHMARKS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measurement:
    """One process of one contender.

    problem: why there is nothing else, else ""; ready_s and first_round_s: from the start of the
    process; seconds: of each round, the first included; memory_bytes: the most, up to the end of
    the last round.
    """

    problem: str = ""
    ready_s: float = 0.0
    first_round_s: float = 0.0
    seconds: tuple[float, ...] = ()
    memory_bytes: int = 0
    gemm_flops: float = 0.0


@dataclass(frozen=True)
class Bench:
    """Where things are.

    folder: for everything that is thrown away; logs: what the processes print.
    """

    folder: Path
    logs: Path
    peers: Path
    timeout_s: float

    def measure(
        self, name: str, order: Path, rounds: int, model_out: Path | None = None
    ) -> Measurement:
        """Run the contender on the work order."""
        entry = ENTRIES[name]
        own = self.folder / "process"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        report = own / "report.jsonl"
        arguments = ["--order", order, "--report", report, "--folder", own, "--rounds", rounds]
        arguments += ["--variant", entry.variant] if entry.variant else []
        arguments += ["--model-out", model_out] if model_out else []
        # fedsim comes last and not at all for peers, whose packages may have names of ours.
        path = [BENCHMARKS] if entry.peer else [BENCHMARKS, BENCHMARKS.parent]
        more = {
            "PYTHONPATH": ":".join(map(str, path)),
            "TMPDIR": str(own),
            "RAY_TMPDIR": str(own),
            "FLWR_HOME": str(own / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "WANDB_MODE": "disabled",
        }
        log = self.logs / f"{order.stem}-{name}.log"
        before = log.stat().st_size if log.is_file() else 0
        full = [*command(entry, self.peers), *map(str, arguments)]
        outcome = run_process(full, more, log, self.timeout_s)
        said = log.read_bytes()[before:].decode(errors="replace")
        return _read(outcome, report, rounds, said, self.timeout_s)


def _read(outcome: Outcome, report: Path, rounds: int, said: str, timeout_s: float) -> Measurement:
    """What the report and the samples say."""
    told = events(report)
    ends = {event["round"]: event["at"] for event in told if event["event"] == "round"}
    ready = [event["at"] for event in told if event["event"] == "ready"]
    gemm = [event["flops"] for event in told if event["event"] == "gemm"]
    if gemm:
        return Measurement(gemm_flops=gemm[0])
    if outcome.code is None:
        return Measurement(f"took longer than {timeout_s:.0f} s")
    if outcome.code or not ready or len(ends) < rounds:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return Measurement(f"failed: {lines[-1] if lines else f'exit code {outcome.code}'}")
    times = [ready[0], *(ends[round] for round in range(1, rounds + 1))]
    return Measurement(
        ready_s=times[0] - outcome.started,
        first_round_s=times[1] - outcome.started,
        seconds=tuple(b - a for a, b in pairwise(times)),
        memory_bytes=max((b for at, b in outcome.memory if at <= times[-1]), default=0),
    )
