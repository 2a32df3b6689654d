"""`train --dry-run`: the resolved config, what the run will cost and what it guarantees."""

from __future__ import annotations

import json
import time

import numpy as np
from rich.text import Text

from fedsim.config import Config
from fedsim.consoles import new_console
from fedsim.device import available_cores, threads
from fedsim.federation import Federation, open_federation
from fedsim.models import build
from fedsim.models.base import LanguageModel
from fedsim.models.batch import Batch
from fedsim.models.loss import training_loss
from fedsim.privacy.statement import as_text
from fedsim.progress import say
from fedsim.seeding import torch_stream
from fedsim.simulation import check, say_guarantee
from server.pretraining import first_corpus
from server.privacy import nothing_guaranteed, resolved, stated
from server.strategies import STRATEGIES

TRIAL_STEPS = 8
MOST_USERS = 10_000  # whose sizes are looked up: a mean of so many is close enough


def print_plan(config: Config, as_json: bool) -> None:
    """Print the config and the estimate; nothing is written."""
    check(config, say)
    say_guarantee(config, say)
    federation = open_federation(config)
    config = resolved(config, federation)
    first = first_corpus(config, federation)
    plan, privacy = estimate(config, federation), stated(config, federation, first=first)
    if as_json:
        more = {"privacy": privacy} if privacy else {}
        print(json.dumps({"config": config.as_dict(), "plan": plan, **more}, indent=2))
        return
    console = new_console()
    for section, values in config.as_dict().items():
        if isinstance(values, dict):
            console.print(section, style="bold")
            for key, value in values.items():
                console.print(f"  {key} = {json.dumps(value)}")
        else:
            console.print(Text.assemble((section, "bold"), f" = {values}"))
    console.print("cost", style="bold")
    for key, value in plan.items():
        console.print(f"  {key.replace('_', ' ')}: {value:,}")
    print(as_text(privacy) if privacy else nothing_guaranteed(config))


def estimate(config: Config, federation: Federation) -> dict[str, int | float]:
    """Tokens, bytes and an estimate of the time from a few timed training steps."""
    population = federation.population
    some = population[:: -(-len(population) // MOST_USERS)]  # their order is random
    tokens_per_user = float(federation.sizes(some)[:, 1].mean())
    strategy = STRATEGIES[config.strategy.name]
    epochs = 1 if "client.epochs" in strategy.without_effect else config.client.epochs
    tokens_per_round = tokens_per_user * config.server.cohort * epochs
    model = build(config.model.options, len(federation.corpus.vocabulary))
    tokens_per_second = _trial(model, federation, config.client.batch_size)
    workers = config.engine.workers or available_cores()
    if config.engine.name == "local":
        workers = 1
    seconds = tokens_per_round * config.server.rounds / (tokens_per_second * workers)
    planted = federation.planted
    return {
        "users": len(population),
        "people": int((population < federation.corpus.users).sum()),
        "canary_users": planted.users,
        "canaries": sum(canary.users > 0 for canary in planted.canaries),
        "canaries_without_room": planted.left_out,
        "parameters": model.n_parameters,
        "tokens_per_round": round(tokens_per_round),
        "passes_over_the_users": round(
            config.server.rounds * config.server.cohort / len(population), 2
        ),
        "download_bytes_per_client": 4 * model.n_parameters * strategy.models_sent,
        "upload_bytes_per_client": 4 * model.n_parameters,
        "bytes_in_all": 4
        * model.n_parameters
        * (1 + strategy.models_sent)
        * config.server.cohort
        * config.server.rounds,
        **_beside(config, model.n_parameters, len(population)),
        "minutes_of_rounds": round(seconds / 60, 1),
    }


def _beside(config: Config, parameters: int, users: int) -> dict[str, int]:
    """What the strategy needs beside a model's memory, where it needs anything."""
    strategy = STRATEGIES[config.strategy.name]
    needs = {
        "server_bytes_for_the_strategy": strategy.memory(config, parameters),
        "disk_bytes_for_the_strategy": strategy.disk(config, parameters, users),
    }
    return {name: size for name, size in needs.items() if size}


def _trial(model: LanguageModel, federation: Federation, batch_size: int) -> float:
    """Trained tokens per second of one worker."""
    model.initialise(torch_stream(0, "dry-run"))
    model.dropout_generator = torch_stream(0, "dry-run-dropout")
    users = federation.corpus.split("train")[:MOST_USERS]
    largest = max(users, key=lambda u: federation.corpus.sentence_count(u))
    text = federation.sequences(largest)
    batch_size = min(batch_size, len(text))  # no client has a larger one
    with threads(1):
        tokens, started = 0, time.perf_counter()
        for step in range(TRIAL_STEPS + 1):
            if step == 1:  # the first one warms up
                tokens, started = 0, time.perf_counter()
            chosen = np.arange(step * batch_size, (step + 1) * batch_size) % len(text)
            batch = Batch.of(text.tokens, text.offsets, chosen)
            loss, _ = training_loss(model, batch)
            loss.backward()
            tokens += len(batch)
        seconds = time.perf_counter() - started
    return tokens / seconds
