"""Who takes part: what each contender is called, how its process starts, what it needs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from speed.job import PROCESSES

REFERENCE, GEMM, OURS = "bare", "gemm", "fedsim"


@dataclass(frozen=True)
class Entry:
    """One contender.

    module: in `speed.contenders`; peer: the environment that it runs in, "" being this one;
    launcher: what comes between Python and `-m speed.run`; needs: a module of this environment.
    """

    title: str
    module: str
    variant: str = ""
    peer: str = ""
    launcher: tuple[str, ...] = ()
    needs: str = ""


_TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node",
    str(PROCESSES),
)
ENTRIES = {
    OURS: Entry("fedsim, 2 workers", "engine"),
    "fedsim-torch": Entry("fedsim, 2 workers, torch kernel", "engine", variant="torch"),
    REFERENCE: Entry("bare PyTorch loop, 2 processes", "bare"),
    "bare-threads": Entry("bare PyTorch loop, 2 threads", "bare", variant="threads"),
    "flower": Entry("Flower on Ray, as documented", "flower", needs="ray"),
    "flower-tuned": Entry("Flower on Ray, tuned, 2 actors", "flower", "tuned", needs="ray"),
    "pfl": Entry("pfl, 2 threads", "pfl", peer="pfl"),
    "pfl-torchrun": Entry("pfl, 2 processes", "pfl", "torchrun", "pfl", _TORCHRUN),
    "fluke": Entry("fluke, 2 threads", "fluke", peer="fluke"),
    "blazefl": Entry("BlazeFL, 2 processes", "blazefl", peer="blazefl"),
    GEMM: Entry(f"sgemm, {PROCESSES} processes", "gemm"),
}


def contenders() -> list[str]:
    """Everybody who can be asked for."""
    return [name for name in ENTRIES if name != GEMM]


def problem(entry: Entry, peers: Path) -> str:
    """Why it cannot run here, in one line; "" where it can."""
    if entry.peer:
        folder = peers / entry.peer
        if (folder / WHY_NOT).is_file():
            return f"not installed: {(folder / WHY_NOT).read_text().strip()}"
        if not (folder / INSTALLED).is_file():
            return f"not installed: run `python benchmarks/speed/install_peers.py {entry.peer}`"
    if entry.needs and importlib.util.find_spec(entry.needs) is None:
        return f"not installed: run `pip install -e '.[{entry.needs}]'`"
    return ""


def command(entry: Entry, peers: Path) -> list[str]:
    """The process up to the arguments of `speed.run`."""
    python = str(python_of(peers / entry.peer)) if entry.peer else sys.executable
    return [python, *entry.launcher, "-m", "speed.run", entry.module]


# In a peer's folder: that it was installed, or why it could not be.
INSTALLED, WHY_NOT = "installed", "why-not.txt"


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"
