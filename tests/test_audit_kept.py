"""Audits that are stopped go on: what was measured is kept, and shown as it is being measured."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pandas as pd
import psutil
import pytest
from federations import Here
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

import fedsim.leakage.audit
import fedsim.report.leakage_cards  # before a test's own measures are in the registry's place
import fedsim.studies.audit
import fedsim.studies.audit_workers
from fedsim.cli.main import app
from fedsim.config import load
from fedsim.leakage.audit import made_with
from fedsim.leakage.base import Finding, Findings, Measure, Subject
from fedsim.leakage.measures import MEASURES
from fedsim.parameters import Parameters
from fedsim.registry import Registry
from fedsim.runs import Run
from fedsim.steps import Steps
from fedsim.studies.audit import audit_run, subject_of
from fedsim.studies.audit_workers import MeasureProgress
from fedsim.studies.workbench import Bench

ROOT = Path(__file__).resolve().parents[1]


class Counted(Measure):
    """Finds how often it was taken."""

    title: ClassVar[str] = "Counted"
    threat: ClassVar[str] = "everybody"
    meaning: ClassVar[str] = "Nothing."
    taken: ClassVar[dict[str, int]] = {}
    broken: ClassVar[str] = ""
    option: int = 1

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        name = type(self).__name__
        self.taken[name] = self.taken.get(name, 0) + 1
        found = [Finding("taken", float(self.taken[name]), n=self.option)]
        return Findings(found, {"table": pd.DataFrame({"taken": [1]})}, self.broken)


class First(Counted):
    """One of several."""


class Second(Counted):
    """Another."""


class Alarm(Counted):
    """Finds that a guarantee does not hold."""

    broken: ClassVar[str] = "A bound of 9 exceeds the proven 8."


class Stopped(Counted):
    """Is stopped the first time, as by Ctrl-C."""

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`."""
        found = super().measure(subject)
        if self.taken["Stopped"] == 1:
            raise KeyboardInterrupt
        return found


@pytest.fixture
def own(finished: Run, tmp_path: Path) -> Run:
    """A copy of a finished run, to write into."""
    shutil.copytree(finished.path, tmp_path / "run")
    return Run.open(tmp_path / "run")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of this test's measures was taken; they are taken in this process."""
    registry: Registry[type[Measure]] = Registry("leakage measure")
    for kind in (First, Second, Stopped, Alarm):
        registry.register(kind.__name__.lower())(kind)
    for module in (fedsim.studies.audit, sys.modules["fedsim.leakage.measures"]):
        monkeypatch.setattr(module, "MEASURES", registry)

    class Now:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Now:
            return self

        def __exit__(self, *_: object) -> None: ...
        def shutdown(self, **_: object) -> None: ...
        def submit(self, call: Callable[..., object], *arguments: object) -> object:
            future: Future[object] = Future()
            future.set_result(call(*arguments))
            return future

    monkeypatch.setattr(fedsim.studies.audit_workers, "ProcessPoolExecutor", Now)
    monkeypatch.setattr(Counted, "taken", {})
    return Counted.taken


# -- what is kept, and when it is measured again --------------------------------------------------


def test_what_was_measured_is_not_measured_again(own: Run, taken: dict[str, int]) -> None:
    audit_run(own, ["first"])
    told: list[str] = []
    found = audit_run(own, ["first", "second"], told=lambda done: told.append(done.name))
    assert taken == {"First": 1, "Second": 1}
    assert [(one.name, one.kept) for one in found] == [("first", True), ("second", False)]
    assert told == ["first", "second"]
    assert own.table("leakage").measure.tolist() == ["first", "second"]
    assert [one.name for one in audit_run(own, ["second", "first"])] == ["second", "first"]
    (kept, _), fresh = found, audit_run(own, ["first"], again=True)[0]
    assert taken["First"] == 2
    assert_frame_equal(kept.table.drop(columns="estimate"), fresh.table.drop(columns="estimate"))
    assert_frame_equal(kept.details["table"], fresh.details["table"])


def test_the_order_in_which_measures_end_is_not_that_of_the_table(
    own: Run, taken: dict[str, int]
) -> None:
    audit_run(own, ["second"])
    audit_run(own, ["first"])
    assert own.table("leakage").measure.tolist() == ["first", "second"]
    assert all(one.kept for one in audit_run(Run.open(own.path), ["first", "second"]))


def test_other_options_code_or_model_measure_again(
    own: Run, taken: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_run(own, ["first"])
    audit_run(own, ["first"], ["first.option=2"])
    assert taken["First"] == 2
    assert own.table("leakage").n.tolist() == [2]
    audit_run(own, ["first"], ["first.option=2"])
    assert taken["First"] == 2
    with monkeypatch.context() as patch:
        patch.setattr(fedsim.leakage.audit, "code_digest", lambda: "of tomorrow")
        audit_run(own, ["first"], ["first.option=2"])
        assert taken["First"] == 3
    subject = subject_of(own)
    before = made_with("first", First(), subject, 4)
    model = own.model()
    parameters = Parameters.from_model(model)
    parameters.flat[0] += 1
    parameters.load_into(model)
    others = (replace(subject, model=model), replace(subject, seed=subject.seed + 1))
    assert all(made_with("first", First(), other, 4) != before for other in others)
    assert made_with("first", First(), subject_of(own), 4) == before


@pytest.mark.parametrize("harm", ["rows", "detail", "record"])
def test_what_is_not_whole_is_measured_again(own: Run, taken: dict[str, int], harm: str) -> None:
    """As a kill between two files, another version's audit, or a hand leaves it."""
    audit_run(own, ["first"])
    if harm == "rows":
        table = own.table("leakage")
        own.replace("leakage", table.assign(estimate=17.0), ["round", "measure"])
    else:
        name = {"detail": "first.table.parquet", "record": "first.json"}[harm]
        (own.path / "audit" / name).write_bytes(b"{}")
    found = audit_run(Run.open(own.path), ["first"])
    assert taken["First"] == 2
    assert not found[0].kept
    assert own.table("leakage").estimate.tolist() == [2.0]


def test_a_contradiction_that_is_kept_still_ends_with_exit_code_3(
    own: Run, taken: dict[str, int]
) -> None:
    for _ in range(2):
        done = CliRunner().invoke(app, ["audit", str(own.path), "--measures", "alarm"])
        assert done.exit_code == 3
        assert "A bound of 9 exceeds the proven 8." in done.stderr
    assert taken["Alarm"] == 1
    assert "alarm: kept from before" in done.stderr


def test_a_stop_keeps_what_was_measured_and_writes_the_page(
    own: Run, taken: dict[str, int]
) -> None:
    words = ["audit", str(own.path), "--measures", "first,stopped,second"]
    (own.path / "report.html").unlink(missing_ok=True)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 130
    assert "Interrupted; what was measured is kept" in done.stderr
    assert taken == {"First": 1, "Stopped": 1}
    assert "Measure <code>first</code>" in (own.path / "report.html").read_text("utf-8")
    assert pd.read_parquet(own.path / "leakage.parquet").measure.tolist() == ["first"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert taken == {"First": 1, "Stopped": 2, "Second": 1}


def test_an_audit_in_a_run_is_found_by_the_command(own: Run, tmp_path: Path) -> None:
    from fedsim.sections import AuditOptions
    from fedsim.simulation import simulate

    config = replace(own.config, audit=AuditOptions(measures=("canaries",)))
    run = simulate(config, tmp_path / "audited", quiet=True)
    (found,) = audit_run(run, ["canaries"])
    assert found.kept


# -- progress -------------------------------------------------------------------------------------


def test_phases_and_their_steps_add_up() -> None:
    said: list[float] = []
    phases = Steps({"short": 1, "long": 3}, said.append)
    assert list(phases.over("short", "ab", 2)) == ["a", "b"]
    inner = Steps({"one": 1, "two": 1}, phases.part("long"))
    inner.part("one")(1.0)
    inner.part("two")(0.5)
    assert said == [0.0, 0.125, 0.25, 0.25, 0.25, 0.625, 0.625, 0.8125]


@pytest.mark.parametrize(
    "name", ["canaries", "memorisation", "generation", "updates", "compression"]
)
def test_measures_say_how_far_they_are(finished: Run, name: str) -> None:
    said: list[float] = []
    small = {
        "canaries": {"guesses": 1000},
        "compression": {"copies": ("int8", "distilled"), "steps": 20, "users": 2},
        "generation": {"sentences": 2000, "min_words": 2},
        "updates": {"sequences": (1,), "few": 1, "clients": 2, "sums": (2,)},
    }
    measure = MEASURES[name](**small.get(name, {}))
    measure.measure(replace(subject_of(finished), heard=said.append))
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(said))
    assert said[0] == 0.0
    assert 0.5 < said[-1] < 1 + 1e-9
    assert len(set(said)) > 4


def test_models_that_a_measure_trains_are_told_by_their_rounds(here: Here, tiny: str) -> None:
    cells = {str(seed): load(tiny, [f"seed={seed}", "server.rounds=2"]) for seed in (21, 22)}
    said: list[float] = []
    assert len(Bench(jobs=1).train(cells, said.append)) == len(here.given) == 2
    Bench(jobs=1).train(cells, said.append)  # they are there: nothing is lacking
    assert said == sorted(said)
    assert said[-2:] == [1.0, 1.0]


def test_the_time_left_is_what_the_share_that_is_done_says() -> None:
    assert MeasureProgress("x", 0.25, 30.0).seconds_left == 90.0
    assert MeasureProgress("x", 0.0, 30.0).seconds_left is None


# -- the real command -----------------------------------------------------------------------------

ORDER = ["canaries", "compression", "generation", "memorisation", "updates"]
WORDS = ["--measures", ",".join(ORDER), "--jobs", "1", "generation.min_words=2", "updates.few=2",
         "updates.sequences=[1,2]", "updates.sums=[3]", "updates.clients=3"]  # fmt: skip


def start(run: Path) -> subprocess.Popen[str]:
    """`run_sim.py audit RUN`."""
    command = [sys.executable, str(ROOT / "run_sim.py"), "audit", str(run), *WORDS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def measured(run: Path) -> list[str]:
    """The measures whose rows are in the folder, in their order there."""
    return list(dict.fromkeys(Run(run).table("leakage").measure))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_audit_that_is_stopped_after_three_measures_goes_on_with_the_fourth(
    own: Run, finished: Run, tmp_path: Path, number: signal.Signals
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(finished.path, whole)
    done = start(whole)
    assert done.wait() == 0, done.communicate()

    process = start(own.path)
    while len(measured(own.path)) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert not psutil.wait_procs(family, timeout=60)[1]  # nothing goes on without the main one
    before = measured(own.path)
    assert before == ORDER[: len(before)]
    if number != signal.SIGKILL:
        assert "Interrupted; what was measured is kept" in said
        assert MEASURES[before[-1]].title in (own.path / "report.html").read_text("utf-8")

    said = start(own.path).communicate()[1]
    kept = [line.partition(":")[0] for line in said.splitlines() if "kept from before" in line]
    assert len(before) - 1 <= len(kept)  # a kill may fall between a measure's rows and its record
    assert kept == ORDER[: len(kept)]
    assert_frame_equal(Run.open(own.path).table("leakage"), Run.open(whole).table("leakage"))
