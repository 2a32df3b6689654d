"""Small federations for the tests: a chat file, the overrides of a tiny run, fake engines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import Message
from pandas.testing import assert_frame_equal

from fedsim.config import Config
from fedsim.engines.local import LocalGrid
from fedsim.engines.wire import to_record
from fedsim.federation import Federation, open_federation
from fedsim.runs import Run
from fedsim.studies import cell_store
from fedsim.tables import TABLES, TIMING_COLUMNS
from server.app import initial_state
from server.state import ServerState
from server.strategies import STRATEGIES
from server.strategy import FederatedStrategy, RoundOutcome

VOCABULARY = 120  # words in the chat; with the specials a model has a few more

# A preset of our own, so that no test depends on what the shipped ones choose: 30 people, 23 of
# whom train, and 6 users that hold the 4 canaries. A run takes a fraction of a second.
PRESET = """
# A tiny federation for the tests
seed = 1
strategy = "fedavg"
optimizer = "sgd"

[data]
path = {path}
min_words = 10

[model]
name = "cifg-small"
hidden = 12
embedding = 8

[client]
epochs = 1
batch_size = 16
lr = 1.0
max_grad_norm = 1.0

[server]
rounds = 4
cohort = 7
sampler = "fixed"
checkpoint_every = 2
keep_checkpoints = 2
average = 0.0

[evaluation]
every = 2
trigram = false
central = false

[canaries]
users = [1, 2]
repeats = [1, 5]
per_cell = 1
max_share = 1.0
sentences = 8
held_out = 4
references = 1000
prefix_words = 2

[engine]
name = "local"
chunk = 2
"""


def write_preset(path: Path, chat: Path) -> Path:
    """The tiny preset on the people in `chat`."""
    path.write_text(PRESET.lstrip().format(path=json.dumps(str(chat))), encoding="utf-8")
    return path


def write_chat(path: Path, people: int = 30, seed: int = 5) -> Path:
    """A CSV of messages in which a word makes the next one likelier, and people differ in size."""
    rng = np.random.default_rng(seed)
    successors = rng.integers(VOCABULARY, size=(VOCABULARY, 3))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "text"])
        for person in range(people):
            for _ in range(int(rng.integers(6, 18))):
                word, text = int(rng.integers(VOCABULARY)), []
                for _ in range(int(rng.integers(3, 9))):
                    text.append(f"w{word}")
                    word = int(successors[word, rng.integers(3)])
                writer.writerow([f"p{person:02d}", " ".join(text)])
    return path


def assert_same_record(run: Run, other: Run, skip: Sequence[str] = ()) -> None:
    """Two runs have the same model and the same tables, but for how long things took."""
    assert run.digest == other.digest != ""
    for name in TABLES:
        if name not in skip:
            assert_frame_equal(without_timing(run.table(name)), without_timing(other.table(name)))


def cached_cells() -> list[Path]:
    """The folders of all cells that studies have left in the test's cache."""
    return sorted(path for path in cell_store.cells_folder().iterdir() if path.is_dir())


def without_timing(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that a repetition must reproduce."""
    return table.drop(columns=[c for c in table.columns if c in TIMING_COLUMNS])


class Here(Executor):
    """Does what it is given at once, in this process, and counts it."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def submit(self, does: Callable[..., Any], /, *given: Any, **_: Any) -> Future[Any]:
        """See `concurrent.futures.Executor`."""
        self.given.append(given[1:])  # without the task itself, which `stoppable` calls
        future: Future[Any] = Future()
        try:
            future.set_result(does(*given))
        except Exception as error:
            future.set_exception(error)
        return future


class Notes:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.outcomes: list[RoundOutcome] = []
        self.states: list[ServerState] = []
        self.evaluations: list[tuple[int, str]] = []
        self.failures: dict[int, dict[int, str]] = {}
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        """See `server.strategy.Listener`."""
        self.notices.append(text)

    def clients_failed(self, round: int, cohort: np.ndarray, failures: dict[int, str]) -> None:
        """See `server.strategy.Listener`."""
        self.failures[round] = failures

    def round_done(self, state: ServerState, outcome: RoundOutcome) -> None:
        """See `server.strategy.Listener`."""
        self.states.append(state)
        self.outcomes.append(outcome)

    def evaluated(self, state: ServerState, split: str, users: pd.DataFrame) -> None:
        """See `server.strategy.Listener`."""
        self.evaluations.append((state.round, split))


def fresh_strategy(config: Config) -> tuple[FederatedStrategy, Notes, Federation]:
    """The config's strategy before round 1, what it tells, and its federation."""
    federation, notes = open_federation(config), Notes()
    state = initial_state(config, federation)
    return STRATEGIES[config.strategy.name](config, federation, state, notes), notes, federation


def play(
    config: Config, grid: LocalGrid | None = None, rounds: int = 1, timeout: float = 60
) -> tuple[FederatedStrategy, Notes]:
    """Some rounds of a config on a grid (the local one by default), without a run folder."""
    strategy, notes, _ = fresh_strategy(config)
    grid = grid or LocalGrid("clients.app:app")
    strategy.start(grid, to_record(strategy.state.parameters), rounds, timeout)
    return strategy, notes


class AdverseGrid(LocalGrid):
    """The local engine behind a bad network: replies are held back, reordered, lost or altered.

    `order(replies)` gets what is to be delivered; it may drop, permute or replace. All messages
    of a push are executed at once, as a fast cluster would.
    """

    def __init__(self, client_app: str, order: Callable[[list[Message]], list[Message]]) -> None:
        super().__init__(client_app, nodes=3)
        self.order = order
        self._ready: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Execute everything, then decide in which order it may be seen."""
        ids = list(super().push_messages(messages))
        replies = [reply for i in ids for reply in super(AdverseGrid, self).pull_messages([i])]
        self._ready += self.order(replies)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """One reply at a time, whatever was asked for first."""
        wanted = set(message_ids)
        for reply in self._ready:
            if reply.metadata.reply_to_message_id in wanted:
                self._ready.remove(reply)
                return [reply]
        return []
