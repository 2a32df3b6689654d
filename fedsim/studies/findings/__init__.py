"""Published findings, one module each; importing this package enters them into `FINDINGS`."""

from fedsim.studies.findings import (
    andrew2021,
    hard2018,
    kairouz2021,
    mcmahan2017,
    reddi2021,
    thakkar2021,
)
from fedsim.studies.findings.base import FINDINGS

__all__ = [
    "FINDINGS",
    "andrew2021",
    "hard2018",
    "kairouz2021",
    "mcmahan2017",
    "reddi2021",
    "thakkar2021",
]
