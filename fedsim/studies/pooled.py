"""A cell of a study that no federation trains: the same network, centrally, on all of its text."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from fedsim.config import Config
from fedsim.data.storage import drafted
from fedsim.device import resolve_device, threads
from fedsim.federation import Federation, open_federation
from fedsim.leakage.exposure import measure_exposure
from fedsim.models.base import LanguageModel
from fedsim.models.flat import resolve_kernel
from fedsim.parameters import Parameters
from fedsim.profile import Profile
from fedsim.provenance import provenance
from fedsim.runs import Run
from server.baselines import score_users
from server.central import THREADS, plan_of, train_centrally
from server.recording import scores_row, user_rows


def train_pooled(config: Config, path: Path) -> None:
    """Write a finished run into the new folder `path`: `evaluation.central_epochs` passes over
    the text of all users that a federation would sample, canary users included; averaged over as
    much text as a federated model is by `server.average`.

    Rounds are passes in its tables. What a process that was killed had begun is begun again.
    """
    profile = Profile()
    with profile.part("data"):
        federation = open_federation(config)
    corpus, device = federation.corpus, resolve_device(config.engine.device)
    kernel, _ = resolve_kernel(config.engine.kernel, config.model.options, device)
    with drafted(path) as draft:
        run = Run.create(draft / "run", config, provenance(corpus.name, corpus.digest, kernel))
        with profile.part("baselines"):
            text = federation.pooled()
            model = train_centrally(
                config,
                text,
                len(corpus.vocabulary),
                plan_of(config, federation, len(text)),
                "central",
                lambda epoch, nats: run.log(f"pass {epoch}: loss {nats:.3f}"),
            )
        with profile.part("evaluation"):
            _record(run, config, federation, model)
        run.add_profile(profile)
        shutil.rmtree(path, ignore_errors=True)
        run.path.rename(path)


def _record(run: Run, config: Config, federation: Federation, model: LanguageModel) -> None:
    """Scores, exposure and the model, as a federated run has them."""
    passes, corpus = config.evaluation.central_epochs, federation.corpus
    with threads(THREADS):
        for split in ("validation", "test"):
            ids = federation.scored(split, config.evaluation.users, config.seed).tolist()
            users = score_users(model, corpus, ids)
            row = scores_row(users)
            run.append("evaluations", [{"round": passes, "split": split, **row}])
    released = Parameters.from_model(model)
    sizes = {"parameters": released.layout.size, "model_bytes": released.nbytes}
    latency = dict.fromkeys(("latency_p50_ms", "latency_p95_ms"))
    run.append("results", [{"model": "central", **row, **sizes, **latency}])
    run.append("users", user_rows("central", users))
    everyone = np.full(federation.users, passes)
    exposure = measure_exposure(
        model,
        federation.planted,
        config.canaries.prefix_words,
        federation.holder_participations(everyone),
        next(model.parameters()).device,
    )
    exposure.insert(0, "round", passes)
    run.append("exposure", exposure.to_dict("records"))
    digest = released.digest()
    run.save_model(dict(released.items()), list(corpus.vocabulary.words), digest)
    run.export_tables()
    run.set_status("finished", passes, digest=digest)
