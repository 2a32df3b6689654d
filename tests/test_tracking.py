"""Tracking: what the tools hold is what the tables hold, each round once, whatever goes wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federations import assert_same_record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from typer.testing import CliRunner

import server.recording
from fedsim.cli.main import app
from fedsim.config import Config, from_dict, load
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import resume, simulate
from fedsim.studies import workbench
from fedsim.tables import SCORES
from fedsim.tracking import TRACKERS, Story, Tracker, require
from fedsim.tracking.base import parameters, without_login
from fedsim.tracking.tensorboard import TensorBoard

Points = dict[str, list[tuple[int, float]]]

TIMED = ("train/tokens_per_second", "cost/seconds")


def tracked(config: Config, *names: str, **more: str) -> Config:
    """The same run, told to `names`."""
    return from_dict({**config.as_dict(), "tracking": {"to": list(names), **more}})


def events(run: Run) -> EventAccumulator:
    """The run's event files as TensorBoard reads them, all points kept."""
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    return found.Reload()


def scalars(run: Run) -> Points:
    """Name -> (step, value) of the run's event files."""
    found = events(run)
    return {
        name: [(point.step, point.value) for point in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def untimed(points: Points) -> Points:
    """Without what a repetition may change."""
    return {
        name: values
        for name, values in points.items()
        if name not in TIMED and "latency" not in name
    }


class Cut:
    """Wraps a function: the call number `at` (from 1) is a Ctrl-C."""

    def __init__(self, function: Callable[..., Any], at: int) -> None:
        self.function, self.left = function, at

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.function(*arguments, **named)


def cut_off(
    config: Config, path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int
) -> None:
    """A run that a Ctrl-C ended in the call number `at` of `owner.name`."""
    with monkeypatch.context() as patch:
        cut = Cut(getattr(owner, name), at)
        patch.setattr(owner, name, lambda *a, **k: cut(*a, **k))
        with pytest.raises(KeyboardInterrupt):
            simulate(config, path, quiet=True)


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the tiny config with event files, which nobody disturbed."""
    folder = tmp_path_factory.mktemp("tracked") / "whole"
    return simulate(tracked(config, "tensorboard"), folder, quiet=True)


# -- no part of a run's identity ------------------------------------------------------------------


def test_tracking_is_no_part_of_a_run(config: Config, finished: Run, whole: Run) -> None:
    other = tracked(config, "wandb", "mlflow", project="p", group="g")
    assert other.identity() == config.identity()
    assert other.fingerprint() == config.fingerprint()
    assert "tracking" not in other.for_clients().as_dict()
    assert_same_record(whole, finished)
    assert not (finished.path / "tensorboard").exists()
    assert not (finished.path / "tracking.json").exists()


# -- TensorBoard ----------------------------------------------------------------------------------


def test_event_files_hold_what_the_tables_hold(whole: Run) -> None:
    found = scalars(whole)
    rounds = whole.rounds
    for name, column in (
        ("train/loss", "train_loss_nats_per_token"),
        ("train/update_norm", "update_norm"),
        ("cohort/completed", "users_completed"),
        ("cost/upload_bytes", "upload_bytes"),
    ):
        expected = list(zip(rounds["round"], rounds[column], strict=True))
        assert found[name] == [(step, pytest.approx(value)) for step, value in expected], name
    for split in ("validation", "test"):
        rows = whole.evaluations[whole.evaluations["split"] == split]
        for column in SCORES:
            expected = list(zip(rows["round"], rows[column], strict=True))
            points = [(step, pytest.approx(value)) for step, value in expected]
            assert found[f"{split}/{column}"] == points
    held_out = whole.exposure[whole.exposure.kind == "held_out"].groupby("round").exposure_bits
    assert found["exposure/held_out"] == [(r, pytest.approx(v)) for r, v in held_out.mean().items()]
    final = whole.results.iloc[0]
    assert found["results/fedavg/top1_recall"] == [(4, pytest.approx(final.top1_recall))]


def test_the_config_is_there_as_hyper_parameters(whole: Run) -> None:
    text = events(whole).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(text).session_start_info.hparams
    assert data["server.cohort"].number_value == 7
    assert data["strategy"].string_value == "fedavg"
    assert data["canaries.repeats"].string_value == "[1, 5]"


@pytest.mark.parametrize(
    ("name", "at"),
    [("measure_exposure", 1), ("measure_exposure", 2), ("released_model", 2), ("user_rows", 1)],
)
def test_a_resumed_run_has_every_point_once(
    name: str, at: int, config: Config, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = server.app if name == "user_rows" else server.recording
    path = tmp_path / "run"
    cut_off(tracked(config, "tensorboard"), path, monkeypatch, owner, name, at)
    run = resume(path, quiet=True)
    assert untimed(scalars(run)) == untimed(scalars(whole))


def test_a_paused_run_has_been_told_whole_and_goes_on(
    config: Config, whole: Run, tmp_path: Path
) -> None:
    """A trial of a search that is stopped there is never told of again."""
    run = simulate(tracked(config, "tensorboard"), tmp_path / "run", quiet=True, until=2)
    first = {n: [p for p in points if p[0] <= 2] for n, points in untimed(scalars(whole)).items()}
    assert untimed(scalars(run)) == {name: points for name, points in first.items() if points}
    assert untimed(scalars(resume(run.path, quiet=True))) == untimed(scalars(whole))


def test_what_a_killed_run_left_in_its_event_file_is_void(
    config: Config, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 after round 3: the checkpoint is of round 2."""
    path = tmp_path / "run"
    monkeypatch.setattr(TensorBoard, "close", lambda self, state: self._writer.flush())
    cut_off(tracked(config, "tensorboard"), path, monkeypatch, server.app, "finish", 1)
    for checkpoint in sorted((path / "checkpoints").glob("*"))[1:]:
        checkpoint.unlink()
    monkeypatch.undo()
    before = len(list((path / "tensorboard").iterdir()))
    run = resume(path, quiet=True)
    assert before == len(list((path / "tensorboard").iterdir())) == 1
    assert untimed(scalars(run)) == untimed(scalars(whole))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pool", "ray"])
def test_every_engine_tells_the_same(
    engine: str, config: Config, whole: Run, tmp_path: Path
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    there = replace(config, engine=EngineOptions(name=engine, workers=2))
    run = simulate(tracked(there, "tensorboard"), tmp_path / "run", quiet=True)
    assert untimed(scalars(run)) == untimed(scalars(whole))


# -- what is told ---------------------------------------------------------------------------------


class Remembering(Tracker):
    """A tracker that only remembers."""

    module, install = "numpy", ""
    stories: list[Story]
    sent: list[tuple[int, dict[str, float]]]
    states: list[str]

    def __init__(self, story: Story) -> None:
        self.stories.append(story)

    def send(self, step: int, values: Any) -> None:
        """See `Tracker.send`."""
        self.sent.append((step, dict(values)))

    def close(self, state: str) -> None:
        """See `Tracker.close`."""
        self.states.append(state)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> type[Remembering]:
    """A tracker of this test, in TensorBoard's place."""
    fresh = type("Fresh", (Remembering,), {"stories": [], "sent": [], "states": []})
    monkeypatch.setitem(TRACKERS._things, "tensorboard", fresh)
    return fresh


def test_a_private_run_tells_its_clipping_and_keeps_its_secret(
    config: Config, tmp_path: Path, memory: type[Remembering]
) -> None:
    tree = tracked(config, "tensorboard").as_dict()
    tree["privacy"] = {"name": "dp-fedavg", "noise_multiplier": 1.0, "clip_norm": 0.01}
    tree["server"] |= {"sampler": "poisson"}
    run = simulate(from_dict(tree), tmp_path / "run", quiet=True)
    (story,) = memory.stories
    assert story.parameters["privacy.clip_norm"] == 0.01
    assert [step for step, _ in memory.sent] == [1, 2, 3, 4]
    for (_, values), row in zip(memory.sent, run.table("privacy").itertuples(), strict=True):
        assert values["privacy/users_clipped"] == row.users_clipped
        assert values["privacy/noise_deviation"] == row.noise_deviation
    assert memory.states == ["finished"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_noise_that_anybody_could_make_again_is_not_given_away(
    name: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config is sent, and seeded noise follows from it."""
    monkeypatch.setattr(TRACKERS[name], "require", lambda name: None)
    tree = tracked(config, name).as_dict()
    tree["privacy"] = {"name": "dp-fedavg", "noise_multiplier": 1.0, "noise": "seeded"}
    tree["server"] |= {"sampler": "poisson"}
    with pytest.raises(FedsimError, match=r"set privacy\.noise=fresh"):
        simulate(from_dict(tree), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    require(from_dict({**tree, "privacy": {**tree["privacy"], "noise": "fresh"}}))
    require(from_dict({**tree, "tracking": {"to": ["tensorboard"]}}))
    require(tracked(config, name))


def test_folders_of_this_machine_and_names_of_people_stay(config: Config) -> None:
    home = "/home/ann"
    tree = config.as_dict()
    tree["data"] |= {"path": f"{home}/chat.csv", "drop_users": ["/home/ann"]}
    tree["engine"] |= {"name": "deploy", "address": f"{home}/nodes"}
    sent = parameters(from_dict(tree))
    assert home not in json.dumps(sent)
    tree["data"] = {"name": f"{home}/recipes/mine.toml"}
    tree["pretrain"] = {"name": f"{home}/recipes/first.toml"}
    sent = parameters(from_dict(tree))
    assert home not in json.dumps(sent)
    assert (sent["data"], sent["pretrain"]) == ("mine.toml", "first.toml")


def test_a_login_in_an_address_is_not_printed(
    config: Config,
    tmp_path: Path,
    memory: type[Remembering],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert without_login("http://ann:p@ss@lab.org:5000/x") == "http://lab.org:5000/x"
    for plain in ("sqlite:////home/a@b.db", "https://lab.org/@ann"):
        assert without_login(plain) == plain

    def fails(*_: Any) -> None:
        raise OSError("request to http://ann:hunter2@lab.org/api failed")

    monkeypatch.setattr(memory, "send", fails)
    simulate(tracked(config, "tensorboard"), tmp_path / "run")
    err = capfd.readouterr().err
    assert "request to http://lab.org/api failed" in err
    assert "hunter2" not in err


def test_an_audit_on_the_way_is_told(
    config: Config, tmp_path: Path, memory: type[Remembering]
) -> None:
    tree = tracked(config, "tensorboard").as_dict()
    tree["audit"] = {"measures": ["canaries"], "every": 2}
    run = simulate(from_dict(tree), tmp_path / "run", quiet=True)
    rows = run.table("leakage")
    row = rows[rows.estimate.notna()].iloc[-1]
    last = {k: v for k, v in memory.sent[-1][1].items() if k.startswith("leakage/canaries/")}
    assert row["round"] == 4
    assert row.estimate in last.values()


@pytest.mark.parametrize(
    ("folder", "given", "group"),
    [("runs/20260101-default", "", ""), ("runs/compare/fedavg", "", "compare"),
     ("runs/compare/cells/0a1b", "", "compare"), ("runs/compare/cells/0a1b", "mine", "mine")],
)  # fmt: skip
def test_runs_of_a_study_are_a_group(
    folder: str, given: str, group: str, config: Config, tmp_path: Path
) -> None:
    asked = tracked(config, "tensorboard", group=given)
    assert Story.of(tmp_path / folder, asked, "").group == group


def test_runs_that_a_measure_trains_are_told_to_nobody(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Config] = {}
    monkeypatch.setattr(workbench, "run_all", lambda cells, *rest: given.update(cells) or {})
    workbench.Bench().train({"shadow": tracked(config, "wandb", group="g")})
    assert given["shadow"] == config


# -- trackers that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["__init__", "send", "close"])
def test_a_tracker_that_fails_is_left_behind_with_one_sentence(
    where: str,
    config: Config,
    finished: Run,
    tmp_path: Path,
    memory: type[Remembering],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(memory, where, fails)
    run = simulate(tracked(config, "tensorboard"), tmp_path / "run")
    assert_same_record(run, finished)
    said = [line for line in capfd.readouterr().err.splitlines() if "no network" in line]
    assert said == ["Tracking by tensorboard stopped (no network); the run goes on without it."]


def test_a_ctrl_c_while_the_end_is_sent_leaves_a_finished_run(
    config: Config,
    finished: Run,
    tmp_path: Path,
    memory: type[Remembering],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "close", Cut(lambda: None, 1))
    run = simulate(tracked(config, "tensorboard"), tmp_path / "run", quiet=True)
    assert run.status["state"] == "finished"
    assert_same_record(run, finished)


def test_what_is_not_installed_is_said_before_there_is_a_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TRACKERS["wandb"], "module", "a_module_that_nobody_has")
    with pytest.raises(FedsimError, match=r"pip install -e '\.\[wandb\]'"):
        simulate(tracked(config, "wandb"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_that_name_is_not_taken_for_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, W&B itself makes a folder `wandb` where a script was started."""
    (tmp_path / "offline_runs").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(TRACKERS["wandb"], "module", "offline_runs")
    with pytest.raises(FedsimError, match="not installed"):
        TRACKERS["wandb"].require("wandb")


def test_mistakes_in_the_config_are_named(tiny: str) -> None:
    with pytest.raises(FedsimError, match="did you mean 'tensorboard'"):
        load(tiny, ['tracking.to=["tensorbord"]'])
    with pytest.raises(FedsimError, match=r"tracking\.group has no effect with no tracking\.to"):
        load(tiny, ["tracking.group=g"])


def test_track_on_the_command_line(tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = ["train", "--preset", tiny, "--track", "tensorboard", "--out", str(folder), "--json"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert Run.open(folder).config.tracking.to == ("tensorboard",)
    assert len(scalars(Run(folder))["train/loss"]) == 4


# -- Weights & Biases, offline --------------------------------------------------------------------


def offline_records(folder: Path) -> Iterator[Any]:
    """The records of the one offline run in a folder: a log of LevelDB's form, 32 KB blocks."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, record = file.read_bytes(), 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield pb.Record.FromString(record)
            record = b""


def test_wandb_offline_holds_the_run_once_after_a_resume(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    path = tmp_path / "study" / "run"
    cut_off(tracked(config, "wandb"), path, monkeypatch, server.recording, "measure_exposure", 2)
    known = json.loads((path / "tracking.json").read_text())
    run = resume(path, quiet=True)
    assert_same_record(run, finished)
    assert json.loads((path / "tracking.json").read_text()) == known
    records = list(offline_records(path))
    (told,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
    assert (told.run_id, told.project, told.run_group) == (known["wandb"], "fedsim", "study")
    assert {u.key: u.value_json for u in told.config.update}["server.cohort"] == "7"
    rows = [
        {i.key or i.nested_key[0]: json.loads(i.value_json) for i in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    assert [(row["round"], row["_step"]) for row in rows] == [(n, n) for n in (1, 2, 3, 4)]
    losses = [row["train/loss"] for row in rows]
    assert losses == pytest.approx(list(run.rounds.train_loss_nats_per_token))
    top1 = run.results.top1_recall.iloc[0]
    assert rows[-1]["results/fedavg/top1_recall"] == pytest.approx(top1)


def test_two_paused_runs_of_a_process_are_two_runs_of_wandb(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the trials of a search are; wandb.init gives back a run that nobody has ended."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    known = set()
    for name in ("one", "other"):
        simulate(tracked(config, "wandb"), tmp_path / name, quiet=True, until=2)
        known.add(json.loads((tmp_path / name / "tracking.json").read_text())["wandb"])
    assert len(known) == 2


def test_wandb_without_a_key_is_refused_before_training(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    for name, value in (("HOME", str(tmp_path)), ("NETRC", str(tmp_path / "none"))):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    with pytest.raises(FedsimError, match="WANDB_MODE=offline"):
        simulate(tracked(config, "wandb"), tmp_path / "run", quiet=True)
    wandb.teardown()
    assert not (tmp_path / "run").exists()


# -- MLflow, in an SQLite file --------------------------------------------------------------------


def test_mlflow_holds_the_run_once_after_a_resume(
    config: Config, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    asked, path = tracked(config, "mlflow", project="lab", group="g"), tmp_path / "run"
    cut_off(asked, path, monkeypatch, server.recording, "measure_exposure", 2)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("lab").experiment_id
    (told,) = client.search_runs([experiment])
    assert told.info.status == "KILLED"
    run = resume(path, quiet=True)
    assert_same_record(run, finished)
    (told,) = client.search_runs([experiment])
    assert (told.info.status, told.info.run_name) == ("FINISHED", "run")
    assert told.data.tags["group"] == "g"
    assert told.data.params["server.cohort"] == "7"
    history = client.get_metric_history(told.info.run_id, "train/loss")
    points = sorted((point.step, point.value) for point in history)
    rows = run.rounds
    losses = list(zip(rows["round"], rows.train_loss_nats_per_token, strict=True))
    assert points == [(step, pytest.approx(value)) for step, value in losses]
    top1 = run.results.top1_recall.iloc[0]
    assert told.data.metrics["results/fedavg/top1_recall"] == pytest.approx(top1)


def test_a_track_option_that_names_nobody_is_refused() -> None:
    outcome = CliRunner().invoke(app, ["train", "--track", " , "])
    assert isinstance(outcome.exception, FedsimError)
    assert "--track names nobody" in str(outcome.exception)
