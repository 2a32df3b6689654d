"""fedsim: a federated keyboard lab.

import fedsim
run = fedsim.simulate("default", "server.rounds=20", seed=2)
run               # shows itself, as a table in a notebook
run.rounds        # a pandas DataFrame, one row a round
fedsim.suggest(run, "how ar")
fedsim.audit(run, ["membership"])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before flwr is imported anywhere: a simulation on a plane must not look for a network.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if TYPE_CHECKING:
    from fedsim.api import load_config, simulate, suggest
    from fedsim.errors import FedsimError
    from fedsim.runs import Run
    from fedsim.simulation import resume
    from fedsim.studies.audit import audit_run as audit

__all__ = ["FedsimError", "Run", "audit", "load_config", "resume", "simulate", "suggest"]
__version__ = "0.2.0"

# Name -> where it is. Lazy, so that `fedsim data` or a worker does not pay for what it does not
# use.
_HOMES = {
    "FedsimError": ("fedsim.errors", "FedsimError"),
    "Run": ("fedsim.runs", "Run"),
    "audit": ("fedsim.studies.audit", "audit_run"),
    "load_config": ("fedsim.api", "load_config"),
    "resume": ("fedsim.api", "resume"),
    "simulate": ("fedsim.api", "simulate"),
    "suggest": ("fedsim.api", "suggest"),
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'fedsim' has no attribute '{name}'")
    from fedsim.namesakes import require_own_packages

    require_own_packages()
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
