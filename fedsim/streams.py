"""Standard streams that may be closed, full or without a reader: what is at work goes on.

A run that trains must not end because nobody reads its progress any more, and a result that cannot
be printed is said at the end, when everything is saved. So whatever cannot be written goes nowhere,
and `exit_code` remembers why.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO, Any, TextIO, cast

from fedsim.showing import shown

EXIT_NOT_PRINTED = 2
EXIT_CLOSED_PIPE = 141  # as a shell reports a program that ended with SIGPIPE


class Outlet(io.RawIOBase):
    """A file descriptor to write to, or nothing once that has failed; `failed` is the reason."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.failed: OSError | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int | None:
        """See `io.RawIOBase`; never raises OSError."""
        view = cast(memoryview, data)
        try:
            return os.write(self._descriptor, view)
        except BlockingIOError:
            return None
        except OSError as error:
            self.failed = self.failed or error
            _to_nowhere(self._descriptor)
            return len(view)


class Screened(io.TextIOWrapper):
    """A stream to which text is written as `shown`, since much of it comes from others' files."""

    def write(self, text: str, /) -> int:
        """See `io.TextIOWrapper`."""
        return super().write(shown(text))

    def write_as_is(self, text: str) -> int:
        """The same with terminal controls, for a console that has made them."""
        return super().write(text)


class _AsIs:
    """A `Screened` stream for such a console."""

    def __init__(self, stream: Screened) -> None:
        self._stream = stream
        self.write = stream.write_as_is

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def as_is(stream: TextIO) -> IO[str]:
    """The stream for who writes terminal controls, and screens what others wrote."""
    return cast(IO[str], _AsIs(stream)) if isinstance(stream, Screened) else stream


def guard() -> None:
    """Put both standard streams behind an `Outlet`, and screen what is written to them.

    A descriptor that was closed is opened first: else the next file that is opened would take its
    number, and get what is printed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _to_nowhere(descriptor)
    sys.stdout = _guarded(1, sys.stdout, line_buffering=os.isatty(1))
    sys.stderr = _guarded(2, sys.stderr, line_buffering=True)


def exit_code(code: int) -> int:
    """`code`, or another where the result could not be printed. Says so, unless a pipe was closed,
    as `| head` does."""
    sys.stdout.flush()
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failed = outlet.failed if isinstance(outlet, Outlet) else None
    if failed is None or code:
        return code
    if failed.errno == errno.EPIPE:
        return EXIT_CLOSED_PIPE
    said = f"Error: The result could not be printed ({failed.strerror}); what was made is saved."
    print(said, file=sys.stderr)
    return EXIT_NOT_PRINTED


def _guarded(descriptor: int, stream: TextIO | None, line_buffering: bool) -> TextIO:
    """`stream` is None where it was closed when Python began."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if stream is not None:
        stream.flush()
    buffer = io.BufferedWriter(Outlet(descriptor))
    # A character that the terminal does not have is no reason to fail either.
    return Screened(buffer, encoding, "backslashreplace", None, line_buffering)


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
