"""Weights & Biases, online or, with WANDB_MODE=offline, in the run's folder for `wandb sync`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fedsim.errors import FedsimError
from fedsim.tracking.base import TRACKERS, Story, Tracker

INIT_TIMEOUT_S = 30


@TRACKERS.register("wandb")
class WeightsAndBiases(Tracker):
    """One run there for one run here; a resumed one has the same id.

    Sent are figures and the config: no console, no code, no command line, which may hold a secret.
    """

    module = "wandb"
    install = "pip install -e '.[wandb]'"

    @classmethod
    def require(cls, name: str) -> None:
        """See `Tracker.require`; without a key wandb would ask for one in the middle of a run."""
        super().require(name)
        import wandb

        online = wandb.setup().settings.mode in ("online", "shared")
        if online and not wandb.login(prompt=False):
            raise FedsimError(
                "Weights & Biases has no API key here: run `wandb login`, or set "
                "WANDB_MODE=offline and send the run later with `wandb sync`."
            )

    def __init__(self, story: Story) -> None:
        import wandb

        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        settings = wandb.Settings(
            console="off", silent=True, init_timeout=INIT_TIMEOUT_S, save_code=False,
            disable_git=True, disable_code=True, x_disable_meta=True,
        )  # fmt: skip
        self._run = wandb.init(
            project=story.project,
            name=story.name,
            group=story.group or None,
            dir=str(story.folder),
            id=story.known_as or None,
            resume="allow",
            config=dict(story.parameters),
            settings=settings,
        )
        self.known_as = self._run.id
        here = Path(self._run.dir).parent
        self.where = self._run.url or f"wandb sync {here}"
        if self._run.resumed:
            self.sent_until = self._run.step - 1
        # An offline run that goes on writes all again, from the tables: the part is void.
        for old in here.parent.glob(f"offline-run-*-{self.known_as}"):
            if old != here:
                shutil.rmtree(old)

    def send(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.send`."""
        self._run.log({"round": step, **values}, step=step)

    def close(self, state: str) -> None:
        """See `Tracker.close`."""
        self._run.finish(exit_code=0 if state == "finished" else 1)
