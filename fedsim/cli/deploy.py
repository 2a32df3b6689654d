"""`deploy`: a real SuperLink with SuperNodes, each holding its own shard of the users."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsim import config as configs
from fedsim.cli.train import Json, Overrides, start
from fedsim.consoles import new_console
from fedsim.errors import FedsimError
from fedsim.program import command

if TYPE_CHECKING:
    from fedsim.deploy.deployment import Deployment

app = typer.Typer(help="Run on a real SuperLink with SuperNodes, each with its own users' text.")

Folder = Annotated[Path, typer.Option(help="of the deployment: shards, keys, logs")]
HERE = Path("deployment")


@app.command()
def up(
    overrides: Overrides = None,
    preset: Annotated[str, typer.Option(help="whose data section is used")] = "default",
    nodes: Annotated[int, typer.Option(min=1, help="SuperNodes")] = 2,
    tls: Annotated[
        bool, typer.Option("--tls", help="certificates, and keys for the nodes")
    ] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="start the SuperLink only; nodes run elsewhere")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="of the SuperLink; 0 takes a free one")
    ] = 0,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Write shards and keys, start the SuperLink and the nodes; again, start what has ended."""
    from fedsim.data.shards import disclosure
    from fedsim.data.store import open_corpus
    from fedsim.deploy.deployment import STATE, Deployment

    def say(text: str) -> None:
        console.print(text)

    console = new_console(stderr=True, soft_wrap=True)
    if (folder / STATE).is_file():
        if overrides:
            raise FedsimError(
                f"{folder} has its data already; leave out the keys to start again what has ended, "
                "or name another --folder."
            )
        deployment = Deployment.open(folder)
    else:
        config = configs.load(preset, overrides or [])
        say(f"writing the shards of {nodes} nodes to {folder}")
        deployment = Deployment.create(folder, config, nodes, tls, remote, port)
        if told := disclosure(open_corpus(config.data)):
            say(told)
    started = deployment.up(say)
    if as_json:
        where = {"superlink": deployment.address, "folder": str(deployment.folder)}
        print(json.dumps({**where, "started": started}, indent=2))
    else:
        say(f"started: {', '.join(started) or 'nothing, all was running'}")
        say(f"SuperLink at {deployment.address}, logs in {deployment.folder}")
    if deployment.remote:
        _say_where_nodes_go(deployment, say)


def _say_where_nodes_go(deployment: Deployment, say: Callable[[str], None]) -> None:
    for number in range(deployment.nodes):
        folder = deployment.node_folder(number)
        say(f"{folder.name}: copy {folder} to its machine, and there:")
        say(f"  ssh -N -L {deployment.port}:{deployment.address} THIS-MACHINE &")
        say(f"  fedsim deploy node {folder.name} --superlink localhost:{deployment.port}")


@app.command()
def node(
    folder: Annotated[Path, typer.Argument(help="a node's folder, as `deploy up` wrote it")],
    superlink: Annotated[str, typer.Option(help="host:port of the SuperLink")],
) -> None:
    """Run one SuperNode from its folder until it is stopped: on another machine, for example."""
    from fedsim.deploy.deployment import node_command
    from fedsim.deploy.processes import environment, free_port

    host, _, port = superlink.rpartition(":")
    if not host or not port.isdigit():
        raise FedsimError(f"--superlink {superlink} is not of the form host:port.")
    node = node_command(folder, superlink, free_port())
    print(f"connecting to {superlink}; tries until something answers there", file=sys.stderr)
    os.execve(node[0], node, dict(environment(folder.resolve() / "flower")))


@app.command()
def run(
    overrides: Overrides = None,
    preset: Annotated[str, typer.Option(help="a shipped preset, or a TOML file")] = "default",
    out: Annotated[Path | None, typer.Option(help="the run's folder; must not exist")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Train on the deployment, with the data that it was started with; continue with `resume`."""
    from fedsim.deploy.deployment import Deployment
    from fedsim.runs import new_run_folder

    deployment = Deployment.open(folder)
    keys = [*(overrides or []), "engine.name=deploy", f"engine.address={deployment.folder}"]
    config = configs.load(preset, keys)
    if not any(key.startswith("data") for key in keys):
        config = configs.from_dict({**config.as_dict(), "data": deployment.data})
    start(config, out or new_run_folder(Path(preset).stem), as_json)


@app.command()
def status(folder: Folder = HERE, as_json: Json = False) -> None:
    """Which processes run here, and how many nodes the SuperLink sees."""
    from fedsim.deploy.deployment import SUPERLINK, Deployment

    deployment = Deployment.open(folder)
    runs = {process.name: process.alive for process in deployment.processes}
    online = deployment.online() if runs.get(SUPERLINK) else 0
    if as_json:
        told = {"superlink": deployment.address, "processes": runs, "online": online}
        print(json.dumps({**told, "nodes": deployment.nodes, "tls": deployment.tls}, indent=2))
        return
    console = new_console()
    for name, alive in runs.items():
        console.print(f"{name:<12} {'running' if alive else 'ended'}")
    console.print(f"{online} of {deployment.nodes} nodes are online")
    if not all(runs.values()):
        again = command("deploy", "up", "--folder", folder)
        console.print(f"start again what has ended: {again}")


@app.command()
def down(folder: Folder = HERE, as_json: Json = False) -> None:
    """End what `deploy up` started, and nothing else; the folder stays."""
    from fedsim.deploy.deployment import Deployment

    ended = Deployment.open(folder).down()
    if as_json:
        print(json.dumps({"ended": ended}))
    else:
        print(f"ended: {', '.join(ended) or 'nothing was running'}")
