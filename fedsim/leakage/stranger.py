"""The same network trained on people that the audited model never saw: the medium reference."""

from __future__ import annotations

import math

import numpy as np

from fedsim.errors import FedsimError
from fedsim.leakage.base import Subject
from fedsim.models.base import LanguageModel, build
from fedsim.parameters import Parameters
from fedsim.seeding import stream, torch_stream
from fedsim.steps import Heard, nobody, steps


def trained_on(subject: Subject, users: np.ndarray, heard: Heard = nobody) -> LanguageModel:
    """Federated averaging over `users` alone, each as often as a member of the subject took part.

    Without momentum and without any mechanism: it is a reference, not a repetition. `heard` is
    told what share of the rounds is done. Raises FedsimError where the subject has no workbench.
    """
    if subject.bench is None:
        raise FedsimError(
            "medium_reference needs a workbench to train on: switch it off, or audit a run."
        )
    config, federation = subject.config, subject.federation
    model = build(config.model.options, len(federation.corpus.vocabulary))
    model.initialise(torch_stream(subject.seed, "medium reference"))
    parameters = Parameters.from_model(model)
    cohort = min(config.server.cohort, len(users))
    often = float(subject.participations[subject.members].mean())
    rounds = math.ceil(often * len(users) / cohort)
    for round in steps(range(1, 1 + rounds), rounds, heard):
        drawn = stream(subject.seed, "medium reference", round).choice(users, cohort, replace=False)
        updates = subject.bench.updates(
            parameters, [federation.sequences(int(user)) for user in drawn], config
        )
        parameters.flat += np.mean(updates, axis=0)
    parameters.load_into(model)
    return model.eval()
