"""Rich consoles on the standard streams that take what is printed for text and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from fedsim.showing import one_line, shown
from fedsim.streams import as_is


class _Literal(Console):
    """Strings are shown as they are: names may look like Rich's markup, or hold controls."""

    def render_str(self, text: str, **how: Any) -> Text:
        """See `rich.console.Console`."""
        return super().render_str(shown(text), **how)


def new_console(stderr: bool = False, **how: Any) -> Console:
    """A console for stdout or stderr, without markup unless `markup=True`; `how` as Rich's."""
    stream = as_is(sys.stderr if stderr else sys.stdout)
    return _Literal(file=stream, **{"markup": False, "emoji": False, "highlight": False, **how})


def print_report(page: Path) -> None:
    """Where the page that was written lies."""
    new_console().print(f"report: {one_line(page)}", soft_wrap=True)
