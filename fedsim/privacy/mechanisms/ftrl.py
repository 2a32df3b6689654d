"""DP-FTRL: noise that is correlated over rounds, so that prefix sums stay exact (Kairouz 2021).

`tree` aggregates over a binary tree; `sqrt`, `banded` and `blt` factorise the matrix of prefix
sums (Choquette-Choo et al. 2023, Dvijotham et al. 2024). None needs a sampling assumption: the
cyclic sampler keeps a user's rounds apart, and that is accounted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic import Field

from fedsim.privacy.accounting import Guarantee, before, guarantee, stated
from fedsim.privacy.base import MECHANISMS, State
from fedsim.privacy.events import Event
from fedsim.privacy.factorisations import FACTORISATIONS, Factorisation, Schema
from fedsim.privacy.factorisations.banded import BandedOptions as BandOptions
from fedsim.privacy.factorisations.blt import BltOptions as BufferOptions
from fedsim.privacy.factorisations.toeplitz import Toeplitz, squared_sensitivity
from fedsim.privacy.factorisations.tree import TreeOptions as RestartOptions
from fedsim.privacy.integer_noise import rounded_gaussian
from fedsim.privacy.mechanisms.central import CentralOptions, FixedClipping
from fedsim.privacy.plan import Plan, checked

MOST_BANDS = 64  # where nobody says how many; one model of the server's memory each


class Ftrl(FixedClipping):
    """Row t of C^-1 Z instead of independent noise; `noise_multiplier` is that of a row of Z."""

    samplers: ClassVar[tuple[str, ...]] = ("cyclic",)
    arithmetic = (
        "correlated in float64 from draws in steps of 2^-48, then rounded to whole steps of the "
        "grid that the exact sum lies on"
    )

    @cached_property
    def factorisation(self) -> Factorisation:
        """Of all rounds of the run, for its schema of participation."""
        plan = checked(self.plan(1.0, self.setting.rounds))  # whatever the noise
        # Groups keep users apart, but do not bound how often one comes.
        most = plan.participations or plan.rounds
        made = FACTORISATIONS[self.plan_name]
        schema = Schema(plan.rounds, most, plan.min_separation or 1)
        return made(schema, made.Options(**plan.options))

    def check(self) -> None:
        """The matrix too, which may not be possible for the schema."""
        super().check()
        _ = self.factorisation

    def initial_state(self, size: int) -> State:
        """What the stream of noise remembers."""
        return self.factorisation.initial_state(size) if self.options.noise_multiplier else {}

    def noise(
        self, round: int, size: int, deviation: float, state: State
    ) -> tuple[np.ndarray, State]:
        """The round's row, computed in float64 and then rounded onto the grid of the sum."""
        row, state = self.factorisation.noise(round, lambda index: self._fresh(index, size), state)
        return np.rint(row * deviation).astype(np.int64), state

    def _fresh(self, index: int, size: int) -> np.ndarray:
        """Row `index` of Z: independent standard normals in steps of 2^-48, float64 (size,)."""
        return rounded_gaussian(self.stream("row", index), size, 2**48) * 2.0**-48

    def _guarantee_of_own(self, noise_multiplier: float) -> Guarantee:
        """Of the matrix whose noise was added, under the schema of those that were there."""
        own = replace(self.plan(noise_multiplier, self.setting.rounds), users=self.setting.users,
                      cohort=self.setting.cohort)  # fmt: skip
        if self.setting.sampler == "groups":
            return guarantee(own)
        kept = checked(replace(own, options={}, mechanism="gaussian"))
        schema = Schema(kept.rounds, kept.participations or 1, kept.min_separation or 1)
        made = self.factorisation
        if isinstance(made, Toeplitz):
            squared = squared_sensitivity(made.coefficients, schema)
        else:
            squared = type(made)(schema, made.options).squared_sensitivity
        sensitivity = math.sqrt(squared)
        events = (*before(kept), Event("gaussian", noise_multiplier / sensitivity))
        return stated(replace(kept, mechanism=self.plan_name), events, sensitivity)

    def plan(self, noise_multiplier: float, rounds: int) -> Plan:
        """Always of the whole run: the matrix is made for it, and its first rounds cost no more."""
        plan = super().plan(noise_multiplier, self.setting.rounds)
        names = FACTORISATIONS[self.plan_name].Options.model_fields
        options = {name: getattr(self.options, name) for name in names}
        return replace(plan, options=options)


class TreeOptions(CentralOptions, RestartOptions):
    """Clipping, budget, restarts."""


@MECHANISMS.register("tree")
class Tree(Ftrl):
    """Binary tree aggregation."""

    Options = TreeOptions
    plan_name = "tree"


@MECHANISMS.register("sqrt")
class Sqrt(Ftrl):
    """The square root of the matrix of prefix sums."""

    Options = CentralOptions
    plan_name = "sqrt"


class BandedOptions(CentralOptions, BandOptions):
    """Clipping, budget, bands."""

    bands: int = Field(
        0, ge=0, description=f"0: what min_separation allows, at most {MOST_BANDS}; a model each"
    )


@MECHANISMS.register("banded")
class Banded(Ftrl):
    """The best banded Toeplitz matrix; the only one that sampling within groups amplifies."""

    Options = BandedOptions
    options: BandedOptions
    plan_name = "banded"
    samplers = ("cyclic", "groups")

    def plan(self, noise_multiplier: float, rounds: int) -> Plan:
        """Not more bands than the server should keep models for, unless they are asked for."""
        plan = super().plan(noise_multiplier, rounds)
        if self.options.bands:
            return plan
        separation = checked(replace(plan, noise_multiplier=1.0)).min_separation or 1
        return replace(plan, options={"bands": min(separation, MOST_BANDS)})


class BltOptions(CentralOptions, BufferOptions):
    """Clipping, budget, buffers."""


@MECHANISMS.register("blt")
class Blt(Ftrl):
    """Buffered linear Toeplitz: a few models of memory, whatever the separation."""

    Options = BltOptions
    plan_name = "blt"
