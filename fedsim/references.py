"""Things named as 'module:attribute': how lower rooms reach apps and registries above them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from fedsim.errors import FedsimError


def load(reference: str) -> Any:
    """The object behind a reference such as 'clients.app:app'.

    Raises FedsimError where a file of the user's hides our package of that name.
    """
    name, _, attribute = reference.partition(":")
    package = name.partition(".")[0]
    try:
        return getattr(importlib.import_module(name), attribute)
    except ImportError as error:
        found = getattr(sys.modules.get(package), "__file__", None)
        if found is None or Path(found).parent.parent == Path(__file__).parents[1]:
            raise
        raise FedsimError(
            f"'{package}' is {found} instead of fedsim's own package; rename that file or start "
            "from another folder."
        ) from error
