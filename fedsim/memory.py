"""Refuse what cannot fit into this machine's memory, before a run is started."""

from __future__ import annotations

import psutil

from fedsim.config import Config
from fedsim.device import available_cores
from fedsim.errors import FedsimError
from server.strategies import STRATEGIES

# A client holds start, weights and update in float32, and has two segments for its sums in int64;
# the server has no less. Text, activations and the optimizer come on top: this is the least.
BYTES_A_PARAMETER = 28
BYTES_A_WORKER = 30_000_000  # of a process's own, whatever it shares with others


def require_memory(config: Config, vocabulary: int) -> None:
    """Raise FedsimError where the model alone, once a process, is more than there is."""
    parameters = config.model.options.module(vocabulary).n_parameters  # without the memory
    workers = 1 if config.engine.name == "local" else config.engine.workers or available_cores()
    needed = (parameters * BYTES_A_PARAMETER + BYTES_A_WORKER) * (1 + workers)
    needed += STRATEGIES[config.strategy.name].memory(config, parameters)
    there = psutil.virtual_memory().total
    if needed > there:
        raise FedsimError(
            f"A model of {parameters:,} parameters needs at least {needed / 1e9:,.0f} GB with "
            f"engine.workers = {workers} and strategy '{config.strategy.name}'; this machine has "
            f"{there / 1e9:,.0f} GB. Make the model smaller, or lower engine.workers or "
            "server.cohort."
        )
