"""Who sees what of a private run: each line of the table in docs/privacy.md that can be tried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import fresh_strategy, play
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from fedsim.checkpoints import load_latest
from fedsim.config import ClientConfig, Config, from_dict, load
from fedsim.engines.local import LocalGrid
from fedsim.engines.wire import decode_update, from_record, record_of
from fedsim.federation import Federation, open_federation
from fedsim.privacy.contributions import grid_of
from fedsim.privacy.secure_sum import SecureSum
from fedsim.report import write_report
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.tables import TABLES
from fedsim.tracking import TRACKERS, Tracker
from fedsim.updates import UserResult
from server.privacy import new_key, resolved

CLIP = 0.05
SEEDED = "privacy.noise=seeded"  # tests draw the same cohorts and noise each time
KEYS = {
    "none": [],
    "secagg": [f"privacy.clip_norm={CLIP}"],
    "dp-fedavg": [SEEDED, "privacy.noise_multiplier=2", f"privacy.clip_norm={CLIP}"],
    "blt": [SEEDED, "privacy.noise_multiplier=2", f"privacy.clip_norm={CLIP}"],
    "local": [SEEDED, "privacy.noise_multiplier=2", f"privacy.clip_norm={CLIP}"],
    "dp-sgd": [SEEDED, "privacy.noise_multiplier=1", "privacy.delta=1e-3"],
}
# What a message about training says beside the model: nothing else is there to be seen.
TOLD = {"config", "corpus", "users", "round", "lr"}
MAY_BE_TOLD = {"clip_norm", "noise"}


def configured(tiny: str, name: str, *more: str) -> Config:
    """The tiny run under a mechanism; preset samplers would not fit all of them."""
    tree = load(tiny, [f"privacy={name}", *KEYS[name], *_sampler(name), *more])
    return resolved(tree, open_federation(tree))


def _sampler(name: str) -> list[str]:
    fits = {"dp-fedavg": "poisson", "blt": "cyclic"}
    return [f"server.sampler={fits[name]}"] if name in fits else []


class Listening(LocalGrid):
    """The local engine, whose line is tapped: what goes out about training, and what comes back."""

    def __init__(self) -> None:
        super().__init__("clients.app:app")
        self.sent: list[Message] = []
        self.came: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Remember what is sent."""
        messages = list(messages)
        self.sent += [m for m in messages if m.metadata.message_type == "train"]
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Remember what comes."""
        replies = list(super().pull_messages(message_ids))
        self.came += [m for m in replies if m.metadata.message_type == "train"]
        return replies


def work_of(message: Message) -> dict[str, Any]:
    """The record of a message beside the model."""
    return dict(record_of(message.content, "config", ConfigRecord))


# -- a client, and who runs a node ----------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS)
def test_a_client_is_sent_the_model_its_settings_and_the_ids_beside_its_own(
    name: str, tiny: str
) -> None:
    grid = Listening()
    strategy, _ = play(configured(tiny, name), grid)
    cohort = strategy.cohort(1).tolist()
    heard: list[int] = []
    for message in grid.sent:
        assert set(message.content) == {"arrays", "config"}
        work = work_of(message)
        assert TOLD <= set(work) <= TOLD | MAY_BE_TOLD
        config = json.loads(work["config"])
        assert set(config) == {f.name for f in fields(ClientConfig)}
        assert not {"server", "strategy", "optimizer", "evaluation", "tracking"} & set(config)
        heard += work["users"]
    assert sorted(heard) == cohort, "each id is in one message"
    assert len(grid.sent) >= 2


@pytest.mark.parametrize("name", ["dp-fedavg", "blt"])
def test_what_a_client_is_told_says_nothing_of_the_noise(name: str, tiny: str) -> None:
    config = configured(tiny, name)
    grid = Listening()
    strategy, _, federation = fresh_strategy(config)
    play(config, grid)
    key = new_key(config, federation)
    for message in grid.sent:
        text = json.dumps(work_of(message), default=str)
        assert "noise" not in work_of(message)
        for secret in (key.secret.hex(), key.id, key.named("cohorts")):
            assert secret not in text
    assert strategy.mechanism.work(strategy.state.mechanism) == {"clip_norm": CLIP}


def test_the_model_that_a_client_is_sent_is_the_released_one(tiny: str) -> None:
    """Noise was added to the sum before: what came of clients is not in any later message."""
    config, grid = configured(tiny, "dp-fedavg", "engine.chunk=50"), Listening()
    strategy, notes = play(config, grid, rounds=2)
    second = [m for m in grid.sent if work_of(m)["round"] == 2]
    sent = from_record(record_of(second[0].content, "arrays", ArrayRecord))
    assert sent.digest() == notes.states[0].parameters.digest()
    first = fresh_strategy(config)[0].state.parameters.flat
    clean = decode_update(grid.came[0].content).total * grid_of(CLIP) / config.server.cohort
    noise = (sent.flat - first.astype(np.float64)) - clean
    assert noise.std() == pytest.approx(2 * CLIP / config.server.cohort, rel=0.05)
    assert strategy.state.round == 2


# -- who runs the server --------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEYS)
def test_the_server_gets_a_sum_a_message_and_what_each_user_reports(name: str, tiny: str) -> None:
    """Exact losses, norms and counts under every mechanism."""
    grid = Listening()
    _, notes = play(configured(tiny, name), grid)
    for reply in grid.came:
        assert set(reply.content) == {"about", "failures", "results", "update", "timing"}
        assert set(record_of(reply.content, "about", ConfigRecord)) == {"round"}
        assert set(record_of(reply.content, "update", ArrayRecord)) == {"sum"}
        columns = record_of(reply.content, "results", MetricRecord)
        assert set(columns) == {f.name for f in fields(UserResult)}
    rows = {r.user: r for reply in grid.came for r in decode_update(reply.content).results}
    assert [rows[r.user] for r in notes.outcomes[0].results] == notes.outcomes[0].results
    assert all(r.loss_nats > 0 and r.update_norm > 0 for r in rows.values())


def sums_of(config: Config) -> dict[tuple[int, ...], np.ndarray]:
    """The users of each reply of round 1, and the sum that came."""
    grid = Listening()
    play(config, grid)
    updates = [decode_update(reply.content) for reply in grid.came]
    return {tuple(sorted(r.user for r in u.results)): u.total for u in updates}


@pytest.mark.parametrize("name", ["local", "dp-sgd"])
def test_the_server_sees_no_update_before_the_noise_where_clients_draw_it(
    name: str, tiny: str
) -> None:
    """Nothing but the noise differs: what it cannot tell apart is each user's own update."""
    once = sums_of(configured(tiny, name, "engine.chunk=1", "evaluation.every=2"))
    again = sums_of(configured(tiny, name, "engine.chunk=1", "evaluation.every=4"))
    free = sums_of(configured(tiny, "local", "engine.chunk=1", "privacy.noise_multiplier=0"))
    assert once.keys() == again.keys() == free.keys()
    assert {len(users) for users in once} == {1}
    for users, total in once.items():
        assert not np.array_equal(total, again[users])
        if name == "local":
            noise = (total - free[users]) * grid_of(CLIP)
            assert noise.std() == pytest.approx(2 * CLIP, rel=0.1)


def test_secure_aggregation_is_simulated_and_the_process_sees_single_updates(tiny: str) -> None:
    """A message of one user brings that user's own clipped update, only rounded."""
    config = configured(tiny, "secagg", "engine.chunk=1")
    secure, how = sums_of(config), SecureSum.of(config.privacy.options)
    free = sums_of(configured(tiny, "local", "engine.chunk=1", "privacy.noise_multiplier=0"))
    assert how is not None
    assert secure.keys() == free.keys()
    for users, total in secure.items():
        step = how.contribution(len(total))
        ours, theirs = total * step.resolution, free[users] * grid_of(CLIP)
        rounding = step.resolution + CLIP - step.inner_norm  # it is clipped a little more before
        assert np.abs(ours - theirs).max() <= rounding < 1e-4 * np.abs(theirs).max()


# -- readers of the run folder, of its report, and of a tracker -----------------------------------


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Federation]:
    """A private run of people with names and words that can be searched for."""
    folder = tmp_path_factory.mktemp("threats")
    rng = np.random.default_rng(3)
    words = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(120)]
    rows = ["user,text"]
    for person in range(30):
        for _ in range(12):
            text = " ".join(words[i] for i in rng.integers(len(words), size=6))
            rows.append(f"person-called-{person:02d}x,{text}")
    (folder / "chat.csv").write_text("\n".join(rows))
    keys = [f"data.path={folder / 'chat.csv'}", "data.min_words=10", "server.rounds=4",
            "server.cohort=7", "evaluation.every=2", "evaluation.central=false", "model=cifg-small",
            "model.hidden=12", "model.embedding=8", "canaries.users=[1]", "canaries.repeats=[2]",
            "canaries.sentences=8", "server.checkpoint_every=2", "engine=local",
            "tracking.to=[\"tensorboard\"]"]  # fmt: skip
    config = load("default", [*keys, "privacy=dp-fedavg", SEEDED, "privacy.noise_multiplier=2"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRACKERS._things, "tensorboard", _fresh_memory())
        run = simulate(config, folder / "run", quiet=True)
    write_report(run)
    return run, open_federation(config)


class Remembering(Tracker):
    """A tracker that only remembers."""

    module, install, sends = "numpy", "", False
    sent: list[tuple[int, dict[str, float]]]

    def __init__(self, story: Any) -> None:
        pass

    def send(self, step: int, values: Any) -> None:
        """See `Tracker.send`."""
        self.sent.append((step, dict(values)))

    def close(self, state: str) -> None:
        """See `Tracker.close`."""


def _fresh_memory() -> type[Remembering]:
    return type("Fresh", (Remembering,), {"sent": []})


def test_a_run_folder_names_users_by_number_and_holds_nobodys_name_or_sentence(
    private: tuple[Run, Federation],
) -> None:
    run, federation = private
    corpus = federation.corpus
    names = {corpus.user_name(user) for user in range(corpus.users)}
    said = {corpus.vocabulary.decode(s[:4]) for u in range(corpus.users)
            for s in corpus.sequences(u, "all")}  # fmt: skip
    files = [file for file in run.path.rglob("*") if file.is_file()]
    assert {"report.html", "clients.csv", "model.safetensors"} <= {f.name for f in files}
    for file in files:
        content = file.read_bytes().decode("utf-8", "replace")
        assert not [name for name in names if name in content], file
        assert not [sentence for sentence in said if sentence in content], file
    assert set((run.path / "vocabulary.txt").read_text().split("\n")) == set(
        corpus.vocabulary.words
    ), "the words themselves are there"


def test_three_tables_tell_of_single_users(private: tuple[Run, Federation]) -> None:
    """Who took part in which round with which loss: amplification does not hold for readers."""
    assert {name for name, schema in TABLES.items() if "user" in schema} == {
        "clients",
        "failures",
        "users",
    }
    run, federation = private
    held_out = {*federation.corpus.split("test")}
    assert set(run.table("users").user) <= held_out
    assert set(run.clients.user) <= set(federation.population.tolist())
    assert (run.clients.loss_nats_per_token > 0).all()


def test_a_checkpoint_holds_released_models_and_who_took_part(
    private: tuple[Run, Federation],
) -> None:
    run, federation = private
    arrays, meta, _ = load_latest(run.path / "checkpoints")
    names = {name.split("/")[0] for name in arrays}
    assert names <= {"parameters", "optimizer", "mechanism", "strategy", "average",
                     "participations"}  # fmt: skip
    counts = np.bincount(run.clients.user, minlength=federation.users)
    assert arrays["participations"].tolist() == counts.tolist()
    assert meta["round"] == 4


def test_the_report_tells_of_no_single_user_who_trained(private: tuple[Run, Federation]) -> None:
    run, federation = private
    page = (run.path / "report.html").read_text()
    text = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    trained = run.clients[run.clients.user < federation.corpus.users]
    for figure in (*trained.update_norm, *trained.loss_nats_per_token):
        assert f"{figure:.6g}" not in text
    assert "EXACT, WITHOUT NOISE" in text, "the statement is on it"


EXACT = re.compile(
    r"(train|cohort|cost|privacy|exposure|extracted|leakage|validation|test|results)/"
)


def test_a_tracker_gets_exact_figures_of_all_users_together(tiny: str, tmp_path: Path) -> None:
    """The same names for a cohort of any size; their values are those of the exact tables."""
    names = []
    for cohort in (3, 7):
        keys = (f"server.cohort={cohort}", "server.sampler=fixed", "privacy.noise=seeded")
        tree = configured(tiny, "dp-fedavg", *keys).as_dict()
        tree["tracking"] = {"to": ["tensorboard"]}
        memory = _fresh_memory()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(TRACKERS._things, "tensorboard", memory)
            run = simulate(from_dict(tree), tmp_path / str(cohort), quiet=True)
        names.append({name for _, values in memory.sent for name in values})
        assert all(EXACT.match(name) for name in names[-1])
        assert not [name for name in names[-1] if "user" in name and "users" not in name]
        row = run.rounds.iloc[0]
        sent = dict(memory.sent)[1]
        assert sent["train/loss"] == row.train_loss_nats_per_token
        assert sent["cohort/completed"] == row.users_completed
        assert sent["privacy/users_clipped"] == run.table("privacy").users_clipped[0]
    assert {n for n in names[0] if "exposure" not in n and "extracted" not in n} == {
        n for n in names[1] if "exposure" not in n and "extracted" not in n
    }
