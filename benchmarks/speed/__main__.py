"""How fast is fedsim, against a bare PyTorch loop, Flower's own simulation, pfl, fluke, BlazeFL?

    python benchmarks/speed/install_peers.py       # once: the others, each in an environment
    python benchmarks/speed                        # all models, all contenders
    python benchmarks/speed --models lstm-small --contenders fedsim,flower --cohort 4 --repeats 1
    python benchmarks/speed --repeats 0            # only: does everybody compute the same?

Everybody trains the same 1,000 synthetic users: the same cohorts from the same initial model, the
same batches in the same order, the same loss, with two processes or two threads. First each does
one round, and the model after it has to be that of the bare loop up to rounding. Then the
contenders take turns, each turn a fresh process, in an order that rotates; the machine's speed in
a 1024 x 1024 product is measured in the same turns. It leaves in --out: `table.md`,
`summary.csv`, every round in `rounds.csv`, every start in `starts.csv`, what the processes
printed in `logs/`. Exit code 1 where somebody computes something else.

How long it takes: for each model, every contender trains 1 round to be checked and then --repeats
times --rounds + 1, the first of which is warm-up. Seconds a round of two models are in README.md,
under Speed. The third command above took 2 min 46 s on two cores that others were using too.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The modules beside this file are the package `speed`; the folder itself must not be on the path,
# where `run` or `table` could be anything.
sys.path[:] = [str(HERE.parent), str(HERE.parents[1]), *(p for p in sys.path if p != str(HERE))]

from speed.comparison import Comparison  # noqa: E402  # the path first
from speed.entries import ENTRIES, REFERENCE, contenders  # noqa: E402
from speed.install_peers import peers_folder  # noqa: E402
from speed.table import markdown  # noqa: E402

MODELS = ("lstm", "cifg", "lstm-small", "transformer-small")


def main() -> None:
    """Check, measure, write, print."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays behind
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Short, since Ray puts sockets below it whose paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        comparison = Comparison(Path(folder), arguments.out, arguments.peers_dir, arguments.timeout)
        for model in arguments.models:
            comparison.check(model, arguments.contenders, arguments.rounds + 1, arguments.cohort)
        comparison.measure(arguments.repeats, arguments.rounds + 1)
    table = comparison.write()
    settings = {k: v if isinstance(v, int | list) else str(v) for k, v in vars(arguments).items()}
    about = {**comparison.machine(), "settings": settings}
    (arguments.out / "about.json").write_text(json.dumps(about, indent=1))
    print(json.dumps(table.to_dict("records"), indent=1) if arguments.json else markdown(table))
    if comparison.other_results:
        sys.exit(f"Another result: {', '.join(comparison.other_results)}.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everybody = contenders()

    def option(name: str, kind: Callable[[str], object], default: object, help: str) -> None:
        shown = "all" if isinstance(default, list) else default
        parser.add_argument(name, type=kind, default=default, help=f"{help} (default: {shown})")

    option("--models", _names(MODELS), list(MODELS), f"comma-separated, of {', '.join(MODELS)}")
    option("--contenders", _names(everybody), everybody, f"the same, of {', '.join(everybody)}")
    option("--rounds", int, 3, "measured of each process")
    option("--repeats", int, 3, "processes of each contender; 0: only the check")
    option("--cohort", int, 50, "users a round")
    option("--timeout", float, 1200, "seconds, of one process")
    option("--out", Path, Path("speed-results"), "folder for the tables; written over")
    option("--peers-dir", Path, peers_folder(), "where install_peers.py put the others")
    parser.add_argument("--json", action="store_true", help="print the table as JSON on stdout")
    arguments = parser.parse_args()
    if REFERENCE not in arguments.contenders:  # everybody is compared with it
        arguments.contenders.append(REFERENCE)
    arguments.contenders.sort(key=list(ENTRIES).index)
    return arguments


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Parser of a comma-separated list of them."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name}: choose from {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    main()
