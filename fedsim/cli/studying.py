"""What the commands of studies share: their options, progress, and how to go on after a Ctrl-C."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Seeds = Annotated[int, typer.Option(min=1, help="runs of each cell")]
Jobs = Annotated[int, typer.Option(min=0, help="cells at a time; 0: one a core")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="folder; cells in it are not trained again, tables are those of the last command"
    ),
]
Preset = Annotated[str, typer.Option(help="a shipped preset, or a TOML file")]


def told(name: str, done: int, of: int, seconds_left: float = 0.0) -> None:
    """Says which cell is done, and how long the others will take where that is known."""
    minutes = f"{seconds_left / 60:.0f} min" if seconds_left >= 90 else f"{seconds_left:.0f} s"
    left = f"  {minutes} left" if seconds_left else ""
    print(f"{done}/{of}  {name}{left}", file=sys.stderr, flush=True)


@contextmanager
def resumable(out: Path | None, folder: Path) -> Iterator[None]:
    """A Ctrl-C inside says the command that goes on in `folder`, and ends with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        again = [*sys.argv[1:], *([] if out else ["--out", str(folder)])]
        command = shlex.join(["python", "run_sim.py", *again])
        print(f"Interrupted; continue with: {command}", file=sys.stderr)
        raise typer.Exit(130) from None
