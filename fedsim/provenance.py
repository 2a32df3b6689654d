"""Where a result comes from: versions, machine, git state, corpus."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import fedsim

PACKAGES = (
    "flwr", "torch", "numpy", "opacus", "pandas", "dp-accounting", "scipy", "optuna",
    "chitchat-dataset",
)  # fmt: skip


# Of what a run draws and is made of: runs of another format cannot be continued.
FORMAT = 3


def provenance(corpus_name: str, corpus_digest: str, kernel: str) -> dict[str, Any]:
    """A JSON-able record of what a run was made with."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "fedsim": fedsim.__version__,
        "format": FORMAT,
        "git": _git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "kernel": kernel,
        "corpus": {"name": corpus_name, "digest": corpus_digest},
    }


def changed_text(what: str, path: Path, made_with: Mapping[str, Any]) -> str:
    """Why a run's text is not what it was, as the beginning of a sentence.

    made_with: the run's provenance.
    """
    if made_with.get("format") == FORMAT:
        return f"{what} was changed after {path} began"
    return (
        f"{what} is read in another way by this version of fedsim than by the one that made {path} "
        "(see CHANGELOG.md)"
    )


def _git_state() -> dict[str, Any] | None:
    """Commit and whether the tree is changed; None where the code is not in a checkout."""
    root = Path(fedsim.__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    if not (root / ".git").exists():
        return None
    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
