"""Want of memory, however a library reports it: one sentence instead of its traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

# Of the loader, of PyTorch, of Python's threads and of C++.
_SAID = ("failed to map segment", "cannot allocate memory", "can't allocate memory",
         "can't start new thread", "bad_alloc", "failed to create thread")  # fmt: skip
# What an extension says that could not even make its MemoryError.
_SPEECHLESS = "without setting an exception", "without exception set"
# Some libraries end the process from inside where they cannot be loaded, or wait for ever.
_LIBRARIES = "import torch, pandas, pyarrow, scipy, matplotlib.pyplot"
_MARGIN_KB = 300_000  # for what a command needs beside them, at the least
_LONGEST_S = 120


def require_address_space() -> None:
    """Raise MemoryError where there is a limit into which the libraries do not fit.

    A process of its own tries to load them first, since it may not survive that.
    """
    limit = _limit_kb()
    if limit is not None and not _libraries_fit(limit - _MARGIN_KB):
        raise MemoryError


def _libraries_fit(limit_kb: int) -> bool:
    limited = f"import resource as r; r.setrlimit(r.RLIMIT_AS, ({max(limit_kb, 0) * 1024},) * 2)"
    try:
        tried = subprocess.run(
            [sys.executable, "-P", "-c", f"{limited}; {_LIBRARIES}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_LONGEST_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def shortage(error: BaseException) -> str | None:
    """What to tell about an exception that means too little memory; None of any other."""
    found = next((e for e in _causes(error) if _is_shortage(e)), None)
    if found is None:
        return None
    limit = _limit_kb()
    if limit is not None:
        return (
            f"This needs more address space than `ulimit -v {limit}` leaves it "
            f"({limit / 1e6:.1f} GB): raise the limit, as with `ulimit -v unlimited`; what was "
            "saved before is kept."
        )
    said = f" ({found})" if isinstance(found, MemoryError) and str(found) else ""
    return (
        f"There is not enough memory for this{said}; free some, lower engine.workers, or make the "
        "model or the cohort smaller."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    while True:
        yield error
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following


def _is_shortage(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    if isinstance(error, SystemError):
        return _limit_kb() is not None and any(words in said for words in _SPEECHLESS)
    known = isinstance(error, ImportError | OSError | RuntimeError)
    return known and any(words in said for words in _SAID)


def _limit_kb() -> int | None:
    """The limit on address space in the units of `ulimit -v`; None where there is none."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit // 1024
