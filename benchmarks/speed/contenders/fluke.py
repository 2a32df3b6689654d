"""fluke: its `CentralizedFL` with clients made by hand, in one process of two threads.

fluke trains one client after the other in one process. Its import of torchvision, which it needs
for image sets, is answered by empty modules: the wheel on PyPI does not load beside a CPU build of
torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

import torch
import torchmetrics  # noqa: F401  # looks for the real torchvision, so before the empty modules

from speed.job import PROCESSES, Job
from speed.models import build, named_arrays, sentence_loss
from speed.work_order import WorkOrder


class _Absent(ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for _name in ("", ".models", ".datasets", ".datasets.utils", ".transforms"):
    sys.modules.setdefault("torchvision" + _name, _Absent("torchvision" + _name))

from fluke import DDict, FlukeENV  # noqa: E402  # after the empty modules
from fluke.algorithms import CentralizedFL  # noqa: E402
from fluke.client import Client  # noqa: E402
from fluke.config import OptimizerConfigurator  # noqa: E402
from fluke.data import FastDataLoader  # noqa: E402
from fluke.evaluation import ClassificationEval  # noqa: E402
from fluke.server import Server  # noqa: E402

NO_EVALUATION = 10**9


class Objective(torch.nn.Module):
    """The loss as a module, as fluke wants it."""

    def __init__(self, nominal_tokens: float) -> None:
        super().__init__()
        self.nominal_tokens = nominal_tokens

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See `sentence_loss`."""
        return sentence_loss(logits, targets, self.nominal_tokens)


class TimedServer(Server):
    """fluke's server with the cohorts of the work order; says when a round ends."""

    job: Job
    work: WorkOrder
    round: int = 0

    def get_eligible_clients(self, eligible_perc: float) -> Sequence[Client]:
        """The round's cohort, each with its sentences in the order of the round."""
        self.round += 1
        if self.round == 1:
            self.job.say("ready")
        chosen = [self.clients[user] for user in self.work.cohort(self.round)]
        for client in chosen:
            tensors = (torch.from_numpy(a) for a in self.work.ordered(self.round, client.index))
            client.train_set.tensors = tuple(tensors)
        return chosen

    def aggregate(
        self, eligible: Sequence[Client], client_models: Iterable[torch.nn.Module]
    ) -> None:
        """fluke's weighted mean."""
        super().aggregate(eligible, client_models)
        self.job.say("round", round=self.round)


def _client(work: WorkOrder, user: int, optimizer: OptimizerConfigurator) -> Client:
    data = FastDataLoader(
        *(torch.from_numpy(array) for array in work.padded(user)),
        num_labels=work.about.vocabulary,
        batch_size=work.about.batch_size,
        skip_singleton=False,
    )
    objective = Objective(work.about.nominal_tokens)
    # Without persistency, as 1,000 models need not be kept.
    return Client(user, data, None, optimizer, objective, local_epochs=1, persistency=False)


def run(job: Job) -> None:
    """One simulation."""
    work = job.work()
    torch.set_num_threads(PROCESSES)
    environment = FlukeENV()
    environment.set_device("cpu")
    n_classes = work.about.vocabulary
    environment.set_evaluator(ClassificationEval(eval_every=NO_EVALUATION, n_classes=n_classes))
    optimizer = OptimizerConfigurator(
        DDict(name=torch.optim.SGD, lr=work.about.lr), DDict(name="StepLR", step_size=1, gamma=1.0)
    )
    n_users = len(work.users) - 1
    clients = [_client(work, user, optimizer) for user in range(n_users)]
    server = TimedServer(build(work), None, clients, weighted=True)
    server.job, server.work = job, work
    simulation = CentralizedFL(n_users, None, {}, clients=clients, server=server)
    simulation.run(job.rounds, work.cohorts.shape[1] / n_users, finalize=False)
    job.save(named_arrays(server.model))
