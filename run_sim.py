"""The command line: `python run_sim.py` runs the default simulation, `--help` lists the rest."""

import os
import signal

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command, quiet about a Ctrl-C from the first moment on."""
    # The libraries load for seconds. An exception would not do meanwhile: some of them turn a
    # KeyboardInterrupt into an ImportError with a traceback. Nothing is open yet, so just leave.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored
    if ours:
        signal.signal(signal.SIGINT, _leave)
    from fedsim.cli.main import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A cluster's scheduler stops a job so: checkpoint as after a Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run()


def _leave(*_: object) -> None:
    os.write(2, b"Interrupted.\n")  # sys.stderr may be in the middle of a write
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
