"""A run's figures in tools that people already look at; a new tracker is a file and a name here."""

from fedsim.tracking import mlflow, tensorboard, wandb
from fedsim.tracking.base import TRACKERS, Story, Tracker
from fedsim.tracking.session import Tracking, require

__all__ = ["TRACKERS", "Story", "Tracker", "Tracking", "mlflow", "require", "tensorboard", "wandb"]
