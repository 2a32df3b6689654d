"""The Flower ClientApp: `train`, `train.fedsgd`, `evaluate` and `query` over chunks of users.

A message carries user ids and the run's resolved config, so the app needs nothing but the message
and the corpus, on whatever engine it runs. A node with text of its own names it in its node
config: `shard`, a folder that `data shard` wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.auditing import planting
from clients.training import Training, averaging, exact_gradient, train_chunk
from fedsim.config import client_config
from fedsim.device import resolve_device, threads
from fedsim.engines.wire import (
    about_round,
    correction_in,
    encode_update,
    from_record,
    record_of,
    timed,
    zeros_for_reply,
)
from fedsim.errors import FedsimError
from fedsim.evaluation import COUNTS, Keyboard, evaluate_user
from fedsim.federation import open_federation
from fedsim.models import build
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.parameters import Parameters
from fedsim.privacy.key_stream import KeyStream
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.noise_keys import client_key

# On every engine: the last bits of a sum depend on it, and an engine's processes share the cores.
THREADS = 1

app = ClientApp()


class Workplace:
    """What a process keeps between messages of one run: config, users' text, a model to train.

    Kept in a cache of the process, since Flower runs an app's lifespan for every message.
    """

    def __init__(self, config_json: str, corpus_digest: str, shard: str) -> None:
        self.shard = shard
        self.config = client_config(config_json)
        self.federation = open_federation(self.config, shard)
        corpus = self.federation.corpus
        if corpus.digest != corpus_digest:
            raise FedsimError(
                f"this node's corpus '{corpus.name}' is not the server's: the text was changed "
                "after the run began, or differs between machines; restore it."
            )
        device = resolve_device(self.config.engine.device)
        options = self.config.model.options
        kernel, _ = resolve_kernel(self.config.engine.kernel, options, device)
        self.mechanism = MECHANISMS[self.config.privacy.name]
        model = build(options, len(corpus.vocabulary), device)
        if self.trains_privately:
            from clients.private import private_model  # Opacus, which nothing else needs

            self.flat = private_model(model, device, kernel)
        else:
            self.flat = flat_model(model, device, kernel)

    @property
    def trains_privately(self) -> bool:
        """Whether local training is DP-SGD."""
        return self.config.privacy.name == "dp-sgd"

    def noise_key(self, work: Mapping[str, Any], parameters: Parameters) -> bytes:
        """What this message's clients draw their own noise from; empty where they draw none.

        It follows from all that the message says but whom it asks: with another clip norm, noise,
        rate or learning rate the same noise would cancel in a difference.
        """
        if not self.mechanism.clients_draw:
            return b""
        settings = self.config.as_dict()
        del settings["engine"]  # which must not change a result
        told_of = sorted((k, v) for k, v in work.items() if k not in ("users", "config"))
        said = json.dumps(settings, sort_keys=True) + repr(told_of)
        told = f"{work.get('noise', '')}/{hashlib.sha256(said.encode()).hexdigest()}"
        if self.config.privacy.options.noise == "fresh":
            return client_key(self.shard, told, parameters.digest().encode())
        return hashlib.sha256(f"fedsim seeded noise of clients/{told}".encode()).digest()

    def training(
        self, round: int, lr: float, key: bytes, correction: np.ndarray | None = None
    ) -> Training:
        """Local training of a round, each step corrected where there is a correction, (size,).

        key: see `noise_key`.
        """
        config = self.config
        if self.trains_privately:
            from clients.private import PrivateOptions, private_training

            how = config.privacy.options
            private = PrivateOptions(
                lr, how.clip_norm, how.noise_multiplier, how.sample_rate, how.steps
            )
            return private_training(private, key, round, how.noise == "fresh")
        options = config.client.model_copy(update={"lr": lr})
        moved = None if correction is None else torch.from_numpy(correction).to(self.flat.device)
        return averaging(options, config.seed, round, moved)

    @cached_property
    def keyboard(self) -> Keyboard:
        """For evaluation only."""
        return Keyboard(self.federation.corpus.vocabulary.words, self.flat.device)


_workplace = lru_cache(maxsize=1)(Workplace)


def _work(message: Message, context: Context) -> tuple[Workplace, Any]:
    """The message's workplace, and what it asks for."""
    work: Any = record_of(message.content, "config", ConfigRecord)
    shard = str(context.node_config.get("shard", ""))
    return _workplace(work["config"], work["corpus"], shard), work


def _train(message: Message, context: Context, exact: bool) -> Message:
    place, work = _work(message, context)
    parameters = from_record(record_of(message.content, "arrays", ArrayRecord))
    correction = correction_in(message.content)
    key = place.noise_key(work, parameters)
    training = place.training(work["round"], work["lr"], key, correction)
    if exact:
        training = exact_gradient
    if place.federation.audit.users:
        training = planting(training, place.federation, work)
    contribution = place.mechanism.contribution(
        place.config.privacy.options,
        work,
        parameters.layout.size,
        lambda user, hidden: KeyStream(key, f"update {hidden}", work["round"], user),
    )
    with threads(THREADS):
        started = time.perf_counter()
        update = train_chunk(
            place.flat,
            parameters,
            list(work["users"]),
            place.federation,
            training,
            contribution,
            place.config.seed,
            work["round"],
            zeros_for_reply(place.flat.layout.size),
            bool(work.get("score_first", False)),
        )
        seconds = time.perf_counter() - started
    place.federation.corpus.forget_pages()
    # A process is a worker, but for nodes: a SuperNode starts one for each message.
    worker = context.node_id if context.node_config.get("shard") else os.getpid()
    reply = about_round(timed(encode_update(update), worker, seconds), work["round"])
    return Message(reply, reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """FedAvg's local training of the chunk's users."""
    return _train(message, context, exact=False)


@app.train("fedsgd")
def train_fedsgd(message: Message, context: Context) -> Message:
    """One exact gradient for each of the chunk's users."""
    return _train(message, context, exact=True)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Counts of hits, nats and keystrokes for each of the chunk's users, one column each."""
    place, work = _work(message, context)
    from_record(record_of(message.content, "arrays", ArrayRecord)).load_into(place.flat.model)
    rows = []
    with threads(THREADS):
        for user in work["users"]:
            mine = place.federation.sequences(user, "all")
            counts = evaluate_user(place.flat.model, mine.tokens, mine.offsets, place.keyboard)
            rows.append({"user": user, **counts})
    place.federation.corpus.forget_pages()
    columns: dict[str, Any] = {n: [row[n] for row in rows] for n in ("user", *COUNTS)}
    content = RecordDict({"metrics": MetricRecord(columns)})
    return Message(about_round(content, work["round"]), reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    """What this node hosts: of which corpus, and a flag for each user unless it has them all."""
    place, _ = _work(message, context)
    federation = place.federation
    flags = federation.hosted
    hosted = ConfigRecord(
        {
            "corpus": federation.corpus.digest,
            "users": federation.users,
            "flags": b"" if flags is None else np.packbits(flags).tobytes(),
        }
    )
    return Message(RecordDict({"hosted": hosted}), reply_to=message)
