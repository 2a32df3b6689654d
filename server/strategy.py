"""The strategy base: Flower's `Strategy` with users sampled by us and sums without rounding.

One round: sample users, send them in chunks to the nodes that host them, add the replies' exact
sums as they arrive, ask once more for what failed, divide by the weight, server optimizer, then
the listener (tables, checkpoint, leakage). Flower's stock strategies are not used for this: they
sample nodes from the global random generator, round in order of arrival, and restart at round 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from fedsim.config import Config
from fedsim.engines.wire import decode_update, failures_in, record_of, to_record
from fedsim.errors import FedsimError, last_line
from fedsim.evaluation import summarise
from fedsim.federation import Federation
from fedsim.options import Options
from fedsim.parameters import Parameters, distance
from fedsim.privacy.base import Release
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.noise_keys import NoiseKey, released_once
from fedsim.profile import Profile
from fedsim.registry import Registry
from fedsim.search_space import Range
from fedsim.updates import Aggregate, ChunkUpdate, Contribution, UserResult
from server.dispatch import Beside, Dispatch
from server.optimizers import OPTIMIZERS, State
from server.privacy import draw_of, mechanism_of, new_key
from server.sampling import sample_cohort
from server.state import ServerState

WITHOUT_DP_SGD = tuple(name for name in MECHANISMS if name != "dp-sgd")


class NoOptions(Options):
    """A strategy without options of its own."""


@dataclass(frozen=True)
class RoundOutcome:
    """What happened in one round, for the tables."""

    round: int
    cohort: np.ndarray
    results: list[UserResult]
    failures: dict[int, str]
    update_norm: float
    seconds: float
    privacy: Mapping[str, float]  # what the mechanism did, see `fedsim.privacy.base.Release`
    projections: np.ndarray  # of the released mean update on the canaries of an audit
    models_sent: int = 1  # to each user, in bytes of a model


class Listener(Protocol):
    """Told after every round and evaluation; it writes tables, checkpoints and progress."""

    def notice(self, text: str) -> None:
        """Something that whoever watches the run should know."""

    def clients_failed(self, round: int, cohort: np.ndarray, failures: dict[int, str]) -> None:
        """Users of the round's cohort that did not complete, with the reasons."""

    def round_done(self, state: ServerState, outcome: RoundOutcome) -> None:
        """A round has been applied; `state` is the state after it."""

    def evaluated(self, state: ServerState, split: str, users: pd.DataFrame) -> None:
        """Held-out users have been scored: one row of counts a user."""


class FederatedStrategy(Strategy):
    """FedAvg's loop with one exchangeable part each for sampling, combining and applying."""

    Options: ClassVar[type[Options]] = NoOptions
    message_type: ClassVar[str] = "train"
    without_effect: ClassVar[tuple[str, ...]] = ()  # config keys that this strategy ignores
    # Privacy mechanisms that may go with it ("none" always does), None: all; and the reason why
    # others may not.
    mechanisms: ClassVar[tuple[str, ...] | None] = None
    mechanisms_because: ClassVar[str] = ""
    # Config values that it sets unless the user does, by key; a section's name stands for its name.
    implies: ClassVar[Mapping[str, Any]] = {}
    one_reply_per_user: ClassVar[bool] = False  # it looks at one user's update at a time
    asks: ClassVar[Mapping[str, Any]] = {}  # of clients, beside training: part of the work record
    models_sent: ClassVar[int] = 1  # to each user of a round, in bytes of a model
    # What a fair comparison tunes beside the server optimizer's own: config key -> range.
    search: ClassVar[Mapping[str, Range]] = {"client.lr": Range(0.3, 6.0)}

    def __init__(
        self,
        config: Config,
        federation: Federation,
        state: ServerState,
        listener: Listener,
        profile: Profile | None = None,
        folder: Path | None = None,
        key: NoiseKey | None = None,
    ) -> None:
        """`folder` is the run's, for strategies that keep files there. `key` is what noise and
        private cohorts are drawn from; without one that of a new run."""
        self.config = config
        self.federation = federation
        self.state = state
        self.listener = listener
        self.folder = folder
        optimizer = OPTIMIZERS[config.optimizer.name]
        self.optimizer = optimizer(config.optimizer.options)
        self.profile = profile or Profile()
        self.key = key or new_key(config, federation)
        self.mechanism = mechanism_of(config, federation, self.key)
        size = state.parameters.layout.size
        told = self.key.id if self.mechanism.clients_draw else ""
        self.dispatch = Dispatch(config, federation, size, listener.notice, self.profile, told)
        self._drawn: tuple[int, np.ndarray] | None = None

    # -- what a strategy may change ----------------------------------------------------------

    @classmethod
    def check(cls, config: Config) -> None:
        """Raises FedsimError where the config does not fit the strategy."""

    @classmethod
    def initial_state(cls, size: int, users: int) -> State:
        """What it remembers before round 1: arrays whose names, types and shapes stay."""
        return {}

    @classmethod
    def memory(cls, config: Config, parameters: int) -> int:
        """Bytes that the server needs beside what FedAvg's does."""
        return 0

    @classmethod
    def disk(cls, config: Config, parameters: int, users: int) -> int:
        """Bytes that it may keep in the run's folder while the run is under way."""
        return 0

    def aggregate(self) -> Aggregate:
        """Nothing added yet; its `mean` is the update that the server optimizer is given."""
        return Aggregate(self.state.parameters.layout, self._contribution())

    def heard(self, update: ChunkUpdate) -> None:
        """A reply has been added."""

    def beside(self) -> Beside | None:
        """Makes the records that a user's message carries beside the model; None: there are none.

        Needs `one_reply_per_user`.
        """
        return None

    def finished(self) -> None:
        """The run is over and recorded; it will not be resumed."""

    def cohort(self, server_round: int) -> np.ndarray:
        """The users of a round, ascending."""
        draw = draw_of(self.config, self.federation, server_round, self.key)
        return sample_cohort(self.config.server.sampler, draw)

    def combine(self, replies: Iterable[Message]) -> Aggregate:
        """The exact sum over all replies; what did not come back counts as failed users."""
        aggregate = self.aggregate()
        for reply in replies:
            update = decode_update(reply.content)
            aggregate.add(update)
            self.heard(update)
            del reply, update  # its memory takes the next one
        return aggregate

    def apply(self, release: Release, completed: list[int]) -> ServerState:
        """The state after the round: the server optimizer on the mean update."""
        state = self.state
        parameters, optimizer = state.parameters, state.optimizer
        if release.mean is not None:
            flat, optimizer = self.optimizer.step(parameters.flat, release.mean, optimizer)
            parameters = Parameters(parameters.layout, flat)
        average = self.config.server.average
        return state.stepped(parameters, optimizer, release.state, completed, average)

    # -- Flower's interface ------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Messages that cover the round's cohort."""
        users = self.federation.present(self._draw(server_round))
        lr = self.config.client.lr_in(server_round, self.config.server.rounds)
        told = self.mechanism.work(self.state.mechanism)
        work = {**config, "round": server_round, "lr": lr, **told, **self.asks}
        chunk, alone = self.config.engine.chunk, self.one_reply_per_user
        kind = self.message_type
        return self.dispatch.messages(grid, kind, users, arrays, work, chunk, alone=alone)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add the replies and step the global model."""
        started = time.perf_counter()
        cohort = self._draw(server_round)
        with self.profile.adding():
            aggregate = self.combine(replies)
        self.profile.trained(self.dispatch.nodes, sum(r.tokens for r in aggregate.results))
        if aggregate.failures:
            self.listener.clients_failed(server_round, cohort, aggregate.failures)
        self._stop_if_too_few(server_round, len(cohort), aggregate)
        results, failures = aggregate.results, aggregate.failures
        before, metrics = self.state.parameters.flat, _train_metrics(aggregate)
        with self.profile.part("aggregation"):
            if self.key.kind == "fresh":
                released_once(self.key, server_round, aggregate.digest())
            # The noise of a mechanism falls between the sum and the division, here and only here.
            release = self.mechanism.release(aggregate, server_round, self.state.mechanism)
            del aggregate  # twice a model's bytes, before there are more
            self.state = self.apply(release, [r.user for r in results])
            facts = release.facts
            projections = self.federation.audit.projections(release.mean)
            del release
            norm = distance(self.state.parameters.flat, before)
        seconds = time.perf_counter() - started
        outcome = RoundOutcome(
            server_round, cohort, results, failures, norm, seconds, facts, projections,
            self.models_sent,
        )  # fmt: skip
        with self.profile.part("record"):
            self.listener.round_done(self.state, outcome)
        with self.profile.part("communication"):
            return to_record(self.state.parameters), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Messages that cover the scored users of the split that `config` names."""
        most, seed = self.config.evaluation.users, self.config.seed
        users = self.federation.scored(str(config["split"]), most, seed)
        work = {"round": server_round}
        return self.dispatch.messages(grid, "evaluate", users, arrays, work, part="all")

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Join the users' counts; returns their summary."""
        parts: list[pd.DataFrame] = []
        failures: dict[int, str] = {}
        for reply in replies:
            failures |= failures_in(reply.content)
            if "metrics" in reply.content:
                parts.append(pd.DataFrame(dict(record_of(reply.content, "metrics", MetricRecord))))
        scores = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"user": []})
        missing = set(failures) - set(scores.user)
        if missing:
            raise FedsimError(
                f"The evaluation after round {server_round} failed for {len(missing)} users: "
                f"{last_line(failures[min(missing)])}"
            )
        self._evaluation = scores.sort_values("user", ignore_index=True)
        return MetricRecord(dict(summarise(self._evaluation)))

    def summary(self) -> None:
        """Nothing to log: the run folder holds the resolved config."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run until `num_rounds` rounds are done in all, starting after those of the state."""
        result = Result()
        arrays = initial_arrays
        del initial_arrays  # a model's bytes, not needed after the first round
        if self.state.round and self._evaluation_due(self.state.round, num_rounds):
            self.evaluate(grid, "validation", timeout)  # a checkpoint lies before its evaluation
        for server_round in range(self.state.round + 1, num_rounds + 1):
            with self.profile.part("communication"):
                messages = self.configure_train(
                    server_round, arrays, train_config or ConfigRecord(), grid
                )
            how = self._contribution(), self.one_reply_per_user, self.beside()
            replies = self.dispatch.replies(grid, messages, timeout, *how)
            new_arrays, metrics = self.aggregate_train(server_round, replies)
            if new_arrays is not None and metrics is not None:
                arrays = new_arrays
                result.train_metrics_clientapp[server_round] = metrics
            if self._evaluation_due(server_round, num_rounds):
                users = self.evaluate(grid, "validation", timeout)
                scores = MetricRecord(dict(summarise(users)))
                result.evaluate_metrics_clientapp[server_round] = scores
            if evaluate_fn is not None and (res := evaluate_fn(server_round, arrays)) is not None:
                result.evaluate_metrics_serverapp[server_round] = res
        result.arrays = arrays
        return result

    def evaluate(self, grid: Grid, split: str, timeout: float) -> pd.DataFrame:
        """Score the released model on held-out users of a split and tell the listener.

        Returns one row of counts a user (`fedsim.evaluation.COUNTS`).
        """
        config = ConfigRecord({"split": split})
        with self.profile.part("evaluation"):
            released = to_record(self.state.released)
            messages = self.configure_evaluate(self.state.round, released, config, grid)
            replies = self.dispatch.replies(grid, messages, timeout)
            self.aggregate_evaluate(self.state.round, replies)
        with self.profile.part("record"):
            self.listener.evaluated(self.state, split, self._evaluation)
        return self._evaluation

    def _contribution(self) -> Contribution:
        """How updates enter the sum in the round that comes next, as its clients know it."""
        state = self.state
        work = {"round": state.round + 1, **self.mechanism.work(state.mechanism)}
        options, size = self.config.privacy.options, state.parameters.layout.size
        return self.mechanism.contribution(options, work, size)

    def _draw(self, server_round: int) -> np.ndarray:
        """The round's cohort, drawn once."""
        if self._drawn is None or self._drawn[0] != server_round:
            self._drawn = (server_round, self.cohort(server_round))
        return self._drawn[1]

    def _evaluation_due(self, server_round: int, num_rounds: int) -> bool:
        return server_round % self.config.evaluation.every == 0 or server_round == num_rounds

    def _stop_if_too_few(self, server_round: int, cohort: int, aggregate: Aggregate) -> None:
        """Raise where the failures of a round are more than the policy allows."""
        policy, completed = self.config.server, len(aggregate.results)
        if not aggregate.failures:
            return
        user, reason = next(iter(aggregate.failures.items()))
        said = f"user {user} said: {last_line(reason)}"
        if self.mechanism.never_stops:  # how many failed must not decide what is released
            return
        if not completed:
            raise FedsimError(f"All {cohort} clients of round {server_round} failed; {said}")
        if policy.on_failure == "abort":
            raise FedsimError(
                f"{len(aggregate.failures)} of {cohort} clients of round {server_round} failed "
                f"and server.on_failure is 'abort'; {said}"
            )
        if completed < min(policy.min_completed, cohort):
            raise FedsimError(
                f"Only {completed} of {cohort} clients completed round {server_round}, below "
                f"server.min_completed = {policy.min_completed}; {said}"
            )


STRATEGIES: Registry[type[FederatedStrategy]] = Registry("strategy")


def _train_metrics(aggregate: Aggregate) -> MetricRecord:
    tokens = sum(r.tokens for r in aggregate.results)
    nats = sum(r.loss_nats for r in aggregate.results)
    return MetricRecord(
        {
            "users": len(aggregate.results),
            "failed": len(aggregate.failures),
            "tokens": tokens,
            "loss_nats_per_token": nats / max(tokens, 1),
        }
    )
