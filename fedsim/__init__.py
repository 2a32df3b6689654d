"""fedsim: a federated keyboard lab.

import fedsim
run = fedsim.simulate(fedsim.load_config("default", ["server.rounds=20"]))
run.rounds        # a pandas DataFrame, one row a round
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before flwr is imported anywhere: a simulation on a plane must not look for a network.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if TYPE_CHECKING:
    from fedsim.config import load as load_config
    from fedsim.runs import Run
    from fedsim.simulation import resume, simulate

__all__ = ["Run", "load_config", "resume", "simulate"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, so that `fedsim data` or a worker does not pay for what it does not use.
    import importlib

    homes = {
        "load_config": ("fedsim.config", "load"),
        "simulate": ("fedsim.simulation", "simulate"),
        "resume": ("fedsim.simulation", "resume"),
        "Run": ("fedsim.runs", "Run"),
    }
    if name not in homes:
        raise AttributeError(f"module 'fedsim' has no attribute '{name}'")
    module, attribute = homes[name]
    return getattr(importlib.import_module(module), attribute)
