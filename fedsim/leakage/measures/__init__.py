"""One file for each leakage measure; importing this room registers them all."""

import fedsim.leakage.measures.generation
import fedsim.leakage.measures.memorisation  # noqa: F401
from fedsim.leakage.base import MEASURES

__all__ = ["MEASURES"]
