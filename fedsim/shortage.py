"""Want of memory, however a library reports it: one sentence instead of its traceback."""

from __future__ import annotations

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
# Less address space than NumPy's own threads take: OpenBLAS would end the process from inside.
LEAST_KB = 400_000


def require_address_space() -> None:
    """Raise MemoryError, before any library is loaded, where none of them could be."""
    limit = _limit_kb()
    if limit is not None and limit < LEAST_KB:
        raise MemoryError


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
