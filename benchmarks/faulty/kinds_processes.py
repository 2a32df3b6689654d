"""Faults of processes: the main one or a worker killed, signals, a second process."""

from __future__ import annotations

import signal
import time

from faulty.attempt import INTERRUPTED, ROUNDS, Attempt
from faulty.orders import WriteFault
from faulty.processes import Command

SOON_S = 0.15  # a round of the tiny federation, about


def _engine(attempt: Attempt) -> tuple[str, ...]:
    """The pool mostly, sometimes the local engine."""
    return ("--engine", attempt.one_of(["pool", "pool", "local"]))


def _when_rows(attempt: Attempt, command: Command, table: str, rows: int) -> bool:
    """Wait until a table has so many rows, and then a random part of a round.

    No rows: until there is a checkpoint, so in the first round.
    """
    there = command.wait_until(
        lambda: attempt.rows(table) >= rows and bool(list(attempt.path.glob("checkpoints/round-*")))
    )
    time.sleep(attempt.seconds(SOON_S))
    return there


def kill_at_start(attempt: Attempt) -> str:
    """kill -9 while libraries load, workers start and the folder is made."""
    command = attempt.train(*_engine(attempt), fresh=True)
    if attempt.rng.random() < 0.5:
        time.sleep(attempt.seconds(3.0))
    else:
        command.wait_until(attempt.path.exists)
        time.sleep(attempt.seconds(SOON_S))
    command.kill()
    return attempt.to_the_end()


def kill_in_a_round(attempt: Attempt) -> str:
    """kill -9 at a random moment of a random round; the resumed run may be killed too."""
    command = attempt.train(*_engine(attempt))
    _when_rows(attempt, command, "rounds", int(attempt.rng.integers(0, ROUNDS)))
    command.kill()
    if attempt.rng.random() < 0.3 and attempt.status().get("state") == "running":
        again = attempt.resume(*_engine(attempt))
        time.sleep(attempt.seconds(2.0))
        again.kill()
    return attempt.to_the_end()


def kill_in_an_evaluation(attempt: Attempt) -> str:
    """kill -9 while users are scored, exposure is measured, or just after."""
    command = attempt.train(*_engine(attempt))
    if attempt.rng.random() < 0.5:
        command.wait_until(lambda: attempt.rows() >= attempt.one_of([3, ROUNDS]))
        time.sleep(attempt.seconds(0.05))
    else:
        _when_rows(attempt, command, "evaluations", int(attempt.rng.integers(1, 4)))
    command.kill()
    return attempt.to_the_end()


def kill_in_a_write(attempt: Attempt) -> str:
    """kill -9 before, in the middle of or after a write: a table, a checkpoint, the status."""
    at = int(attempt.rng.integers(1, attempt.lab.writes + 1))
    fault = WriteFault("kill", at, attempt.one_of(["before", "torn", "after"]))
    command = attempt.train(*_engine(attempt), orders=attempt.orders(write=fault))
    code = command.wait()
    attempt.expect(code == -signal.SIGKILL, f"exit code {code} at write {at}")
    return attempt.to_the_end()


def kill_at_the_end(attempt: Attempt) -> str:
    """kill -9 while the model, the final tables and the report are written."""
    at = attempt.lab.writes - int(attempt.rng.integers(0, 14))
    fault = WriteFault("kill", at, attempt.one_of(["before", "torn", "after"]))
    attempt.train(*_engine(attempt), orders=attempt.orders(write=fault)).wait()
    return attempt.to_the_end()


def kill_a_worker(attempt: Attempt) -> str:
    """kill -9 of a worker at a random moment; the run goes on by itself."""
    command = attempt.train("--engine", "pool")
    _when_rows(attempt, command, "rounds", int(attempt.rng.integers(0, ROUNDS)))
    workers = command.workers()
    if workers:
        attempt.one_of(workers).kill()
    code = command.wait()
    attempt.expect(code == 0, f"exit code {code}")
    return attempt.same_bits()


def signal_at_start(attempt: Attempt) -> str:
    """Ctrl-C or a scheduler's stop while libraries load and workers start."""
    number = attempt.one_of([signal.SIGINT, signal.SIGTERM])
    command = attempt.train("--engine", "pool", fresh=True)
    time.sleep(attempt.seconds(6.0))
    command.send(number)
    code = command.wait()
    # Before the first import a signal does what it does to any Python program.
    attempt.expect(code in (INTERRUPTED, -number, 0), f"exit code {code}")
    return attempt.to_the_end()


def signal_twice(attempt: Attempt) -> str:
    """Ctrl-C or a scheduler's stop, and a second one while the checkpoint is written."""
    first, second = (attempt.one_of([signal.SIGINT, signal.SIGTERM]) for _ in range(2))
    # No checkpoints but the first and that of the interruption, on a slow disk.
    orders = attempt.orders(slow_writes_s=0.1)
    keys = ["server.checkpoint_every=50", *_engine(attempt)]
    command = attempt.train(*keys, orders=orders)
    _when_rows(attempt, command, "rounds", int(attempt.rng.integers(2, ROUNDS)))
    done = attempt.rows()
    command.send(first)
    time.sleep(attempt.seconds(1.0))
    command.send(second)
    code = command.wait()
    attempt.expect(code in (INTERRUPTED, 0), f"exit code {code}")
    status = attempt.status()
    # A round whose rows were just being written may be lost, and is trained again.
    attempt.expect(status["round"] >= done - 1, f"{done} rounds, but {status} is saved")
    attempt.expect(status["state"] != "running", f"status {status}")
    return attempt.to_the_end()


def two_processes(attempt: Attempt) -> str:
    """A second process on the run's folder is refused, and the first is not disturbed."""
    command = attempt.train("--engine", "pool")
    _when_rows(attempt, command, "rounds", 1)
    if attempt.rng.random() < 0.5:
        attempt.expect_sentence(attempt.train("--engine", "local"), "exists; choose another")
    else:
        # Stopped meanwhile, since the run may be over before the second has begun.
        command.send(signal.SIGSTOP)
        other = attempt.resume("--engine", attempt.one_of(["pool", "local"]))
        attempt.expect_sentence(other, rf"in use by another process \(id {command.pid}\)")
        command.send(signal.SIGCONT)
    code = command.wait()
    attempt.expect(code == 0, f"exit code {code}")
    return attempt.same_bits()


KINDS = {
    "main process killed at the start": (4, kill_at_start),
    "main process killed in a round": (8, kill_in_a_round),
    "main process killed in an evaluation": (4, kill_in_an_evaluation),
    "main process killed in a write": (9, kill_in_a_write),
    "main process killed at the end": (4, kill_at_the_end),
    "worker killed": (4, kill_a_worker),
    "signal at the start": (3, signal_at_start),
    "second signal in the checkpoint": (4, signal_twice),
    "two processes on one folder": (2, two_processes),
}
