"""One file for each leakage measure; importing this room registers them all."""

import fedsim.leakage.measures.generation
import fedsim.leakage.measures.memorisation  # noqa: F401
from fedsim.leakage.base import MEASURES
from fedsim.leakage.measures import membership, user_membership

__all__ = ["MEASURES", "membership", "user_membership"]
