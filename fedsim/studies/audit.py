"""Audit a finished run: the subject that its folder describes, and the measures to take of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clients.training import averaging, exact_gradient
from fedsim.config import Config
from fedsim.data.sequences import Sequences
from fedsim.device import resolve_device
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage.audit import Audited, Told, audit
from fedsim.leakage.base import Measure, Subject
from fedsim.leakage.measures import MEASURES
from fedsim.models import build
from fedsim.models.flat import flat_model, resolve_kernel
from fedsim.options import validated
from fedsim.overrides import parse
from fedsim.parameters import Parameters
from fedsim.registry import nearest
from fedsim.runs import Run
from fedsim.seeding import torch_stream
from fedsim.studies.grid import run_all
from server.strategies import STRATEGIES


@dataclass(frozen=True)
class Bench:
    """What measures ask for, done with the product's own engine; see `leakage.base.Workbench`."""

    folder: Path
    jobs: int = 0

    def train(self, cells: Mapping[str, Config]) -> Mapping[str, Run]:
        """See `Workbench.train`."""
        return run_all(cells, self.folder, self.jobs, _silent)

    def updates(
        self, parameters: Parameters, texts: Sequence[Sequences], config: Config
    ) -> list[np.ndarray]:
        """See `Workbench.updates`. In round 1 of the config, each text a user of its own."""
        options = config.model.options
        device = resolve_device(config.engine.device)
        kernel, _ = resolve_kernel(config.engine.kernel, options, device)
        model = build(options, _vocabulary(parameters), device)
        flat = flat_model(model, device, kernel)
        start = torch.from_numpy(parameters.flat).to(device)
        exact = STRATEGIES[config.strategy.name].message_type == "train.fedsgd"
        train = exact_gradient if exact else averaging(config.client, config.seed, 1)
        sent = []
        for user, text in enumerate(texts):
            flat.values.copy_(start)
            model.train()
            model.dropout_generator = torch_stream(config.seed, "dropout", 1, user, device)
            update, _, _ = train(flat, start, text, user)
            sent.append(update.cpu().numpy().copy())
        return sent


def _vocabulary(parameters: Parameters) -> int:
    """How many words the model of these parameters knows."""
    return next(len(array) for name, array in parameters.items() if name == "embedding.weight")


def _silent(name: str, done: int, of: int) -> None:
    return


def audit_run(
    run: Run, names: Sequence[str] = (), overrides: Sequence[str] = (), told: Told = lambda _: None
) -> list[Audited]:
    """Measure a finished run's model; the rows go to its table `leakage`, those behind them to
    its folder `audit`.

    names: of measures, by default all that train nothing. overrides: "measure.option=value".
    Raises FedsimError for a run that is not finished, a text that was changed since, or a measure
    that cannot be taken of such a run.
    """
    measures = chosen(names, overrides)
    subject = subject_of(run)
    with run.locked():
        done = audit(run, subject, measures, run.status["round"], told)
        run.export_tables()
    return done


def chosen(names: Sequence[str], overrides: Sequence[str]) -> dict[str, Measure]:
    """The measures of these names with their options; all that train nothing where none is named.

    An override of a measure that is not named is an error, since it would have no effect.
    """
    asked = list(names) or [name for name in MEASURES if not MEASURES[name].trains]
    options: dict[str, dict[str, object]] = {name: {} for name in asked if MEASURES[name]}
    for text in overrides:
        path, value = parse(text)
        if len(path) != 2:
            raise FedsimError(f"'{text}' is not an option; write it as measure.option=value.")
        if path[0] not in options:
            raise FedsimError(f"'{text}' has no effect: {nearest(path[0], options)}")
        options[path[0]][path[1]] = value
    return {name: validated(MEASURES[name], values, name) for name, values in options.items()}


def subject_of(run: Run) -> Subject:
    """The final model of a run, and what it was trained on."""
    config, model = run.config, run.model()
    federation = open_federation(config)
    if run.corpus_digest != federation.corpus.digest:
        raise FedsimError(
            f"The text of '{federation.corpus.name}' was changed after {run.path} began; restore "
            "it, or train the run anew."
        )
    participations = np.bincount(run.clients["user"], minlength=federation.users)
    device = resolve_device(config.engine.device)
    bench = Bench(run.path / "audit")
    return Subject(model.to(device), config, federation, participations, config.seed, bench)
