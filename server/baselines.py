"""What the federated model is compared with on the same test users, kept between runs.

A baseline depends on the corpus, its own options and how the federated model is averaged, so a
hundred runs share one: it is cached under the fingerprint of what it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch

from fedsim import floors
from fedsim.config import Config
from fedsim.data.sources import cache_folder
from fedsim.data.store import Corpus
from fedsim.device import threads
from fedsim.errors import FedsimError
from fedsim.evaluation import Keyboard, Predictor, evaluate_user
from fedsim.federation import Federation
from fedsim.files import write_atomically
from fedsim.floors import FLOORS
from fedsim.models.ngram import KneserNey
from fedsim.models.pooled import Plan
from fedsim.parameters import Parameters
from fedsim.progress import Reporter
from server.central import THREADS, plan_of, pooled, train_centrally


def score_users(predictor: Predictor, corpus: Corpus, users: Sequence[int]) -> pd.DataFrame:
    """Per-user counts of some users, in this process."""
    keyboard = Keyboard(corpus.vocabulary.words, predictor.device)
    rows = []
    for user in users:
        mine = corpus.sequences(user, "all")
        rows.append({"user": user, **evaluate_user(predictor, mine.tokens, mine.offsets, keyboard)})
    return pd.DataFrame(rows)


FORMAT = 2  # raise when a change of the code changes what a baseline scores

Baseline = tuple[str, pd.DataFrame, dict[str, Any]]  # name, per-user counts, model columns
Scored = tuple[pd.DataFrame, dict[str, Any]]


def baselines(config: Config, federation: Federation, reporter: Reporter) -> list[Baseline]:
    """The baselines that the config asks for, scored on the same test users as the model."""
    out: list[Baseline] = []
    corpus, most = federation.corpus, config.evaluation.users
    users = federation.scored("test", most, config.seed).tolist()
    all_of_them = len(users) == len(corpus.split("test"))
    some = {} if all_of_them else {"users": most, "users_seed": config.seed}
    if len(federation.set_apart):
        some |= {"set_apart": len(federation.set_apart), "set_apart_seed": config.seed}
    if config.evaluation.trigram:
        key = _fingerprint(corpus, {"trigram": "kneser-ney", **some})
        out.append(("trigram", *_cached(key, lambda: _trigram(federation, users, reporter))))
        for name in FLOORS:
            key = _fingerprint(corpus, {"floor": name, **some})
            out.append((name, *_cached(key, partial(_floor, name, federation, users))))
    if config.evaluation.central:
        tree = config.as_dict()
        plan = plan_of(config, federation, len(pooled(federation)))
        central = {k: v for k, v in tree["evaluation"].items() if k.startswith("central")}
        key = _fingerprint(
            corpus,
            {
                **central,
                **some,
                "average": plan.average,
                "model": tree["model"],
                "seed": config.seed,
                "device": config.engine.device,
                "kernel": config.engine.kernel,
            },
        )
        out.append(
            ("central", *_cached(key, lambda: _central(config, federation, users, plan, reporter)))
        )
    return out


def _trigram(federation: Federation, users: list[int], reporter: Reporter) -> Scored:
    corpus = federation.corpus
    reporter.say("Trigram baseline: counting and scoring")
    model = KneserNey.fit([pooled(federation)], len(corpus.vocabulary))
    with threads(THREADS):
        return score_users(model, corpus, users), {}


def _floor(name: str, federation: Federation, users: list[int]) -> Scored:
    corpus = federation.corpus
    log_probs = FLOORS[name](pooled(federation), len(corpus.vocabulary))
    texts = (corpus.sequences(user, "all") for user in users)
    scored = floors.evaluate(log_probs, texts, Keyboard(corpus.vocabulary.words))
    rows = [{"user": user, **counts} for user, counts in zip(users, scored, strict=True)]
    return pd.DataFrame(rows), {}


def _central(
    config: Config, federation: Federation, users: list[int], plan: Plan, reporter: Reporter
) -> Scored:
    corpus, epochs = federation.corpus, plan.epochs

    def on_epoch(epoch: int, nats: float) -> None:
        reporter.say(f"Central training: epoch {epoch}/{epochs}  loss {nats:.3f}")

    reporter.say(f"Central training of the same network: {epochs} epochs")
    words = len(corpus.vocabulary)
    model = train_centrally(config, pooled(federation), words, plan, "central", on_epoch)
    with threads(THREADS):
        scores = score_users(model, corpus, users)
    released = Parameters.from_model(model)
    return scores, {"parameters": released.layout.size, "model_bytes": released.nbytes}


def _fingerprint(corpus: Corpus, depends_on: dict[str, Any]) -> str:
    made_by = {"format": FORMAT, "torch": torch.__version__}
    tree = {"corpus": corpus.digest, **made_by, **depends_on}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:24]


def _cached(key: str, make: Callable[[], Scored]) -> Scored:
    """What was kept under `key`, or `make()`, kept from now on."""
    folder = cache_folder() / "baselines"
    table, columns = folder / f"{key}.parquet", folder / f"{key}.json"
    try:
        return pd.read_parquet(table), json.loads(columns.read_text())
    except (OSError, ValueError):  # absent or damaged: make it
        users, found = make()
    with contextlib.suppress(OSError, FedsimError):  # a cache that cannot be written is none
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        users.to_parquet(buffer, index=False)
        write_atomically(table, buffer.getvalue())
        write_atomically(columns, json.dumps(found).encode())
    return users, found
