"""What is said of words that a command has no place for, settings above all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedsim.program import command

SETTING = re.compile(r"[A-Za-z_][\w.]*=")
# Of the engine, which changes no result: what may be another one from now on, and how.
_MAY_CHANGE = {"engine.workers": "--workers", "engine.name": "--engine", "engine": "--engine"}
_OF_A_RUN = ("resume", "show", "report", "suggest", "privacy statement")


def surplus(name: str, words: Sequence[str]) -> str:
    """A sentence with what to write; name: of the command, as in `privacy statement`."""
    settings = [word for word in words if SETTING.match(word)]
    if not settings:
        many = "are too many words" if len(words) > 1 else "is one word too many"
        return (
            f"'{' '.join(words)}' {many} for `{command(*name.split())}`: put what has spaces into "
            f"quotes, or see `{command(*name.split(), '--help')}`."
        )
    said = " ".join(settings)
    key, _, value = settings[0].partition("=")
    if name == "resume" and key in _MAY_CHANGE:
        return f"'{settings[0]}' has its own option here: write `{_MAY_CHANGE[key]} {value}`."
    if name in _OF_A_RUN:
        more = " (only --engine and --workers may be others)" if name == "resume" else ""
        return (
            f"'{said}' has no place in `{name}`: a run keeps the settings that it began with{more}."
            f" For others begin a new run: `{command('train')}` with the words of the first, and "
            f"{said} behind them."
        )
    return f"'{said}' has no place in `{name}`, which takes no settings; leave it out."
