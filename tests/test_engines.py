"""Engines: the same bits on all of them, whatever dies, and nothing left behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from federations import assert_same_record
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

import fedsim.engines.pool
from fedsim.config import Config
from fedsim.engines import segments as shared_segments
from fedsim.engines import starting
from fedsim.engines.broadcast import Broadcaster, Receiver
from fedsim.engines.local import LocalGrid
from fedsim.engines.outbox import Inbox, Outbox
from fedsim.engines.pool import PoolGrid
from fedsim.engines.wire import (
    decode_update,
    encode_update,
    from_record,
    record_of,
    to_record,
    users_in,
)
from fedsim.errors import FedsimError
from fedsim.parameters import Parameters
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import simulate
from fedsim.updates import ChunkUpdate, UserResult


def orders(*deeds: str, ttl: float | None = None) -> list[Message]:
    """One message a deed, all with the same ArrayRecord object, as the server sends them."""
    arrays = ArrayRecord({"w": Array(np.arange(5, dtype=np.float32))})
    return [
        Message(
            RecordDict({"arrays": arrays, "config": ConfigRecord({"do": deed, "user": 3})}),
            dst_node_id=2,
            message_type="train",
            ttl=ttl,
        )
        for deed in deeds
    ]


def replies(grid: Grid, *deeds: str) -> list[Message]:
    """The replies to `orders`, in their order."""
    messages = orders(*deeds)
    found = {r.metadata.reply_to_message_id: r for r in grid.send_and_receive(messages, timeout=60)}
    return [found[m.metadata.message_id] for m in messages]


def answer(reply: Message) -> ConfigRecord:
    """The record that the toy app answers with."""
    return reply.content.config_records["reply"]


class Segments(shared_segments.Segment):
    """A segment class that remembers the names of those which this process created."""

    created: list[str]

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0) -> None:
        super().__init__(name, create, size)
        if create:
            Segments.created.append(self.name)


@pytest.fixture
def segments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shared segments that are created from now on."""
    Segments.created = []
    monkeypatch.setattr(shared_segments, "Segment", Segments)
    return Segments.created


def assert_gone(names: list[str]) -> None:
    """No segment of these names is left on the machine."""
    for name in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)


def on(config: Config, **engine: object) -> Config:
    """The same run on another engine."""
    return replace(config, engine=EngineOptions(**engine))  # type: ignore[arg-type]


# -- one result on every engine -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_the_pool_gives_the_bits_of_the_local_engine(
    workers: int, config: Config, finished: Run, tmp_path: Path, segments: list[str]
) -> None:
    run = simulate(on(config, name="pool", workers=workers), tmp_path / "run", quiet=True)
    assert_same_record(run, finished)
    # Four rounds and three scorings share what is broadcast; the rest are segments for replies.
    assert 0 < len(segments) <= 2 + 3 * workers
    assert_gone(segments)
    assert multiprocessing.active_children() == []


class KillingGrid(PoolGrid):
    """A pool of two in which a worker is shot in the middle of the second round."""

    pushes = 0
    victims: list[int] = []  # noqa: RUF012 - read by the test

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Push; in round 2 (before it who hosts whom, and round 1) kill one that was given work
        and memory for its reply."""
        ids = super().push_messages(messages)
        KillingGrid.pushes += 1
        if KillingGrid.pushes == 3:
            assert any(slot.lent for slot in self._inbox._slots)
            victim = multiprocessing.active_children()[0]
            KillingGrid.victims.append(victim.pid or 0)
            victim.kill()
        return ids


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_changes_nothing(
    config: Config,
    finished: Run,
    tmp_path: Path,
    segments: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fedsim.engines.pool, "PoolGrid", KillingGrid)
    run = simulate(on(config, name="pool", workers=2), tmp_path / "run", quiet=True)
    assert len(KillingGrid.victims) == 1
    assert_same_record(run, finished)
    assert run.rounds.users_failed.sum() == 0
    assert_gone(segments)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_message_that_kills_its_worker_twice_is_given_up_and_the_pool_goes_on(
    segments: list[str],
) -> None:
    grid = PoolGrid("toy_apps:app", workers=1)
    try:
        before, raised, died, after = replies(grid, "answer", "raise", "die", "answer")
        assert answer(before)["sum"] == answer(after)["sum"] == 10.0
        assert answer(before)["pid"] != answer(after)["pid"] != os.getpid()
        assert "ValueError: user 3 has no text" in raised.error.reason
        assert "died twice" in died.error.reason
        assert "exit code 7" in died.error.reason
        assert len(segments) == 1, "one broadcast for the four messages that share their arrays"
        # Closed while a worker is busy and messages wait: nothing may be left either.
        grid.push_messages(orders("answer", "answer", "answer"))
    finally:
        grid.close()
    assert_gone(segments)
    assert multiprocessing.active_children() == []


# -- the local engine ---------------------------------------------------------------------------


def test_the_local_engine_isolates_clients_and_returns_their_errors() -> None:
    grid = LocalGrid("toy_apps:app", nodes=2)
    first, raised, second = replies(grid, "answer", "raise", "answer")
    # The toy app empties the arrays of its message; the next client must not notice.
    assert answer(first)["sum"] == answer(second)["sum"] == 10.0
    assert "ValueError: user 3 has no text" in raised.error.reason
    assert "Traceback" in raised.error.reason
    assert len(list(grid.get_node_ids())) == 2


def test_a_pull_returns_only_what_was_asked_for() -> None:
    grid = LocalGrid("toy_apps:app")
    first, second = grid.push_messages(orders("answer", "answer"))
    (reply,) = grid.pull_messages([second])
    assert reply.metadata.reply_to_message_id == second
    assert list(grid.pull_messages([second])) == []
    assert [r.metadata.reply_to_message_id for r in grid.pull_messages([second, first])] == [first]


def test_the_local_engine_gives_the_threads_back(config: Config, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    simulate(config, tmp_path / "run", quiet=True)
    assert torch.get_num_threads() == 2


# -- shared memory ------------------------------------------------------------------------------


def test_a_broadcast_is_shared_and_its_memory_goes_to_the_next_one(segments: list[str]) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 4)).astype(np.float32)
    record = ArrayRecord({"a": Array(matrix), "b": Array(np.zeros(0, np.float32))})
    other = ArrayRecord({"a": Array(matrix + 1)})
    config = ConfigRecord({"users": [1, 2]})
    shared = Broadcaster()
    packed = shared.pack("m1", RecordDict({"arrays": record, "config": config}))
    shared.pack("m2", RecordDict({"arrays": record}))
    shared.pack("m3", RecordDict({"arrays": other}))
    assert len(segments) == 2

    receiver = Receiver()
    content = receiver.unpack(packed)
    assert content.array_records["arrays"] == record
    assert np.array_equal(content.array_records["arrays"]["a"].numpy(), matrix)
    assert content.config_records["config"] == config
    with pytest.raises(TypeError, match="read-only"):  # another worker looks at the same bytes
        content.array_records["arrays"]["a"].data[0] = 1  # type: ignore[index]
    receiver.close()

    shared.release("m1")
    SharedMemory(segments[0]).close()  # m2 still needs it
    shared.release("m2")
    next_one = shared.pack("m4", RecordDict({"arrays": ArrayRecord({"a": Array(matrix + 2)})}))
    assert len(segments) == 2  # that of m1 and m2 again
    values = receiver.unpack(next_one).array_records["arrays"]["a"].numpy()
    assert np.array_equal(values, matrix + 2)
    del values
    receiver.close()
    shared.release("m4")
    shared.release("m3")
    assert_gone(segments[:1])  # the one that was freed last is kept
    large = ArrayRecord({"a": Array(np.zeros(10_000, np.float32))})
    shared.pack("m5", RecordDict({"arrays": large}))
    assert_gone(segments[:2])  # it is too small
    shared.release("m5")
    shared.close()
    assert_gone(segments)


def reply(values: np.ndarray) -> RecordDict:
    """A reply with one array and a record beside it."""
    record = ArrayRecord({"sum": Array(values)})
    return RecordDict({"update": record, "said": ConfigRecord({"ok": True})})


def total(content: RecordDict) -> np.ndarray:
    """A view of the reply's array, as the server makes one."""
    data = record_of(content, "update", ArrayRecord)["sum"].data
    return np.frombuffer(data, np.int64, offset=len(data) - 8 * 1000)


def test_replies_are_read_where_the_worker_wrote_them(segments: list[str]) -> None:
    inbox, outbox = Inbox(1), Outbox(1)
    values = np.arange(1000)
    first, size = outbox.pack(reply(values), inbox.offer(0))
    assert segments == []  # nothing is known of its size yet
    assert total(inbox.read(first)).tolist() == values.tolist()
    for i in range(10):
        lent = inbox.offer(size)
        packed, again = outbox.pack(reply(values + i), lent)
        assert again == size
        assert len(pickle.dumps(packed)) < 1000, "arrays do not go through the pipe"
        content = inbox.read(packed)
        inbox.take_back(lent)
        assert record_of(content, "said", ConfigRecord)["ok"] is True
        assert total(content).tolist() == (values + i).tolist()
    assert len(segments) <= 2, "a segment is used again as soon as nobody looks at it"
    del content
    inbox.close()
    assert_gone(segments)


def test_a_reply_that_is_kept_stays_as_it_is(segments: list[str]) -> None:
    inbox, outbox = Inbox(1), Outbox(1)
    kept, size = [], 9000
    for i in range(7):
        lent = inbox.offer(size)
        packed, _ = outbox.pack(reply(np.full(1000, i)), lent)
        inbox.take_back(lent)
        kept.append(total(inbox.read(packed)))  # the array alone, not the message around it
    inbox.close()
    assert_gone(segments)
    assert [int(t.min()) for t in kept] == [int(t.max()) for t in kept] == list(range(7))


def test_workers_share_the_segments_that_nobody_uses(segments: list[str]) -> None:
    """Two at work and one reply that is read: three segments, whoever the workers are."""
    inbox, outboxes = Inbox(2), (Outbox(2), Outbox(2))
    lent = [inbox.offer(9000), inbox.offer(9000)]
    assert None not in lent
    assert lent[0] != lent[1], "nobody writes where another does"
    content = None
    for i in range(12):
        who = i % 2
        packed, _ = outboxes[who].pack(reply(np.full(1000, i)), lent[who])
        content = inbox.read(packed)
        inbox.take_back(lent[who])
        lent[who] = inbox.offer(9000)
        assert total(content).tolist() == [i] * 1000
    assert len(segments) <= 3
    del content
    inbox.close()
    assert_gone(segments)


def test_a_reply_that_outgrows_its_segment_goes_through_the_pipe(segments: list[str]) -> None:
    inbox, outbox = Inbox(1), Outbox(1)
    packed, size = outbox.pack(reply(np.arange(1000)), inbox.offer(64))
    assert size > 8000
    assert total(inbox.read(packed))[-1] == 999
    packed, _ = outbox.pack(reply(np.arange(1000)), inbox.offer(size))
    assert len(pickle.dumps(packed)) < 1000
    inbox.close()
    assert_gone(segments)


def test_replies_go_through_the_pipe_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shared_segments.shutil, "disk_usage", lambda path: usage)
    assert Inbox(1).offer(1000) is None


# -- the wire -----------------------------------------------------------------------------------


def test_parameters_travel_as_flower_itself_would_write_them() -> None:
    rng = np.random.default_rng(1)
    arrays = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=4), "s": np.array(2.5)}
    parameters = Parameters.from_arrays(arrays)
    record = to_record(parameters)
    for name, array in arrays.items():
        theirs = Array(array.astype(np.float32))
        assert record[name].data == theirs.data
        assert np.array_equal(record[name].numpy(), array.astype(np.float32))
    back = from_record(record)
    assert back.layout == parameters.layout
    assert back.digest() == parameters.digest()
    back.flat[:] = 0  # a copy, not a view of the message
    assert from_record(record).digest() == parameters.digest()


def test_records_of_other_types_become_float32() -> None:
    record = ArrayRecord({"w": Array(np.array([[1.5, -2.0]], np.float64))})
    read = from_record(record)
    assert read.flat.dtype == np.float32
    assert read.flat.tolist() == [1.5, -2.0]


@pytest.mark.parametrize("completed", [0, 1, 3])
@pytest.mark.parametrize("failed", [0, 2])
def test_updates_survive_the_wire(completed: int, failed: int) -> None:
    rng = np.random.default_rng(2)
    total = rng.integers(-(2**62), 2**62, size=5)
    results = [UserResult(7 + i, 3, 20 + i, 0.1 + i, 0.25) for i in range(completed)]
    failures = {100 + i: f"Traceback\n  ...\nValueError: {i}\n" for i in range(failed)}
    back = decode_update(encode_update(ChunkUpdate(total, results, failures)))
    assert back.results == results
    assert back.failures == failures
    assert back.total.tolist() == (total.tolist() if completed else [])
    assert sorted(users_in(encode_update(ChunkUpdate(total, results, failures)))) == sorted(
        [*(r.user for r in results), *failures]
    )


@pytest.mark.slow
def test_a_client_that_hangs_costs_its_own_round_only() -> None:
    grid = PoolGrid("toy_apps:app", workers=1)
    try:
        assert not grid.send_and_receive(orders("hang", "sum", ttl=1.0), timeout=1.5)
        assert [answer(r)["sum"] for r in replies(grid, "sum", "sum")] == [10.0, 10.0]
        assert not grid._messages
        assert not grid._replies
        assert not grid._broadcaster._segments
    finally:
        grid.close()


@pytest.mark.slow
def test_a_worker_that_hangs_does_not_outlive_a_killed_main_process() -> None:
    code = (
        "import multiprocessing, time, test_engines\n"
        "from fedsim.engines.pool import PoolGrid\n"
        "if __name__ == '__main__':\n"
        "    grid = PoolGrid('toy_apps:app', workers=1)\n"
        "    assert len(list(grid.send_and_receive(test_engines.orders('answer')))) == 1\n"
        "    grid.push_messages(test_engines.orders('hang'))\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    search = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the resource tracker says that it has cleaned up
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    ) as main:
        assert main.stdout is not None
        worker = psutil.Process(int(main.stdout.readline()))
        main.kill()
        worker.wait(timeout=60)


@pytest.mark.skipif(not starting.FORKS, reason="else a worker inherits no handler")
def test_a_worker_that_is_ended_at_work_says_nothing() -> None:
    """The command line turns SIGTERM into a Ctrl-C of its own, and workers are forked from it."""
    code = (
        "import signal\n"
        "from fedsim.engines import starting\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "starting.prepare()\n"
        "import test_engines\n"
        "from fedsim.engines.pool import PoolGrid\n"
        "grid = PoolGrid('toy_apps:app', workers=1)\n"
        "assert len(list(grid.send_and_receive(test_engines.orders('answer')))) == 1\n"
        "grid.push_messages(test_engines.orders('hang'))\n"
        "grid.close()\n"
        "print(grid._workers[0].process.exitcode)\n"
    )
    search = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert done.stderr == ""
    assert int(done.stdout) == -signal.SIGTERM


def test_shared_memory_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(shared_segments, "Segment", refuse)
    with pytest.raises(FedsimError, match=r"cannot be put into shared memory \(File too large\)"):
        Broadcaster().pack("message-1", orders("sum")[0].content)


def test_a_model_that_does_not_fit_into_shared_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shared_segments.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(FedsimError, match="no room for a model"):
        Broadcaster().pack("message-1", orders("sum")[0].content)


def test_a_worker_loads_nothing_of_the_server(config: Config) -> None:
    script = (
        "import sys, clients.app; from fedsim.config import client_config;"
        f"client_config({config.for_clients().as_json()!r});"
        "print([m for m in sys.modules if m.partition('.')[0] == 'server'])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not starting.FORKS, reason="workers are forked on Linux only")
@pytest.mark.parametrize("late", [False, True])
def test_workers_share_the_pages_of_the_process_that_prepared_them(late: bool) -> None:
    """What the command line did is what the server is, where it is a fork of the command."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARED, *(["pandas"] if late else [])],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answered, server_is_a_copy = done.stdout.split()
    assert answered == "7"
    assert server_is_a_copy == str(not late)


PREPARED = """
import sys
if len(sys.argv) > 1:
    import pandas
from multiprocessing import forkserver
from pathlib import Path
from fedsim.engines import starting
starting.prepare()
here, there = starting.pipe()
process = starting.start(type(there).send, there, 7)
answered = here.recv()
process.join()
server = forkserver._forkserver._forkserver_pid
commands = [Path(f"/proc/{p}/cmdline").read_bytes() for p in ("self", server)]
print(answered, commands[0] == commands[1])
"""


HOOKED = """
import importlib.util, sys
from pathlib import Path

root, preset, out, *sys.path[:0] = sys.argv[1:]
assert Path(root).resolve() not in [Path(folder).resolve() for folder in sys.path]


class Hook:
    def find_spec(self, name, path=None, target=None):
        if name in ("fedsim", "clients", "server"):
            file = Path(root, name, "__init__.py")
            return importlib.util.spec_from_file_location(name, file)


sys.meta_path.append(Hook())
import fedsim

assert fedsim.simulate(preset, "engine=pool", "server.rounds=1", out=out).status["round"] == 1
"""


@pytest.mark.slow
def test_workers_find_the_packages_where_an_import_hook_found_them(
    tiny: str, tmp_path: Path
) -> None:
    """As in an IPython outside of the environment into which fedsim is installed in place."""
    root = Path(fedsim.__file__).parents[1]
    (tmp_path / "hooked.py").write_text(HOOKED)
    without = [f for f in sys.path if f and Path(f).resolve() != root]
    command = [sys.executable, "-S", "hooked.py", str(root), tiny, str(tmp_path / "run"), *without]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
