"""How this program was started, for hints that can be pasted and commands that pages quote."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

_SCRIPT, _COMMAND = "run_sim", "fedsim"


def command(*words: object) -> str:
    """A shell command of the program that the user ran, as they ran it: `fedsim show runs/a`,
    `python3 ../run_sim.py show runs/a`. From Python, where no command was run, `fedsim ...`."""
    return " ".join(quoted(word) for word in [*_typed(), *map(str, words)])


def quoted(word: str) -> str:
    """A word as a shell reads it back, byte for byte; what cannot be shown as bash's `$'\\xe9'`.

    That are control and bidirectional characters, bytes that are no text (a file's name may be any
    bytes), and what the terminal's encoding does not have, as in a C locale.
    """
    if all(map(_printable, word)):
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def command_for_pages(*words: object) -> str:
    """The same without the folders of this machine, for files that others read."""
    ours = [_COMMAND] if Path(_typed()[0]).stem == _COMMAND else ["python", f"{_SCRIPT}.py"]
    return " ".join(quoted(word) for word in [*ours, *map(str, words)])


def _printable(char: str) -> bool:
    try:
        char.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return char.isprintable()


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if _printable(char):
        return char
    return "".join(f"\\x{byte:02x}" for byte in _bytes(char))


def _bytes(char: str) -> bytes:
    try:
        return os.fsencode(char)  # as it came from a file's name or the command line
    except UnicodeEncodeError:  # it came from a file's text
        return char.encode("utf-8", "surrogatepass")


def _typed() -> list[str]:
    script = Path(sys.argv[0] if sys.argv else "")
    if script.stem == _SCRIPT:
        module = ["-m", _SCRIPT]
        as_module = any(sys.orig_argv[i : i + 2] == module for i in range(len(sys.orig_argv)))
        return [_interpreter(), *(module if as_module else [str(script)])]
    if script.stem == _COMMAND and not _same(shutil.which(_COMMAND), script):
        return [str(script)]
    return [_COMMAND]


def _interpreter() -> str:
    """`python` where that is this one; else as it was called, since it may be `python3` only."""
    return "python" if _same(shutil.which("python"), Path(sys.executable)) else sys.executable


def _same(found: str | None, path: Path) -> bool:
    return found is not None and Path(found).absolute() == path.absolute()
