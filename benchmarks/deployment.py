"""A TLS deployment under attack: a stranger knocks, a node is killed between rounds and restarted.

    python benchmarks/deployment.py

Prints what happened; exit code 1 unless the stranger was refused and the run ended with the digest
of the `local` engine. Takes minutes: a SuperLink takes a killed node for connected for a minute.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from fedsim.config import load
from fedsim.deploy import keys
from fedsim.deploy.deployment import Deployment, node_command
from fedsim.deploy.processes import complaint, environment, free_port
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import simulate

COMMAND = [sys.executable, "-m", "run_sim", "deploy"]
OVERRIDES = ["server.rounds=6", "evaluation.every=3", "evaluation.central=false",
             "evaluation.trigram=false"]  # fmt: skip


def stranger_is_refused(deployment: Deployment, folder: Path) -> bool:
    """A node with a key that nobody registered tries to connect."""
    shutil.copytree(deployment.node_folder(1), folder / "stranger")
    for name in (keys.NODE_KEY, keys.NODE_PUBLIC_KEY):
        (folder / "stranger" / name).unlink()
    keys.write_node_key(folder / "stranger")
    log = folder / "stranger.log"
    command = node_command(folder / "stranger", deployment.address, free_port())
    with log.open("wb") as out:
        code = subprocess.run(
            command, env=environment(folder), stdout=out, stderr=out, timeout=60, check=False
        ).returncode
    print(f"a node with an unregistered key: {complaint(log)} (exit code {code})")
    return code != 0 and deployment.online() == deployment.nodes


def rounds_of(folder: Path) -> int:
    """Rounds that the run has finished."""
    table = folder / "rounds.csv"
    return max(0, len(table.read_text().splitlines()) - 1) if table.is_file() else 0


def main() -> None:
    """The whole scene."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = replace(load("default", OVERRIDES), engine=EngineOptions(name="local"))
        expected = simulate(config, folder / "local", quiet=True).digest
        deployment = Deployment.create(folder / "deployment", config, 2, True, False, 0)
        out = folder / "run"
        try:
            deployment.up()
            refused = stranger_is_refused(deployment, folder)
            where = ["--folder", str(deployment.folder)]
            run = subprocess.Popen(
                [*COMMAND, "run", *OVERRIDES, *where, "--out", str(out)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while rounds_of(out) < 2:
                if run.poll() is not None:
                    sys.exit("The run ended before its second round.")
                time.sleep(0.2)
            victim = next(p for p in deployment.processes if p.name == "node-1")
            os.killpg(victim.pid, signal.SIGKILL)
            while victim.alive:
                time.sleep(0.05)
            print(f"node-1 was killed after round {rounds_of(out)}")
            started = time.monotonic()
            print(f"started again: {deployment.up()} after {time.monotonic() - started:.0f} s")
            run.wait()
            ended = Run.open(out)
            failed = len(ended.table("failures"))
            print(f"the run is {ended.status['state']}; failed clients: {failed}")
            same = ended.digest == expected
            print(f"local {expected[:16]}, deployment {ended.digest[:16]}")
        finally:
            deployment.down()
    if not (refused and same):
        sys.exit("The deployment did not hold.")


if __name__ == "__main__":
    main()
