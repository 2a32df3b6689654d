"""One file for each privacy mechanism; importing this room registers them all."""

from fedsim.privacy.base import MECHANISMS
from fedsim.privacy.mechanisms import adaptive, central, dp_sgd, ftrl, local, none, secagg

__all__ = ["MECHANISMS", "adaptive", "central", "dp_sgd", "ftrl", "local", "none", "secagg"]
