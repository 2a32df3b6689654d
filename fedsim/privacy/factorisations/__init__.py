"""Correlated noise for DP-FTRL by name; a new factorisation is one file and one import below."""

from fedsim.privacy.factorisations.banded import Banded
from fedsim.privacy.factorisations.base import FACTORISATIONS, Factorisation, Fresh, Schema, State
from fedsim.privacy.factorisations.blt import Blt
from fedsim.privacy.factorisations.sqrt import Sqrt
from fedsim.privacy.factorisations.tree import Tree

__all__ = [
    "FACTORISATIONS",
    "Banded",
    "Blt",
    "Factorisation",
    "Fresh",
    "Schema",
    "Sqrt",
    "State",
    "Tree",
]
