"""One file for each leakage measure; importing this room registers them all."""

from fedsim.leakage.base import MEASURES
from fedsim.leakage.measures import compression

__all__ = ["MEASURES", "compression"]
