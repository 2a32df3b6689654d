"""What leakage measures ask of the rooms above them: runs of their own, and one client's update."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from clients.training import Training, averaging, exact_gradient
from fedsim.config import Config
from fedsim.data.sequences import Sequences
from fedsim.device import resolve_device, threads
from fedsim.models import build
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.parameters import Parameters
from fedsim.runs import Run
from fedsim.seeding import torch_stream
from fedsim.steps import Heard, nobody
from fedsim.studies.cell_store import CellStore
from fedsim.studies.grid import run_all
from fedsim.studies.simulated import simulation_of
from server.strategies import STRATEGIES

_EVERY_S = 2.0


@dataclass(frozen=True)
class Bench:
    """The `fedsim.leakage.base.Workbench` of a study: its runs are cells of the common cache."""

    jobs: int = 0

    def train(self, cells: Mapping[str, Config], heard: Heard = nobody) -> Mapping[str, Run]:
        """See `Workbench.train`."""
        untold = {name: _untold(config) for name, config in cells.items()}
        with _heard(untold.values(), heard):
            return run_all(untold, None, self.jobs, lambda name, done, of: None)

    def updates(
        self, parameters: Parameters, texts: Sequence[Sequences], config: Config
    ) -> list[np.ndarray]:
        """See `Workbench.updates`: as in round 1, for which the text's place is the user's id."""
        device = resolve_device(config.engine.device)
        rows = dict(zip(parameters.layout.names, parameters.layout.shapes, strict=True))
        model = build(config.model.options, rows["embedding.weight"][0], device)
        kernel, _ = resolve_kernel(config.engine.kernel, config.model.options, device)
        flat = flat_model(model, device, kernel)
        start = torch.from_numpy(parameters.flat).to(device)
        training = _training(config)
        out = []
        with threads(1):
            for place, text in enumerate(texts):
                flat.model.train()
                flat.values.copy_(start)
                flat.model.dropout_generator = torch_stream(
                    config.seed, "dropout", 1, place, device
                )
                update, _, _ = training(flat, start, text, place)
                out.append(update.cpu().numpy().copy())
        return out


@contextmanager
def _heard(cells: Collection[Config], heard: Heard) -> Iterator[None]:
    """While cells are trained in other processes: what share is done of the rounds they lacked."""
    store = CellStore()
    tables = [store.path(config) / "rounds.csv" for config in cells]
    before = sum(map(_rounds_in, tables))
    lacking = sum(config.server.rounds for config in cells) - before
    ended = threading.Event()

    def tell() -> None:
        heard((sum(map(_rounds_in, tables)) - before) / lacking if lacking else 1.0)

    def look() -> None:
        while not ended.wait(_EVERY_S):
            tell()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()


def _rounds_in(table: Path) -> int:
    """How many rounds a run's table holds by now; 0 where there is none."""
    try:
        return max(0, table.read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def _untold(config: Config) -> Config:
    """Runs of a measure are simulations, and who is told of the audited run is not told of them."""
    return replace(simulation_of(config), tracking=type(config.tracking)())


def _training(config: Config) -> Training:
    if STRATEGIES[config.strategy.name].message_type == "train.fedsgd":
        return exact_gradient
    lr = config.client.lr_in(1, config.server.rounds)
    return averaging(config.client.model_copy(update={"lr": lr}), config.seed, 1)
