"""MLflow: a run in the experiment that `tracking.project` names, where MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from fedsim.tracking.base import TRACKERS, Story, Tracker, without_login

STATES = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
WAITS_S = (2.0, 4.0, 8.0)
MOST_PARAMETERS = 100  # that one request may hold
# A server that cannot be reached must not hold up a run: by default it is tried for half an hour.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


@TRACKERS.register("mlflow")
class MLflow(Tracker):
    """Metrics by round and the config as parameters; the group is the tag `group`."""

    module = "mlflow"
    install = "pip install -e '.[mlflow]'"

    def __init__(self, story: Story) -> None:
        for name, value in (PATIENCE | {"MLFLOW_DISABLE_TELEMETRY": "true"}).items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Param

        for name in ("mlflow", "alembic"):  # which tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client, experiment = _opened(story.project)
        self.where = f"mlflow ui, with {without_login(self._client.tracking_uri)}"
        if story.known_as:
            self.known_as = story.known_as
            self._client.update_run(self.known_as, status="RUNNING")
            sent = self._client.get_metric_history(self.known_as, "round")
            self.sent_until = max((int(point.step) for point in sent), default=-1)
            return
        tags = {"group": story.group} if story.group else {}
        run = self._client.create_run(experiment, run_name=story.name, tags=tags)
        self.known_as = run.info.run_id
        all_of_them = [Param(key, str(value)) for key, value in story.parameters.items()]
        for first in range(0, len(all_of_them), MOST_PARAMETERS):
            some = all_of_them[first : first + MOST_PARAMETERS]
            self._client.log_batch(self.known_as, params=some)

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.send`."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        metrics = [Metric(k, v, now, step) for k, v in {"round": float(step), **values}.items()]
        self._client.log_batch(self.known_as, metrics=metrics)

    def close(self, state: str) -> None:
        """See `Tracker.close`."""
        self._client.set_terminated(self.known_as, STATES[state])


def _opened(project: str) -> tuple[Any, str]:
    """A client, and the id of the experiment.

    Runs of a study begin at the same moment, and only one of them can make a database or an
    experiment that is not there yet: the others fail, and find it a little later.
    """
    from mlflow import MlflowClient, get_tracking_uri

    waits = [] if get_tracking_uri().startswith("http") else list(WAITS_S)
    while True:
        try:
            client = MlflowClient()
            found = client.get_experiment_by_name(project)
            return client, found.experiment_id if found else client.create_experiment(project)
        except Exception:  # of MLflow, or of the database below it
            if not waits:
                raise
            time.sleep(waits.pop(0))
