"""Client apps for the engines' tests: they answer, raise or die as their message says."""

from __future__ import annotations

import os
import time

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def obey(message: Message, context: Context) -> Message:
    """Do what `do` says; the answer holds the sum and then spoils its own copy of the arrays."""
    config = message.content.config_records["config"]
    if config["do"] == "raise":
        raise ValueError(f"user {config['user']} has no text")
    if config["do"] == "die":
        os._exit(7)
    if config["do"] == "hang":
        time.sleep(3600)
    arrays = message.content.array_records["arrays"]
    total = float(arrays["w"].numpy().sum())
    arrays.clear()
    reply = ConfigRecord({"sum": total, "pid": os.getpid()})
    return Message(RecordDict({"reply": reply}), reply_to=message)
