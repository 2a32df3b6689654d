"""The Flower ClientApp: `train`, `train.fedsgd`, `evaluate` and `query` over chunks of users.

A message carries user ids and the run's resolved config, so the app needs nothing but the message
and the corpus, on whatever engine it runs.
"""

from __future__ import annotations

import json
from functools import lru_cache

import pandas as pd
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.training import FlatModel, train_chunk
from fedsim.config import Config, from_dict
from fedsim.device import resolve_device, threads
from fedsim.engines.wire import encode_update, from_record
from fedsim.evaluation import Keyboard, evaluate_user
from fedsim.federation import open_federation
from fedsim.models import build

# On every engine: the last bits of a sum depend on it, and an engine's processes share the cores.
THREADS = 1

app = ClientApp()


@lru_cache(maxsize=1)
def _config(config_json: str) -> Config:
    return from_dict(json.loads(config_json))


@lru_cache(maxsize=1)
def _flat_model(config_json: str) -> FlatModel:
    # Once a process, not once a message: Flower runs an app's lifespan for every message.
    config = _config(config_json)
    vocabulary_size = len(open_federation(config).corpus.vocabulary)
    device = resolve_device(config.engine.device)
    return FlatModel(build(config.model.options, vocabulary_size, device), device)


@lru_cache(maxsize=1)
def _keyboard(config_json: str) -> Keyboard:
    words = open_federation(_config(config_json)).corpus.vocabulary.words
    return Keyboard(words, _flat_model(config_json).device)


def _train(message: Message, exact_gradient: bool) -> Message:
    work = message.content.config_records["config"]
    config_json = str(work["config"])
    config = _config(config_json)
    with threads(THREADS):
        update = train_chunk(
            _flat_model(config_json),
            from_record(message.content.array_records["arrays"]),
            [int(u) for u in work["users"]],  # type: ignore[union-attr]
            open_federation(config),
            config.client,
            config.seed,
            int(work["round"]),  # type: ignore[arg-type]
            exact_gradient,
        )
    return Message(encode_update(update), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """FedAvg's local training of the chunk's users."""
    return _train(message, exact_gradient=False)


@app.train("fedsgd")
def train_fedsgd(message: Message, context: Context) -> Message:
    """One exact gradient for each of the chunk's users."""
    return _train(message, exact_gradient=True)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Counts of hits, nats and keystrokes for each of the chunk's users, one column each."""
    work = message.content.config_records["config"]
    config_json, part = str(work["config"]), str(work["part"])
    federation = open_federation(_config(config_json))
    flat = _flat_model(config_json)
    from_record(message.content.array_records["arrays"]).load_into(flat.model)
    rows = []
    with threads(THREADS):
        for user in work["users"]:  # type: ignore[union-attr]
            mine = federation.sequences(int(user), part)
            counts = evaluate_user(flat.model, mine.tokens, mine.offsets, _keyboard(config_json))
            rows.append({"user": int(user), **counts})
    columns = pd.DataFrame(rows).to_dict("list")
    content = RecordDict({"metrics": MetricRecord(columns)})
    return Message(content, reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    """What this node hosts: how many users, and which corpus by content."""
    config = _config(str(message.content.config_records["config"]["config"]))
    corpus = open_federation(config).corpus
    reply = ConfigRecord({"users": corpus.users, "corpus": corpus.digest})
    return Message(RecordDict({"hosted": reply}), reply_to=message)
