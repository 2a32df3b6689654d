"""The few private Flower names that a `Grid` outside Flower's own runtime needs; here only."""

from __future__ import annotations

from flwr.app import Message, RecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
FIRST_NODE = 2  # 1 is the SuperLink


def set_identity() -> None:
    """Let this process build Messages as if Flower's runtime had started it."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN_ID, 1, 1


def empty_run() -> Run:
    """The run information that a Grid reports."""
    return Run.create_empty(run_id=RUN_ID)


def set_message_id(message: Message, message_id: str) -> None:
    """Give an outgoing message the id under which its reply is pulled."""
    message.metadata.__dict__["_message_id"] = message_id


def isolated(content: RecordDict) -> RecordDict:
    """A copy of the records, so that a client that edits its message does not touch another's."""
    out = RecordDict()
    for name, record in content.items():
        out[name] = record.copy()
    return out
