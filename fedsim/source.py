"""What code makes a figure: digests of the source, and the versions of the libraries.

What was made by other code is not taken for what this code would make.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

# Rooms of fedsim that have no part in what a run is, or in what a measure finds in it.
_WITHOUT_PART = ("api", "cli", "deploy", "report", "studies", "tracking")
_LIBRARIES = ("torch", "numpy", "scipy", "flwr", "opacus", "dp-accounting")


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of the source of what a run is made by and measured with."""
    total = hashlib.sha256()
    for package in ("clients", "fedsim", "server"):
        root = _folder_of(package)
        for file in sorted(root.rglob("*.py")):
            own = file.relative_to(root)
            if package == "fedsim" and own.with_suffix("").parts[0] in _WITHOUT_PART:
                continue
            total.update(f"{package}/{own.as_posix()}\n".encode())
            total.update(file.read_bytes())
    return total.hexdigest()[:16]


def module_digest(name: str) -> str:
    """SHA-256 of one module's source; of its name where it has none."""
    spec = util.find_spec(name)
    source = Path(spec.origin).read_bytes() if spec and spec.origin else name.encode()
    return hashlib.sha256(source).hexdigest()[:16]


@lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """The versions of those whose arithmetic is in every figure."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def _folder_of(package: str) -> Path:
    spec = util.find_spec(package)
    assert spec is not None
    return Path(str(spec.origin)).parent
