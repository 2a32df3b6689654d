"""One file for each leakage measure; importing this room registers them all."""

from fedsim.leakage.base import MEASURES
from fedsim.leakage.measures import membership, shadows, user_membership

__all__ = ["MEASURES", "membership", "shadows", "user_membership"]
