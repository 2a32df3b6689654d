"""What the commands of studies share: their options, progress, and how to go on after a Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fedsim.errors import FedsimError
from fedsim.paths import check_new
from fedsim.program import command

_LEFT = ("cells", "central", "tuning.db")  # what a study that was begun has left in its folder

Seeds = Annotated[int, typer.Option(min=1, max=1_000, help="runs of each cell")]
Jobs = Annotated[int, typer.Option(min=0, help="cells at a time; 0: one a core")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="folder of page, tables and copies of the cells; another call replaces the former"
    ),
]
Preset = Annotated[str, typer.Option(help="a shipped preset, or a TOML file")]


def told(name: str, done: int, of: int, seconds_left: float = 0.0) -> None:
    """Says which cell is done, and how long the others will take where that is known."""
    minutes = f"{seconds_left / 60:.0f} min" if seconds_left >= 90 else f"{seconds_left:.0f} s"
    left = f"  {minutes} left" if seconds_left else ""
    print(f"{done}/{of}  {name}{left}", file=sys.stderr, flush=True)


def check_out(out: Path) -> None:
    """Raises FedsimError for a file, and for a folder with files that no study left there."""
    check_new(out)
    if out.exists() and not out.is_dir():
        raise FedsimError(f"--out {out} is a file; name a folder, or one that does not exist yet.")
    if not out.is_dir() or any(name in _LEFT for name in (p.name for p in out.iterdir())):
        return
    if any(out.iterdir()) and not any(out.glob("*/cells")):  # of `reproduce all`: one a finding
        raise FedsimError(
            f"--out {out} holds files that are of no study; name an empty folder, or one that does "
            "not exist yet."
        )


@contextmanager
def resumable(out: Path | None, folder: Path) -> Iterator[None]:
    """A Ctrl-C inside says the command that goes on in `folder`, and ends with exit code 130.

    Raises FedsimError before anything inside where `out` is no folder for a study.
    """
    if out is not None:
        check_out(out)
    try:
        yield
    except KeyboardInterrupt:
        again = [*sys.argv[1:], *([] if out else ["--out", str(folder)])]
        print(f"Interrupted; continue with: {command(*again)}", file=sys.stderr)
        raise typer.Exit(130) from None
