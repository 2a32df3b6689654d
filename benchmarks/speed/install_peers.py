"""Install the other simulators, each into an environment of its own: none is a dependency.

    python benchmarks/speed/install_peers.py                    # all of them
    python benchmarks/speed/install_peers.py pfl --peers-dir /some/folder

They lie in the cache folder of fedsim (`$FEDSIM_CACHE`, else `~/.cache/fedsim`), a gigabyte each,
nearly all of it torch, which is the release that fedsim is installed with. One that cannot be
installed says why in one line; the comparison goes on without it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fedsim.data.sources import cache_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from speed.entries import INSTALLED, WHY_NOT, python_of  # the path first


@dataclass(frozen=True)
class Peer:
    """A simulator on PyPI.

    alone: what is installed without its dependencies; with_it: what is installed as usual.
    """

    python: tuple[int, int]
    with_it: tuple[str, ...]
    alone: tuple[str, ...] = ()


PEERS = {
    "pfl": Peer((3, 10), ("pfl==0.6.0",)),
    # Without torchvision, whose wheel on PyPI is built for torch with CUDA; see contenders/fluke.
    "fluke": Peer(
        (3, 10),
        (
            "cerberus",
            "clearml",
            "datasets",
            "diskcache",
            "hydra-core",
            "matplotlib",
            "numpy",
            "omegaconf",
            "opacus",
            "pandas",
            "psutil",
            "pyyaml",
            "requests",
            "rich",
            "scikit-learn",
            "seaborn",
            "tensorboard",
            "torchmetrics",
            "typer",
            "wandb",
        ),
        alone=("fluke-fl==0.8.1",),
    ),
    "blazefl": Peer((3, 14), ("blazefl==3.0.0",)),
}


def peers_folder() -> Path:
    """Where they lie by default."""
    return cache_folder() / "peers"


def install(name: str, peers: Path) -> str:
    """Install one anew; returns why it could not be, or ""."""
    peer, folder = PEERS[name], peers / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = _python(peer.python)
    if python is None:
        wanted = ".".join(map(str, peer.python))
        problem = f"it needs Python {wanted} or later, and none is on the PATH"
    else:
        problem = _installed(python, peer, folder)
    (folder / (WHY_NOT if problem else INSTALLED)).write_text(problem)
    return problem


def _python(least: tuple[int, int]) -> str | None:
    """This interpreter where it is new enough, else one that is called so."""
    if sys.version_info[:2] >= least:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(least[1], least[1] + 3)]
    works = f"import sys; sys.exit(sys.version_info[:2] < {least!r})"
    for found in filter(None, map(shutil.which, names)):
        if subprocess.run([found, "-c", works], capture_output=True).returncode == 0:
            return found
    return None


def _installed(python: str, peer: Peer, folder: Path) -> str:
    torch = f"torch=={version('torch').split('+')[0]}"
    constraints = folder / "constraints.txt"
    pip = [str(python_of(folder)), "-m", "pip", "install", "--quiet"]
    steps = [[python, "-m", "venv", str(folder)], [*pip, torch]]
    if peer.alone:
        steps.append([*pip, "--no-deps", *peer.alone])
    # Whatever the others want, torch stays.
    steps.append([*pip, "--constraint", str(constraints), *peer.with_it])
    constraints.write_text(torch + "\n")
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return f"`{' '.join(step[-3:])}` failed: {(errors or ['no reason given'])[-1]}"
    return ""


def main() -> None:
    """Install, and say a line about each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*PEERS, []], metavar="NAME")
    parser.add_argument("--peers-dir", type=Path, default=peers_folder())
    arguments = parser.parse_args()
    for name in arguments.names or PEERS:
        problem = install(name, arguments.peers_dir.resolve())
        print(f"{name}: {problem or 'installed'}", flush=True)


if __name__ == "__main__":
    main()
