"""Configs of a study's cells: simulations, whose noise is seeded unless somebody asks otherwise.

A cell is kept and comes again for the same words, which it can only where the same config gives
the same bits. What its statement says of such noise is that it protects nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fedsim.config import Config, Named, load


def load_cell(preset: str, overrides: Iterable[str]) -> Config:
    """As `fedsim.config.load`; `privacy.noise` is seeded unless preset or overrides name it."""
    config = load(preset, overrides)
    if "noise" in config.privacy.options.model_fields_set:
        return config
    return simulation_of(config)


def simulation_of(config: Config) -> Config:
    """The config with seeded noise; itself where its mechanism draws none."""
    options = config.privacy.options
    if "noise" not in type(options).model_fields:
        return config
    seeded = options.model_copy(update={"noise": "seeded"})
    return replace(config, privacy=Named(config.privacy.name, seeded))
