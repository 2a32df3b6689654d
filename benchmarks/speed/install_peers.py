"""Install the other simulators, each into an environment of its own: none is a dependency.

    python benchmarks/speed/install_peers.py                    # all of them
    python benchmarks/speed/install_peers.py pfl --peers-dir /some/folder

pip installs each into a folder of its name, in `peers` in the cache folder of fedsim
(`$FEDSIM_CACHE`, else `~/.cache/fedsim`): a virtual environment with its own torch, of the release
that fedsim is installed with. Nothing is changed in the environment that runs this. A peer that is
there is installed anew; one that cannot be installed says why in one line, and the comparison goes
on without it. To remove a peer, delete its folder.
"""

from __future__ import annotations

import argparse
import re
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

    gigabytes: on disk, with a torch for the CPU, which is 0.8 of them; needs: what is installed
    instead of what it declares; python: the least release of Python that it declares, where its
    source is rewritten for an older one.
    """

    release: str
    gigabytes: float
    needs: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 0)


PEERS = {
    "pfl": Peer("pfl==0.6.0", 1.1),
    # All but test tools and torchvision, whose wheel on PyPI is built for torch with CUDA: see
    # contenders/fluke.py.
    "fluke": Peer(
        "fluke-fl==0.8.1",
        1.8,
        needs=(
            *("cerberus", "clearml", "datasets", "diskcache", "hydra-core", "matplotlib", "numpy"),
            *("omegaconf", "opacus", "pandas", "psutil", "pyyaml", "requests", "rich"),
            *("scikit-learn", "seaborn", "tensorboard", "torchmetrics", "typer", "wandb"),
        ),
    ),
    "blazefl": Peer("blazefl==3.0.0", 1.0, needs=("numpy", "tqdm"), python=(3, 14)),
}


def peers_folder() -> Path:
    """Where they lie by default."""
    return cache_folder() / "peers"


def install(name: str, peers: Path) -> str:
    """Install one anew; returns why it could not be, or ""."""
    peer, folder = PEERS[name], peers / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    problem = _pip(peer, folder)
    if not problem and sys.version_info[:2] < peer.python:
        for package in folder.glob(f"lib/python3.*/site-packages/{name}"):
            for file in package.rglob("*.py"):
                file.write_text(for_older_python(file.read_text("utf-8")), "utf-8")
    (folder / (WHY_NOT if problem else INSTALLED)).write_text(problem)
    return problem


def _pip(peer: Peer, folder: Path) -> str:
    """Make the environment; returns the error or ""."""
    torch = f"torch=={version('torch').split('+')[0]}"
    constraints = folder / "constraints.txt"
    pip = [str(python_of(folder)), "-m", "pip", "install", "--quiet"]
    pinned = [*pip, "--constraint", str(constraints)]  # whatever the others want, torch stays
    steps = [[sys.executable, "-m", "venv", str(folder)], [*pip, torch]]
    if peer.needs:
        steps.append([*pip, "--no-deps", "--ignore-requires-python", peer.release])
        steps.append([*pinned, *peer.needs])
    else:
        steps.append([*pinned, peer.release])
    constraints.write_text(torch + "\n")
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return f"`{' '.join(step[-3:])}` failed: {(errors or ['no reason given'])[-1]}"
    return ""


def for_older_python(source: str) -> str:
    """The source without type parameters (PEP 695), its annotations never evaluated (PEP 649).

    Enough for BlazeFL 3.0.0, which declares Python 3.14 and uses nothing else of it.
    """
    plain = re.sub(r"^(\s*(?:def|class) \w+)\[[^\]]*\]", r"\1", source, flags=re.MULTILINE)
    return "from __future__ import annotations\n" + plain


def _sizes() -> str:
    """What takes how much of the disk."""
    lines = [f"  {name}: {p.release}, {p.gigabytes:.1f} GB" for name, p in PEERS.items()]
    return "on disk, with a torch for the CPU (one for CUDA is larger):\n" + "\n".join(lines)


def main() -> None:
    """Install, and say a line about each."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_sizes(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of {', '.join(PEERS)} (default: all)"
    )
    parser.add_argument(
        "--peers-dir",
        type=Path,
        default=peers_folder(),
        help="the folder that they lie in; give it to the comparison too (default: %(default)s)",
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in PEERS:
            parser.error(f"{name}: choose from {', '.join(PEERS)}")
    for name in arguments.names or PEERS:
        problem = install(name, arguments.peers_dir.resolve())
        print(f"{name}: {problem or 'installed'}", flush=True)


if __name__ == "__main__":
    main()
