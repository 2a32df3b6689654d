"""The ClientApp of fedsim on a node that hangs in a round, for `test_deploy_killed`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from clients.app import app as real


class Hanging(ClientApp):
    """While the file `FEDSIM_TEST_HANG` is there, node 1 trains and says nothing in round 2."""

    def __call__(self, message: Message, context: Context) -> Message:
        """As the app itself otherwise."""
        reply, order = real(message, context), Path(os.environ["FEDSIM_TEST_HANG"])
        work: Any = message.content["config"]
        last = str(context.node_config.get("shard", "")).endswith("1")
        training = message.metadata.message_type == "train"
        if last and training and work["round"] == 2 and order.is_file():
            order.with_suffix(".hangs").touch()
            time.sleep(600)
        return reply


app = Hanging()
