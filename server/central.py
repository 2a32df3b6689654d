"""Training on a server: the same network on text that lies in one place."""

from __future__ import annotations

from collections.abc import Callable

from fedsim.config import Config
from fedsim.data.sequences import Sequences
from fedsim.device import resolve_device, threads
from fedsim.federation import Federation
from fedsim.models import build, initialise
from fedsim.models.base import LanguageModel
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.models.pooled import Plan, train
from fedsim.seeding import stream, torch_stream

# A constant, not the machine's cores: the last bits of a sum depend on the number of threads, and
# a baseline should not change with the machine it is looked up on.
THREADS = 2


def pooled(federation: Federation) -> Sequences:
    """All sentences that real users train on: without canary users, and those set apart."""
    corpus, apart = federation.corpus, set(federation.set_apart.tolist())
    users = [user for user in corpus.split("train") if user not in apart]
    return Sequences.concatenate([corpus.sequences(user) for user in users])


def plan_of(config: Config, federation: Federation, sentences: int) -> Plan:
    """That of the baseline on so many sentences, whose model is averaged as the federated one is:
    over as much text, where a round is `server.cohort` users of the population."""
    options = config.evaluation
    average = config.server.average
    if average:
        steps = -(-sentences // options.central_batch_size)
        passes = config.client.epochs * config.server.cohort / len(federation.population)
        average **= 1 / (steps * passes)
    return Plan(options.central_epochs, options.central_lr, options.central_batch_size, average)


def train_centrally(
    config: Config,
    text: Sequences,
    vocabulary_size: int,
    plan: Plan,
    purpose: str,
    on_epoch: Callable[[int, float], None],
) -> LanguageModel:
    """AdamW with warm-up and cosine decay over shuffled sentences, as a server would train.

    It begins with the model that the federated run would begin with; `purpose` names the streams
    of the order and of dropout. `on_epoch(epoch, nats_per_token)` is called after each epoch.
    """
    device = resolve_device(config.engine.device)
    model = build(config.model.options, vocabulary_size, device)
    kernel, _ = resolve_kernel(config.engine.kernel, config.model.options, device)
    flat = flat_model(model, device, kernel)
    initialise(model, config.model.options, torch_stream(config.seed, "init"))
    model.dropout_generator = torch_stream(config.seed, f"{purpose}-dropout", device=device)
    with threads(flat.threads_each):
        train(
            flat,
            text,
            plan,
            lambda epoch: stream(config.seed, f"{purpose}-order", epoch),
            on_epoch,
        )
    return model
