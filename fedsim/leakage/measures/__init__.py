"""One file for each leakage measure; importing this room registers them all."""

from fedsim.leakage.base import MEASURES
from fedsim.leakage.measures import (
    canaries,
    epsilon,
    generation,
    membership,
    memorisation,
    shadows,
    updates,
    user_membership,
)

__all__ = [
    "MEASURES",
    "canaries",
    "epsilon",
    "generation",
    "membership",
    "memorisation",
    "shadows",
    "updates",
    "user_membership",
]
