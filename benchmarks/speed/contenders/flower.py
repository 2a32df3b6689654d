"""Flower's own simulation on Ray, with a ClientApp as in its PyTorch tutorial.

Variants: "" is what the documentation sets up, a supernode for each user and the default
resources of a client; "tuned" has a supernode for each place in the cohort, the user being chosen
inside the ClientApp, and two actors of one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.utils.data import DataLoader, TensorDataset

from speed.job import PROCESSES, Job
from speed.models import build, fedsim_arrays, sentence_loss
from speed.work_order import WorkOrder

client_app = ClientApp()
_work = lru_cache(1)(WorkOrder.load)  # once a process, as the tutorial caches its data set


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One user's epoch."""
    config = message.content["config"]
    work = _work(Path(str(config["order"])))
    round = int(config["server-round"])
    if "user" in config:
        user = int(config["user"])
    else:
        torch.set_num_threads(1)
        user = work.cohort(round)[int(context.node_config["partition-id"])]
    model = build(work)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    data = TensorDataset(*(torch.from_numpy(array) for array in work.ordered(round, user)))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=work.about.lr)
    running = 0.0
    loader = DataLoader(data, batch_size=work.about.batch_size)
    for x, y in loader:
        optimizer.zero_grad()
        loss = sentence_loss(model(x), y, work.about.nominal_tokens)
        loss.backward()
        optimizer.step()
        running += loss.item()
    metrics = {"train_loss": running / len(loader), "num-examples": len(data)}
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
    return Message(content=RecordDict(content), reply_to=message)


class TimedFedAvg(FedAvg):
    """Flower's FedAvg, which says when a round begins and ends."""

    def __init__(self, job: Job, work: WorkOrder, nodes: int) -> None:
        cohort = work.cohorts.shape[1]
        super().__init__(
            fraction_train=cohort / nodes,
            fraction_evaluate=0.0,
            min_train_nodes=cohort,
            min_available_nodes=nodes,
        )
        self.job, self.work = job, work

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The sampled nodes' messages; without tuning each says which user of the cohort it is.

        Flower samples nodes from Python's global generator, and everybody is to train the same
        users: so the nodes are Flower's choice and the users ours.
        """
        if server_round == 1:
            self.job.say("ready")
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if self.job.variant != "tuned":
            for message, user in zip(messages, self.work.cohort(server_round), strict=True):
                mine = ConfigRecord({**message.content["config"], "user": user})
                message.content = RecordDict({**message.content, "config": mine})
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's, then the line that the round is over; a failed client ends the comparison."""
        replies = list(replies)
        failed = [reply.error.reason for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} clients failed: {failed[0]}")
        result = super().aggregate_train(server_round, replies)
        self.job.say("round", round=server_round)
        return result


def run(job: Job) -> None:
    """One simulation."""
    work = job.work()
    tuned = job.variant == "tuned"
    nodes = work.cohorts.shape[1] if tuned else len(work.users) - 1
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = TimedFedAvg(job, work, nodes)
        result = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(build(work).state_dict()),
            train_config=ConfigRecord({"order": str(job.order)}),
            num_rounds=job.rounds,
        )
        job.save(fedsim_arrays({k: a.numpy() for k, a in result.arrays.items()}))

    backend: dict[str, dict[str, float]] = {"init_args": {"num_cpus": PROCESSES}}
    if tuned:
        backend["client_resources"] = {"num_cpus": 1, "num_gpus": 0.0}
    run_simulation(server_app, client_app, nodes, backend_config=backend)
