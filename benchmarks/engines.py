"""One small federation on every engine: model digests, client tables, seconds a round.

    python benchmarks/engines.py                         # the default preset, 4 rounds
    python benchmarks/engines.py --preset mine.toml

Exit code 1 where two engines differ. The deployments run at the same time as the others, so their
seconds are those of a busy machine: Flower's polling dominates them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fedsim.config import Config, load
from fedsim.runs import Run
from fedsim.sections import EngineOptions
from fedsim.simulation import simulate

HERE = [("local", 0), ("pool", 1), ("pool", 2), ("pool", 3), ("ray", 2)]
DEPLOYED = {"deploy, 2 nodes": [], "deploy, 2 nodes, TLS": ["--tls"]}
COMMAND = [sys.executable, "-m", "run_sim"]


class Deployed:
    """A deployment and a run on it, in the background."""

    def __init__(self, folder: Path, preset: str, overrides: list[str], more: list[str]) -> None:
        self.folder, self.run = folder, folder.with_name(folder.name + "-run")
        where = ["--preset", preset, "--folder", str(folder)]
        up = [*COMMAND, "deploy", "up", *overrides, *where, *more]
        run = [*COMMAND, "deploy", "run", *overrides, *where, "--out", str(self.run)]
        script = "import subprocess, sys; [subprocess.run(c, check=True) for c in {!r}]"
        self.process = subprocess.Popen(
            [sys.executable, "-c", script.format([up, run])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self) -> Run:
        """The finished run."""
        said, _ = self.process.communicate()
        if self.process.returncode:
            raise SystemExit(f"The deployment {self.folder.name} failed:\n{said}")
        return Run.open(self.run)

    def down(self) -> None:
        """End what it started."""
        self.process.kill()
        with contextlib.suppress(subprocess.CalledProcessError):
            command = [*COMMAND, "deploy", "down", "--folder", str(self.folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compare(config: Config, preset: str, overrides: list[str], folder: Path) -> pd.DataFrame:
    """One row an engine: name, digest, whether the clients table is that of `local`, seconds."""
    deployments = {
        name: Deployed(folder / f"deployment-{i}", preset, overrides, more)
        for i, (name, more) in enumerate(DEPLOYED.items())
    }
    try:
        runs = {}
        for engine, workers in HERE:
            name = f"{engine}, {workers} workers" if workers else engine
            options = EngineOptions(name=engine, workers=workers)
            runs[name] = simulate(replace(config, engine=options), folder / name, quiet=True)
        runs |= {name: deployment.result() for name, deployment in deployments.items()}
    finally:
        for deployment in deployments.values():
            deployment.down()
    expected = runs["local"].clients
    rows = [
        {
            "engine": name,
            "digest": run.digest,
            "clients_equal": run.clients.equals(expected),
            "seconds_per_round": round(float(run.rounds.seconds.median()), 3),
        }
        for name, run in runs.items()
    ]
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table; exit code 1 where engines differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    overrides = arguments.overrides
    if arguments.preset == "default" and not overrides:
        overrides = ["server.rounds=4", "evaluation.central=false", "evaluation.trigram=false"]
    with tempfile.TemporaryDirectory() as folder:
        config = load(arguments.preset, overrides)
        table = compare(config, arguments.preset, overrides, Path(folder))
    if arguments.json:
        print(json.dumps(table.to_dict("records"), indent=1))
    else:
        shown = table.assign(digest=table.digest.str[:16])
        print(shown.to_string(index=False))
    if table.digest.nunique() > 1 or not table.clients_equal.all():
        sys.exit("The engines differ.")


if __name__ == "__main__":
    main()
