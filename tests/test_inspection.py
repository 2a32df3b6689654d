"""A reply that the client app would not write fails its users: it never reaches the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedsim.engines.flower_compat import set_identity
from fedsim.engines.wire import SUM, about_round, encode_update, failures_in, timed
from fedsim.evaluation import COUNTS
from fedsim.updates import RESOLUTION, ChunkUpdate, UserResult
from server.inspection import inspected

SIZE = 6
USERS = [3, 5]
ROUND = 4


def asked(kind: str) -> Message:
    """A message about the users."""
    set_identity()
    content = RecordDict({"config": ConfigRecord({"users": USERS, "round": ROUND})})
    return Message(content, dst_node_id=2, message_type=kind)


def update() -> RecordDict:
    """A sound train reply: two users, whose updates are (3, 4, 0, ...) times their weights."""
    delta = np.array([3, 4, 0, 0, 0, 0], np.int64)
    total = (delta * (2 + 7) / RESOLUTION).astype(np.int64)
    results = [UserResult(3, 2, 9, 1.5, 5.0), UserResult(5, 7, 9, 1.5, 5.0)]
    return about_round(encode_update(ChunkUpdate(total, results)), ROUND)


def scores() -> RecordDict:
    """A sound reply to an evaluation."""
    columns = {"user": USERS, **{name: [4.0, 6.0] for name in COUNTS}}
    return about_round(RecordDict({"metrics": MetricRecord(columns)}), ROUND)


def verdict(kind: str, content: RecordDict) -> dict[int, str]:
    """The failures that are made of a reply."""
    message = asked(kind)
    return failures_in(inspected(message, Message(content, reply_to=message), SIZE))


def test_sound_replies_pass() -> None:
    assert verdict("train", update()) == {}
    assert verdict("train.fedsgd", update()) == {}
    assert verdict("train", timed(update(), worker=1, seconds=0.5)) == {}
    assert verdict("evaluate", scores()) == {}
    diverged = scores()
    diverged.metric_records["metrics"]["nats"] = [float("nan"), float("inf")]
    assert verdict("evaluate", diverged) == {}
    failures = {3: "no text", 5: "no text"}
    failed = about_round(encode_update(ChunkUpdate(np.zeros(0, np.int64), [], failures)), ROUND)
    assert verdict("train", failed) == {3: "no text", 5: "no text"}


def with_total(total: np.ndarray) -> Callable[[RecordDict], None]:
    """Replace the sum."""

    def change(content: RecordDict) -> None:
        content["update"] = ArrayRecord({SUM: Array(total)})

    return change


def with_column(name: str, values: list) -> Callable[[RecordDict], None]:
    """Replace a column of the users' results."""

    def change(content: RecordDict) -> None:
        content.metric_records["results"][name] = values

    return change


def renamed(content: RecordDict) -> None:
    """Results that look like scores."""
    content["metrics"] = content.metric_records["results"].copy()
    del content["results"]


def without(name: str) -> Callable[[RecordDict], None]:
    """Take a record away."""
    return lambda content: content.__delitem__(name)


def without_reasons(content: RecordDict) -> None:
    """Failures that do not say why."""
    content["failures"] = ConfigRecord({"users": [3], "reasons": [""]})
    with_column("user", [5])(content)


# What a node that repeats itself sends: sound, of another round.
REPEATED = {
    "an earlier round": lambda content: about_round(content, ROUND - 1),
    "a later round": lambda content: about_round(content, ROUND + 1),
    "no round": without("about"),
    "the round as another record": lambda c: c.__setitem__("about", MetricRecord({"round": 4})),
}
TRAIN = {
    **REPEATED,
    "results renamed": renamed,
    "no update": without("update"),
    "no results": without("results"),
    "a sum of one": with_total(np.ones(1, np.int64)),
    "a matrix": with_total(np.ones((2, 3), np.int64)),
    "floats": with_total(np.ones(SIZE)),
    "a sum beyond its norms": with_total(np.full(SIZE, 2**62)),
    "the most negative sum": with_total(np.full(SIZE, -(2**63))),
    "a negative weight": with_column("sequences", [-100, 7]),
    "no weight": with_column("sequences", [0, 7]),
    "a huge weight": with_column("sequences", [10**12, 7]),
    "a weight that is no number of sequences": with_column("sequences", [2.5, 7.0]),
    "a NaN norm": with_column("update_norm", [float("nan"), 5.0]),
    "an infinite norm": with_column("update_norm", [float("inf"), 5.0]),
    "a negative norm": with_column("update_norm", [-5.0, 5.0]),
    "a score that nobody asked for": with_column("start_nats", [0.0, 1.0]),
    "a short column": with_column("tokens", [9]),
    "a user twice": with_column("user", [3, 3]),
    "another user": with_column("user", [3, 4]),
    "users as floats": with_column("user", [3.0, 5.0]),
    "a failure without a reason": without_reasons,
    "one more record": lambda content: content.__setitem__("x", ConfigRecord()),
    "a NaN time": lambda content: timed(content, 1, float("nan")),
    "a negative time": lambda content: timed(content, 1, -1.0),
    "no time": lambda content: content.__setitem__("timing", MetricRecord({"worker": 1})),
}


@pytest.mark.parametrize("change", TRAIN.values(), ids=TRAIN)
def test_a_tampered_update_fails_its_users(change: Callable[[RecordDict], None]) -> None:
    content = update()
    change(content)
    failures = verdict("train", content)
    assert set(failures) == set(USERS)
    assert all("malformed reply" in reason for reason in failures.values())


@pytest.mark.parametrize("nats", [0.0, -1.0, float("nan"), float("inf")])
def test_a_score_that_was_asked_for_is_a_positive_number(nats: float) -> None:
    message = asked("train")
    message.content.config_records["config"]["score_first"] = True
    for told, wrong in (([9.0, 7.0], set()), ([9.0, nats], set(USERS))):
        content = update()
        with_column("start_nats", told)(content)
        found = inspected(message, Message(content, reply_to=message), SIZE)
        assert set(failures_in(found)) == wrong


SCORES = {
    **REPEATED,
    "results": lambda c: c.__setitem__("results", MetricRecord({"user": USERS})),
    "no counts": lambda c: c.__delitem__("metrics"),
    "NaN": lambda c: c.metric_records["metrics"].__setitem__("words", [float("nan"), 1.0]),
    "negative": lambda c: c.metric_records["metrics"].__setitem__("words", [-1.0, 1.0]),
    "short": lambda c: c.metric_records["metrics"].__setitem__("words", [1.0]),
    "one column less": lambda c: c.metric_records["metrics"].__delitem__("words"),
    "others": lambda c: c.metric_records["metrics"].__setitem__("user", [3, 6]),
}


@pytest.mark.parametrize("change", SCORES.values(), ids=SCORES)
def test_tampered_scores_fail_their_users(change: Callable[[RecordDict], None]) -> None:
    content = scores()
    change(content)
    assert set(verdict("evaluate", content)) == set(USERS)
