"""Faults of clients: they raise, hang, die, or reply with what is no number."""

from __future__ import annotations

from faulty.attempt import REFUSED, Attempt
from faulty.orders import ALWAYS, ClientFault
from fedsim.runs import Run
from fedsim.updates import NOT_FINITE

Victim = tuple[int, int]  # round, user


def _victim(attempt: Attempt) -> Victim:
    """A round and a user of its cohort; one of few, since each needs an unbroken run too."""
    round = attempt.one_of([2, 4])
    return round, attempt.lab.cohorts[round][2]


def _train(attempt: Attempt, victim: Victim, do: str, times: int, *keys: str) -> None:
    """Train with one faulty user to the end."""
    round, user = victim
    fault = ClientFault(do, round, user, times)
    code = attempt.train(*keys, orders=attempt.orders(clients=[fault])).wait()
    attempt.expect(code == 0, f"exit code {code}")


def _left_out(attempt: Attempt, victim: Victim, reason: str, traceback: bool) -> str:
    """The user is a recorded failure, and the rest is the run that never had it in its round."""
    round, user = victim
    run, without = Run(attempt.path), attempt.lab.dropped(round, user)
    failures = run.table("failures")
    who = list(zip(failures["round"], failures.user, strict=True))
    attempt.expect(who == [(round, user)], f"failed: {who}")
    attempt.expect(all(reason in said for said in failures.reason), f"{list(failures.reason)}")
    counted = run.rounds.users_failed[run.rounds["round"] == round].tolist()
    attempt.expect(counted == [1], f"users_failed: {counted}")
    log = (attempt.path / "run.log").read_text()
    attempt.expect(f"round {round}: user {user} failed" in log, "the log does not name the user")
    attempt.expect(("Traceback" in log) == traceback, "the log's tracebacks")
    return attempt.same_bits(without, skip="failures")


def _deadline(attempt: Attempt) -> str:
    return f"server.timeout_s={attempt.lab.patience_s:.0f}"


def raises_once(attempt: Attempt) -> str:
    """A client that raises is asked again, and its round has the same bits."""
    engine = attempt.one_of(["pool", "local"])
    _train(attempt, _victim(attempt), "raise", 1, "--engine", engine)
    return attempt.same_bits()


def raises_always(attempt: Attempt) -> str:
    """It is left out of its round, with its id and traceback in the record."""
    victim, engine = _victim(attempt), attempt.one_of(["pool", "local"])
    _train(attempt, victim, "raise", ALWAYS, "--engine", engine)
    return _left_out(attempt, victim, f"user {victim[1]} was told to fail", traceback=True)


def raises_and_aborts(attempt: Attempt) -> str:
    """Under on_failure=abort, or where all fail, the run stops; mended, it goes on."""
    round, user = _victim(attempt)
    everybody = attempt.rng.random() < 0.5
    fault = ClientFault("raise", round, None if everybody else user)
    keys = [] if everybody else ["server.on_failure=abort"]
    command = attempt.train(*keys, orders=attempt.orders(clients=[fault]))
    said = "All 7 clients" if everybody else "1 of 7 clients .*on_failure is 'abort'"
    attempt.expect_sentence(command, rf"{said}.*was told to fail")
    status = attempt.status()
    attempt.expect((status["state"], status["round"]) == ("failed", round - 1), f"{status}")
    attempt.to_the_end()
    return REFUSED


def dies_once(attempt: Attempt) -> str:
    """A client that takes its worker with it is repeated on a new one."""
    _train(attempt, _victim(attempt), "die", 1, "--engine", "pool")
    return attempt.same_bits()


def dies_always(attempt: Attempt) -> str:
    """It is left out, its neighbours in the chunk are not."""
    victim = _victim(attempt)
    _train(attempt, victim, "die", ALWAYS, "--engine", "pool")
    return _left_out(attempt, victim, "the worker process died twice", traceback=False)


def hangs_once(attempt: Attempt) -> str:
    """A client that hangs meets the deadline; asked again, it gives the same bits."""
    _train(attempt, _victim(attempt), "hang", 1, "--engine", "pool", _deadline(attempt))
    return attempt.same_bits()


def hangs_always(attempt: Attempt) -> str:
    """It is left out after two deadlines."""
    victim = _victim(attempt)
    _train(attempt, victim, "hang", ALWAYS, "--engine", "pool", _deadline(attempt))
    return _left_out(attempt, victim, "no reply within", traceback=False)


def hangs_and_is_killed(attempt: Attempt) -> str:
    """kill -9 of the main process while a worker hangs: the worker must not outlive it."""
    round, user = _victim(attempt)
    orders = attempt.orders(clients=[ClientFault("hang", round, user, 1)])
    command = attempt.train("--engine", "pool", orders=orders)
    command.wait_until(lambda: any(attempt.folder.glob("ticket-*")))
    command.kill()
    return attempt.to_the_end()


def not_finite(attempt: Attempt) -> str:
    """An update with NaN, infinity or a huge number in it is counted and never averaged."""
    victim, do = _victim(attempt), attempt.one_of(["nan", "inf", "huge"])
    engine = attempt.one_of(["pool", "local"])
    _train(attempt, victim, do, ALWAYS, "--engine", engine)
    return _left_out(attempt, victim, NOT_FINITE, traceback=False)


KINDS = {
    "client raises once": (2, raises_once),
    "client raises always": (2, raises_always),
    "client raises, run aborts": (2, raises_and_aborts),
    "client kills its worker once": (1, dies_once),
    "client kills its worker always": (1, dies_always),
    "client hangs once": (1, hangs_once),
    "client hangs always": (1, hangs_always),
    "client hangs, main process killed": (1, hangs_and_is_killed),
    "update is not finite": (3, not_finite),
}
