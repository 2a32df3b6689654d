"""BlazeFL: its pool of processes, made anew each round, with a FedAvg worker of our objective.

The FedAvg worker that comes with it has the mean over a batch's tokens for a loss; the one below
differs in the loss and has the batches in the order of the round. Its threads need a Python
without the global lock and are not compared.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import torch
import torch.multiprocessing
from blazefl.contrib import FedAvgBaseServerHandler, FedAvgProcessPoolClientTrainer
from blazefl.contrib.fedavg import (
    FedAvgClientConfig,
    FedAvgDownlinkPackage,
    FedAvgPartitionType,
    FedAvgProcessPoolUplinkPackage,
)
from blazefl.core import (
    ModelSelector,
    PartitionedDataset,
    SHMHandle,
    deserialize_model,
    serialize_model,
)
from torch.utils.data import DataLoader, TensorDataset

from speed.job import PROCESSES, Job
from speed.models import build, named_arrays, sentence_loss
from speed.work_order import WorkOrder

_work = lru_cache(1)(WorkOrder.load)  # read before the workers are forked, so they have it


class Selector(ModelSelector):
    """The one network there is."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def select_model(self, model_name: str) -> torch.nn.Module:
        """The network with its initial parameters."""
        return build(_work(self.job.order))


class Users(PartitionedDataset):
    """The cohorts' texts. A copy goes to the workers with each user, so it holds only the job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.round = 1

    def get_dataset(self, type_: FedAvgPartitionType, cid: int | None) -> TensorDataset:
        """A user's sentences in the order of the round."""
        arrays = _work(self.job.order).ordered(self.round, cid)
        return TensorDataset(*(torch.from_numpy(array) for array in arrays))

    def set_dataset(self, type_: FedAvgPartitionType, cid: int | None, dataset: Any) -> None:
        """Nothing changes."""

    def get_dataloader(
        self,
        type_: FedAvgPartitionType,
        cid: int | None,
        batch_size: int | None,
        generator: torch.Generator | None,
    ) -> DataLoader:
        """Batches of a user, not shuffled again."""
        return DataLoader(self.get_dataset(type_, cid), batch_size=batch_size)


class Trainer(FedAvgProcessPoolClientTrainer):
    """BlazeFL's, with the worker below."""

    @staticmethod
    def worker(
        config: FedAvgClientConfig,
        payload: FedAvgDownlinkPackage,
        device: str,
        stop_event: threading.Event,
        *,
        shm_buffer: FedAvgProcessPoolUplinkPackage,
    ) -> FedAvgProcessPoolUplinkPackage:
        """One user's epoch; the model goes back in shared memory."""
        torch.set_num_threads(1)
        model = config.model_selector.select_model(config.model_name)
        deserialize_model(model, payload.model_parameters)
        loader = config.dataset.get_dataloader(
            FedAvgPartitionType.TRAIN, config.cid, config.batch_size, None
        )
        nominal_tokens = _work(config.dataset.job.order).about.nominal_tokens
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=config.lr)
        for x, y in loader:
            optimizer.zero_grad()
            sentence_loss(model(x), y, nominal_tokens).backward()
            optimizer.step()
        shm_buffer.model_parameters.copy_(serialize_model(model))
        return FedAvgProcessPoolUplinkPackage(config.cid, SHMHandle(), len(loader.dataset))

    def progress_fn(self, it: list[Any]) -> list[Any]:
        """No progress bar."""
        return it


def run(job: Job) -> None:
    """One simulation."""
    work = _work(job.order)
    torch.set_num_threads(1)
    torch.multiprocessing.set_start_method("fork")  # else each round imports torch in new workers
    n_users, cohort = len(work.users) - 1, work.cohorts.shape[1]
    users = Users(job)
    common = {
        "model_selector": Selector(job),
        "model_name": work.about.model,
        "dataset": users,
        "device": "cpu",
        "num_clients": n_users,
        "batch_size": work.about.batch_size,
        "seed": work.about.seed,
    }
    server = FedAvgBaseServerHandler(
        global_round=job.rounds, sample_ratio=(cohort + 0.5) / n_users, **common
    )
    trainer = Trainer(
        state_dir=job.folder / "state",
        epochs=1,
        lr=work.about.lr,
        num_parallels=PROCESSES,
        **common,
    )
    job.say("ready")
    for round in range(1, job.rounds + 1):
        users.round = round
        trainer.local_process(server.downlink_package(), work.cohort(round))
        for package in trainer.uplink_package():
            server.load(package)
        job.say("round", round=round)
    job.save(named_arrays(server.model))
