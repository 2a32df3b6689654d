"""Secure aggregation, simulated: clipped updates as integers, added modulo a power of two.

Bonawitz et al. 2017 add masks that cancel in the modular sum, so that the server learns the sum
and nothing else. The masks themselves are left out here: they change nothing in the result, and a
simulator that holds all updates hides nothing from itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedsim.errors import FedsimError
from fedsim.privacy.contributions import Quantised
from fedsim.updates import Aggregate


@dataclass(frozen=True)
class SecureSum:
    """The integers that the protocol adds: `bits` a coordinate, modulo 2^modulus_bits."""

    clip_norm: float
    bits: int
    modulus_bits: int

    @classmethod
    def of(cls, options: Any) -> SecureSum | None:
        """As a mechanism's options say; None where they ask for none."""
        if not options.secagg_bits:
            return None
        return cls(options.clip_norm, options.secagg_bits, options.secagg_modulus_bits)

    @property
    def most_users(self) -> int:
        """So many cannot wrap around, whatever they send."""
        return 2 ** max(self.modulus_bits - self.bits, 0)

    def contribution(self, size: int) -> Quantised:
        """What a client adds, of `size` coordinates."""
        return Quantised(self.clip_norm, self.bits, size)

    def require_room_for(self, users: int, size: int) -> None:
        """Raises FedsimError where the sum of so many users could wrap around, or where so few
        bits leave nothing of `size` coordinates."""
        _ = self.contribution(size).inner_norm
        if users > self.most_users:
            needed = self.bits + (users - 1).bit_length()
            raise FedsimError(
                f"Secure aggregation of {users} users with {self.bits} bits a coordinate needs a "
                f"modulus of {needed} bits, not {self.modulus_bits}; set privacy."
                f"secagg_modulus_bits={needed}, or fewer privacy.secagg_bits."
            )

    def check(self, aggregate: Aggregate) -> None:
        """Raises FedsimError where so many users may wrap around the modulus: their number alone
        decides, for whether the sum did would tell of what is in it.

        A Poisson cohort may be larger than the expected one that was checked beforehand.
        """
        if len(aggregate.results) > self.most_users:
            raise FedsimError(
                f"The sum of {len(aggregate.results)} users may have wrapped around the modulus of "
                f"{self.modulus_bits} bits; raise privacy.secagg_modulus_bits."
            )
