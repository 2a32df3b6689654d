"""The ClientApp of fedsim, writing down all that a node is given; for `test_deploy_secrets`."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.app import app as real


def _plain(record: Any) -> Any:
    """A record's content, arrays as the text of their bytes."""
    if hasattr(record, "items"):
        return {str(name): _plain(value) for name, value in record.items()}
    data = getattr(record, "data", None)
    return bytes(data).hex() if data is not None else repr(record)


class Recording(ClientApp):
    """Each message, its context and the environment become a file in `FEDSIM_TEST_RECORD`."""

    def __call__(self, message: Message, context: Context) -> Message:
        """As the app itself."""
        received = {
            "kind": message.metadata.message_type,
            "message": _plain(message.content),
            "run config": dict(context.run_config),
            "node config": dict(context.node_config),
            "state": _plain(context.state),
        }
        name = f"{context.node_config.get('shard', '')[-1]}-{uuid.uuid4().hex}.json"
        Path(os.environ["FEDSIM_TEST_RECORD"], name).write_text(json.dumps(received))
        return real(message, context)


app = Recording()
