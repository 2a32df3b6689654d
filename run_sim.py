"""The command line: `python run_sim.py` runs the default simulation, `--help` lists the rest."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130


def main() -> None:
    """Run the command, quiet about a Ctrl-C from the first moment on."""
    # The libraries load for seconds. An exception would not do meanwhile: some of them turn a
    # KeyboardInterrupt into an ImportError with a traceback. Nothing is open yet, so just leave.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored
    if ours:
        signal.signal(signal.SIGINT, _leave)
    from fedsim import streams
    from fedsim.shortage import shortage

    streams.guard()
    last_words = f"Error: {shortage(MemoryError())}\n".encode()  # made while there is memory
    run = _command()

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A cluster's scheduler stops a job so: checkpoint as after a Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # And so ends a terminal that is closed, but for a program that was started with `nohup`.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except MemoryError:  # once more, while the first was being said
        os.write(2, last_words)
        code = EXIT_USER_ERROR
    sys.exit(streams.exit_code(code))


def _command() -> Callable[[], None]:
    """The command line, with its libraries; where they cannot be loaded, one sentence."""
    from fedsim.errors import FedsimError
    from fedsim.namesakes import require_own_packages
    from fedsim.shortage import require_address_space, shortage

    try:
        require_own_packages()
        require_address_space()
        from fedsim.cli.main import main as run
    except Exception as error:
        said = str(error) if isinstance(error, FedsimError) else shortage(error)
        if said is None:
            raise
        print(f"Error: {said}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    return run


def _leave(*_: object) -> None:
    with suppress(OSError):
        os.write(2, b"Interrupted.\n")  # sys.stderr may be in the middle of a write
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
