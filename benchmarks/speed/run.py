"""One contender in a process of its own: `python -m speed.run bare --order FILE ...`.

The contender's code is imported, not run as `__main__`, so that workers of a simulator find its
functions by their names.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from speed.job import Job


def main() -> None:
    """Run the contender that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module")
    parser.add_argument("--order", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--model-out", type=Path)
    arguments = vars(parser.parse_args())
    contender = import_module(f"speed.contenders.{arguments.pop('module')}")
    contender.run(Job(**arguments))


if __name__ == "__main__":
    main()
