"""Apple's pfl: its `FederatedAveraging` on the `SimulatedBackend`, data in memory.

Variants: "" is one process of two threads; "torchrun" two processes of one thread, which share
the users out by their number of sentences as pfl's benchmarks do.
"""

from __future__ import annotations

from itertools import cycle

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.dataset import Dataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops.selector import get_framework_module
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

from speed.job import PROCESSES, Job
from speed.models import build, named_arrays, sentence_loss
from speed.work_order import WorkOrder

NO_EVALUATION = 10**9


class Timed(TrainingProcessCallback):
    """Says when training begins and when a round ends."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        """See `TrainingProcessCallback`."""
        self.job.say("ready")
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """See `TrainingProcessCallback`."""
        self.job.say("round", round=central_iteration + 1)
        return False, Metrics()


def _data(work: WorkOrder) -> FederatedDataset:
    """Users in the order of the cohorts; a user's sentences in the order of the round."""
    keys = [(round, user) for round in range(1, work.n_rounds + 1) for user in work.cohort(round)]
    samples = cycle(keys)  # pfl draws thousands ahead

    def user_of(key: tuple[int, int]) -> Dataset:
        tensors = [torch.from_numpy(array) for array in work.ordered(*key)]
        return Dataset(raw_data=tensors, user_id=str(key[1]))

    weights = {key: work.n_sentences(key[1]) for key in keys}
    world = get_framework_module().distributed.world_size
    # With one process there is nothing to share out, and pfl would start a helper for it.
    return FederatedDataset(
        user_of, lambda: next(samples), user_id_to_weight=weights if world > 1 else None
    )


def _with_objective(model: nn.Module, nominal_tokens: float) -> nn.Module:
    """pfl calls `loss` and `metrics` of the module."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return sentence_loss(model(x), y, nominal_tokens)

    def metrics(x: Tensor, y: Tensor) -> dict[str, Weighted]:
        return {"loss": Weighted(0.0, 1)}  # asked for by name, and never evaluated

    model.loss, model.metrics = loss, metrics
    return model


def run(job: Job) -> None:
    """One simulation; under torchrun only the first process reports."""
    work = job.work()
    torch.set_num_threads(1 if job.variant == "torchrun" else PROCESSES)
    network = _with_objective(build(work), work.about.nominal_tokens)
    trained = [p for p in network.parameters() if p.requires_grad]
    model = PyTorchModel(network, torch.optim.SGD, torch.optim.SGD(trained, 1.0))
    data = _data(work)
    backend = SimulatedBackend(data, data, postprocessors=[WeightByDatapoints()])
    first = get_framework_module().distributed.global_rank == 0
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=job.rounds,
            evaluation_frequency=NO_EVALUATION,
            train_cohort_size=work.cohorts.shape[1],
            val_cohort_size=0,
        ),
        backend,
        model,
        NNTrainHyperParams(
            local_learning_rate=work.about.lr,
            local_num_epochs=1,
            local_batch_size=work.about.batch_size,
        ),
        NNEvalHyperParams(local_batch_size=work.about.batch_size),
        callbacks=[Timed(job)] if first else [],
    )
    if first:
        job.save(named_arrays(network))
