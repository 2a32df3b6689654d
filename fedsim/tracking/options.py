"""The config section `tracking`: who is told of a run. No part of a run's identity."""

from __future__ import annotations

from pydantic import Field, field_validator

from fedsim.options import Options
from fedsim.references import load as load_reference


class TrackingOptions(Options):
    """Where a run's figures go beside its folder. They change nothing of it."""

    to: tuple[str, ...] = Field((), description="any of: tensorboard, wandb, mlflow")
    project: str = Field(
        "fedsim", min_length=1, description="of Weights & Biases; the experiment of MLflow"
    )
    group: str = Field(
        "", description="of runs that belong together; else the folder of their study"
    )

    @field_validator("to")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            load_reference("fedsim.tracking:TRACKERS")[name]
        return tuple(dict.fromkeys(names))
