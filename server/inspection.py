"""What a node replied, checked before it is believed: a reply comes from outside.

Whatever is not as the client app writes it becomes a failure of the users that were asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedsim.engines.wire import (
    SUM,
    decode_update,
    failed,
    failures_in,
    record_of,
    round_of,
    timing_in,
    users_in,
)
from fedsim.evaluation import COUNTS
from fedsim.privacy.contributions import Clipped
from fedsim.updates import ChunkUpdate, Contribution


class Malformed(Exception):
    """A reply that the client app would not write; says what is wrong with it."""


def inspected(
    message: Message,
    reply: Message,
    size: int,
    contribution: Contribution | None = None,
    known: Mapping[int, int] | None = None,
) -> RecordDict:
    """The reply's content where it is sound, else why each user that was asked has failed.

    `size` is the number of the model's parameters, `contribution` what a user may add to a sum,
    `known` how many sequences users train on, as far as the server knows: nobody claims more.
    """
    work: Any = record_of(message.content, "config", ConfigRecord)
    asked = work["users"]
    if reply.has_error():
        reason = reply.error.reason or f"the node replied with error code {reply.error.code}"
        return failed(dict.fromkeys(asked, reason))
    try:
        _check_round(reply.content, work["round"])
        if message.metadata.message_type == "evaluate":
            _check_scores(reply.content, list(asked))
        else:
            _check_update(reply.content, list(asked), size, contribution or Contribution())
            _check_start(reply.content, message)
            if not isinstance(contribution, Clipped):  # there each weighs one, whatever it claims
                _check_claims(reply.content, known or {})
    except Malformed as error:
        return failed(dict.fromkeys(asked, f"the node sent a malformed reply: {error}"))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"the node sent a malformed reply: {type(error).__name__} {error}"
        return failed(dict.fromkeys(asked, reason))
    return reply.content


def _check_round(content: RecordDict, asked: int) -> None:
    """A reply of an earlier round, sent once more, is not one of this round."""
    if "about" not in content:
        raise Malformed("it does not say which round it is about")
    if round_of(content) != asked:
        raise Malformed(f"it is about round {round_of(content)}, not {asked}")


def _check_users(content: RecordDict, asked: list[int], records: set[str]) -> None:
    unknown = set(content) - records
    if unknown:
        raise Malformed(f"a record '{min(unknown)}'")
    told = users_in(content)
    if not all(type(user) is int for user in told) or sorted(told) != sorted(asked):
        raise Malformed("it is about other users")
    for reason in failures_in(content).values():
        if not isinstance(reason, str) or not reason.strip():
            raise Malformed("a failure without a reason")


def _check_update(
    content: RecordDict, asked: list[int], size: int, contribution: Contribution
) -> None:
    _check_users(content, asked, {"about", "failures", "results", "update", "timing"})
    timing = timing_in(content)
    if timing is not None and not 0 <= timing[1] < math.inf:
        raise Malformed(f"its clients trained for {timing[1]} seconds")
    if ("results" in content) != ("update" in content):
        raise Malformed("results without an update, or the reverse")
    if "update" not in content:
        return
    array = record_of(content, "update", ArrayRecord)[SUM]
    if array.dtype != "int64" or tuple(array.shape) != (size,):
        raise Malformed(f"a sum of {array.dtype} {tuple(array.shape)} instead of int64 ({size},)")
    update = decode_update(content)
    reach, step = _reach(update, contribution), contribution.resolution
    # Each coordinate is at most the sum of the users' norms.
    # As Python's integers: the absolute value of the least int64 is not an int64.
    largest = max(max(int(part.max()), -int(part.min())) for part in _parts(update.total))
    if largest * step > reach * (1 + 1e-6) + step:
        raise Malformed("a sum larger than the norms that it reports")
    if isinstance(contribution, Clipped):  # a guarantee rests on the norm itself
        squares = (np.square(part, dtype=np.float64).sum() for part in _parts(update.total))
        norm = math.sqrt(sum(squares)) * step
        if norm > reach * (1 + 1e-6):
            raise Malformed("a sum larger than what its users may contribute")


def _check_start(content: RecordDict, message: Message) -> None:
    """What users say of the model that they were sent."""
    work: Any = record_of(message.content, "config", ConfigRecord)
    scored = bool(work.get("score_first", False))
    for result in decode_update(content).results:
        nats = result.start_nats
        if not (0 < nats < math.inf if scored else nats == 0):
            raise Malformed(f"user {result.user} scores the model at {nats} nats")


def _check_claims(content: RecordDict, known: Mapping[int, int]) -> None:
    """What users say of how much they have."""
    for result in decode_update(content).results:
        if result.sequences != known.get(result.user, result.sequences):
            raise Malformed(
                f"user {result.user} claims {result.sequences} sequences and has "
                f"{known[result.user]}"
            )


def _parts(total: np.ndarray) -> Iterator[np.ndarray]:
    """What stays in a processor's cache between two looks at it."""
    for start in range(0, len(total), 1 << 14):
        yield total[start : start + (1 << 14)]


def _reach(update: ChunkUpdate, contribution: Contribution) -> float:
    """The largest norm of the users' sum, each of them checked."""
    reach = 0.0
    for result in update.results:
        whole = (result.sequences, result.tokens)
        if not all(type(number) is int for number in whole) or min(whole) < 0 or not whole[0]:
            raise Malformed(f"user {result.user} has {whole} sequences and tokens")
        mine = contribution.reach(result)
        if not 0 <= mine < math.inf:  # so that NaN is refused too
            raise Malformed(f"user {result.user} has an update of norm {result.update_norm}")
        reach += mine
    return reach


def _check_scores(content: RecordDict, asked: list[int]) -> None:
    _check_users(content, asked, {"about", "failures", "metrics"})
    if "metrics" not in content:
        return
    columns = record_of(content, "metrics", MetricRecord)
    if set(columns) != {"user", *COUNTS}:
        raise Malformed("other columns than the counts of an evaluation")
    counts: dict[str, Any] = dict(columns)
    if {len(column) for column in counts.values()} != {len(counts["user"])}:
        raise Malformed("columns of different lengths")
    del counts["nats"]  # which a model that diverged may have without end
    if not all(0 <= float(value) < math.inf for column in counts.values() for value in column):
        raise Malformed("counts that are no counts")
