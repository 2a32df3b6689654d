"""Another module of the name of one of ours: said in a sentence, before it is imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from fedsim.errors import FedsimError

BESIDE = ("clients", "server")  # what stands beside the package fedsim, in checkouts and wheels


def require_own_packages() -> None:
    """Raise FedsimError where Python finds something else by the name of one of our packages.

    The names are common: a `server.py` in the folder where Python was started comes first.
    """
    home = Path(__file__).resolve().parents[1]
    for name in BESIDE:
        found = _found(name)
        if found is not None and found.resolve() != (home / name).resolve():
            raise FedsimError(
                f"Python takes {found} for fedsim's own package '{name}' ({home / name}): rename "
                f"it, or start in another folder or without {found.parent} on PYTHONPATH."
            )


def _found(name: str) -> Path | None:
    """The folder of a package, or the file of a module; None where there is none of the name."""
    try:
        spec = sys.modules[name].__spec__ if name in sys.modules else find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is not None:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin or "")
