"""One file for each leakage measure; importing this room registers them all."""

from fedsim.leakage.base import MEASURES
from fedsim.leakage.measures import (
    canaries,
    compression,
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
    "compression",
    "epsilon",
    "generation",
    "membership",
    "memorisation",
    "shadows",
    "updates",
    "user_membership",
]
