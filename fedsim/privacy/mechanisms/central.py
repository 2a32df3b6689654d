"""`dp-fedavg`: fresh Gaussian noise in each round at a fixed clip norm (McMahan et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from fedsim.privacy.base import MECHANISMS
from fedsim.privacy.contributions import Draw
from fedsim.privacy.mechanisms.user_level import UserLevel, UserLevelOptions
from fedsim.privacy.secure_sum import SecureSum
from fedsim.updates import Aggregate, Contribution


class CentralOptions(UserLevelOptions):
    """A fixed clip norm, and secure aggregation where it is wanted."""

    clip_norm: float = Field(
        0.5, ge=1e-4, le=1e6, description="l2 bound of one user's whole update"
    )
    secagg_bits: int = Field(
        0, ge=0, le=32, description="a coordinate, of simulated secure aggregation; 0 is none"
    )
    secagg_modulus_bits: int = Field(32, ge=8, le=62, description="that the sum is made in")


class FixedClipping(UserLevel):
    """A clip norm that stays, so that clients can quantise for secure aggregation."""

    options: CentralOptions

    def __init__(self, options: Any, setting: Any) -> None:
        super().__init__(options, setting)
        self._secure = SecureSum.of(options)
        if self._secure:
            self._secure.require_room_for(setting.largest_cohort, setting.size())
        self.require_drawable()

    @classmethod
    def contribution(
        cls, options: Any, work: Mapping[str, Any], size: int, draw: Draw | None = None
    ) -> Contribution:
        """Clipped, and quantised under secure aggregation."""
        secure = SecureSum.of(options)
        if secure is None:
            return super().contribution(options, work, size)
        return secure.contribution(size)

    def total(self, aggregate: Aggregate) -> np.ndarray:
        """The sum, modulo what secure aggregation computes in."""
        if self._secure:
            self._secure.check(aggregate)
        return super().total(aggregate)

    def steps_of_clip_norm(self) -> float:
        """Those of secure aggregation, where there is one."""
        return 2.0 ** (self._secure.bits - 1) if self._secure else super().steps_of_clip_norm()

    def grid(self, clip_norm: float) -> float:
        """That of secure aggregation, where there is one."""
        if self._secure:
            return self._secure.contribution(self.setting.size()).resolution
        return super().grid(clip_norm)


@MECHANISMS.register("dp-fedavg")
class Central(FixedClipping):
    """Fresh noise each round; the guarantee is that of the sampled Gaussian mechanism."""

    Options = CentralOptions
    samplers = ("poisson", "truncated", "fixed", "cyclic")
