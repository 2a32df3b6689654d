"""The folder of a deployment: shards, keys, logs, and what runs.

`server/` holds what the SuperLink needs, `node-0/` and so on what one SuperNode needs and nothing
of the others: to move a node to another machine, copy its folder there.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedsim.config import Config
from fedsim.data.shards import SERVER, shard_name, write_shards
from fedsim.data.store import open_corpus
from fedsim.deploy import keys
from fedsim.deploy.processes import (
    Process,
    complaint,
    environment,
    free_port,
    program,
    require_free,
    start,
    wait_until_listening,
)
from fedsim.errors import FedsimError
from fedsim.files import write_atomically
from fedsim.paths import check_new
from fedsim.program import command

FOLDER = "deployment"  # unless another is named
STATE = "deployment.json"
SUPERLINK = "superlink"  # in Flower's config, and as the name of the process
LOCAL = "127.0.0.1"
START_S = 60.0
ONLINE_S = 120.0
LOOK_S, PAUSE_S = 0.5, 5.0  # between looks at a node's log, and before a refused one starts again
TELL_S = 10.0
COMMAND_S = 120.0
SETTINGS = "FEDSIM_SETTINGS"  # environment of the SuperLink, and so of the ServerApp


@dataclass
class Deployment:
    """One SuperLink and its nodes; `nodes` of them, started here unless they are `remote`."""

    folder: Path
    nodes: int
    tls: bool
    remote: bool
    port: int
    data: dict[str, Any]
    processes: list[Process] = field(default_factory=list)

    @classmethod
    def create(
        cls, folder: Path, config: Config, nodes: int, tls: bool, remote: bool, port: int
    ) -> Deployment:
        """Write shards and keys into the new `folder`; nothing is started yet."""
        check_new(folder, "--folder")
        for name in ("flwr", "flower-superlink", "flower-supernode"):
            program(name)  # before anybody's text is written
        folder = folder.resolve()
        if any(char in str(folder) for char in '"\\'):  # Flower's node config cannot quote them
            raise FedsimError(f"{folder} has a quote or a backslash; choose another --folder.")
        corpus = open_corpus(config.data)
        write_shards(corpus, folder, nodes)
        data = config.as_dict()["data"]
        deployment = cls(folder, nodes, tls, remote, port or free_port(), data)
        if tls:
            keys.write_certificates(folder / SERVER)
            for number in range(nodes):
                node = deployment.node_folder(number)
                keys.write_node_key(node)
                certificate = (folder / SERVER / keys.CA).read_bytes()
                (node / keys.CA).write_bytes(certificate)
        deployment._write_flower_config()
        deployment.save()
        return deployment

    @classmethod
    def open(cls, folder: Path) -> Deployment:
        """The deployment in `folder`. Raises FedsimError where there is none."""
        try:
            values = json.loads((folder / STATE).read_text("utf-8"))
            processes = [Process(**process) for process in values.pop("processes")]
            return cls(folder=folder.resolve(), processes=processes, **values)
        except FileNotFoundError:
            raise FedsimError(
                f"There is no deployment in {folder}; start one with `{command('deploy', 'up')}`."
            ) from None
        except (ValueError, TypeError, KeyError):
            raise FedsimError(
                f"{folder / STATE} is damaged; end its processes by hand and remove {folder}."
            ) from None

    def save(self) -> None:
        """Write what runs, so that `down` finds it."""
        values = {k: v for k, v in asdict(self).items() if k != "folder"}
        write_atomically(self.folder / STATE, (json.dumps(values, indent=1) + "\n").encode())

    # -- what is where -----------------------------------------------------------------------

    def node_folder(self, number: int) -> Path:
        """A node's shard, key and certificate."""
        return self.folder / shard_name(number)

    @property
    def home(self) -> Path:
        """Flower's own folder: how its commands find the SuperLink."""
        return self.folder / SERVER / "flower"

    @property
    def settings(self) -> Path:
        """What `deploy run` tells the ServerApp alone."""
        return self.folder / SERVER / "settings"

    @property
    def address(self) -> str:
        """Where the SuperLink listens, on this machine only.

        Whoever reaches it can run an app on it, and so on all nodes: Flower puts the interface
        for nodes and the one for commands on one port, and asks only nodes for a key.
        """
        return f"{LOCAL}:{self.port}"

    def log(self, name: str) -> Path:
        """Where a process prints."""
        return self.folder / f"{name}.log"

    def running(self, name: str) -> bool:
        """Whether the process of that name was started here and still runs."""
        return any(p.name == name and p.alive for p in self.processes)

    # -- up and down -------------------------------------------------------------------------

    def up(self, say: Callable[[str], None] = lambda text: None) -> list[str]:
        """Start what does not run; returns the names of what was started. `say` hears of it."""
        started = []
        if not self.running(SUPERLINK):
            say(f"starting the SuperLink at {self.address}")
            require_free(self.port)
            process = self._start(SUPERLINK, self._superlink_command())
            wait_until_listening(self.port, process, self.log(SUPERLINK), START_S)
            started.append(SUPERLINK)
            if self.tls:
                self._register()
        if not self.remote:
            started += self._start_nodes(say)
        return started

    def down(self) -> list[str]:
        """End what was started; returns the names of what was still running."""
        nodes_first = sorted(self.processes, key=lambda p: p.name == SUPERLINK)
        ended = [process.name for process in nodes_first if process.end()]
        self.processes = []
        self.save()
        return ended

    def online(self) -> int:
        """How many nodes the SuperLink sees."""
        told = json.loads(self.flower("supernode", "list", SUPERLINK, "--format", "json"))
        return sum(1 for node in told.get("nodes", []) if node.get("status") == "online")

    def flower(self, *arguments: str) -> str:
        """What a command of Flower's prints. Raises FedsimError where it fails."""
        done = subprocess.run(
            [program("flwr"), *arguments],
            env=environment(self.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise FedsimError(f"`flwr {' '.join(arguments)}` failed: {said[-1]}")
        return done.stdout

    # -- details -----------------------------------------------------------------------------

    def _start(self, name: str, command: Sequence[str]) -> Process:
        more = {SETTINGS: str(self.settings)} if name == SUPERLINK else {}
        process = start(name, command, {**environment(self.home), **more}, self.log(name))
        self.processes = [p for p in self.processes if p.name != name] + [process]
        self.save()
        return process

    def _superlink_command(self) -> list[str]:
        server = self.folder / SERVER
        command = [program("flower-superlink"), "--host", LOCAL, "--port", str(self.port)]
        command += ["--database", str(server / "superlink.db")]
        if not self.tls:
            return [*command, "--insecure"]
        return [
            *command,
            "--ssl-ca-certfile", str(server / keys.CA),
            "--ssl-certfile", str(server / keys.CERTIFICATE),
            "--ssl-keyfile", str(server / keys.SERVER_KEY),
            "--enable-supernode-auth",
        ]  # fmt: skip

    def _write_flower_config(self) -> None:
        security = "insecure = true"
        if self.tls:
            security = f'root-certificates = "{self.folder / SERVER / keys.CA}"'
        text = f'[superlink]\ndefault = "{SUPERLINK}"\n\n[superlink.{SUPERLINK}]\n'
        text += f'address = "{self.address}"\n{security}\n'
        self.home.mkdir()
        (self.home / "config.toml").write_text(text, "utf-8")

    def _register(self) -> None:
        """Tell the SuperLink the nodes' public keys; it keeps them in its database."""
        for number in range(self.nodes):
            done = self.folder / SERVER / f"{shard_name(number)}.registered"
            if not done.exists():
                key = self.node_folder(number) / keys.NODE_PUBLIC_KEY
                self.flower("supernode", "register", str(key), SUPERLINK)
                done.touch()

    def _start_nodes(self, say: Callable[[str], None]) -> list[str]:
        """Start the nodes that do not run, and wait until the SuperLink has let each of them in.

        It takes a killed node for connected for up to a minute, and refuses its successor
        meanwhile: that one is started again until it is let in.
        """
        folders = {shard_name(number): self.node_folder(number) for number in range(self.nodes)}
        missing = [name for name in folders if not self.running(name)]
        waiting = {name: self._start_node(name, folders[name], say) for name in missing}
        deadline, told = time.monotonic() + ONLINE_S, time.monotonic()
        while waiting:
            time.sleep(LOOK_S)
            for name, begins in list(waiting.items()):
                if joined(log := self.log(name), begins):
                    say(f"{name} is connected")
                    del waiting[name]
                elif refused(log, begins) or not self.running(name):
                    self._end(name)
                    if time.monotonic() > deadline:
                        raise FedsimError(f"{name} is not let in: {complaint(log)} (see {log}).")
                    say(
                        f"{name} is refused so far: a killed node is taken for connected for up to "
                        "a minute; trying again"
                    )
                    time.sleep(PAUSE_S)
                    waiting[name] = self._start_node(name, folders[name], say)
            if waiting and time.monotonic() > deadline:
                name = next(iter(waiting))
                raise FedsimError(
                    f"{name} did not connect within {ONLINE_S:.0f} s: "
                    f"{complaint(self.log(name))} (see {self.log(name)})."
                )
            if waiting and time.monotonic() - told > TELL_S:
                told = time.monotonic()
                say(f"waiting for {', '.join(waiting)}, {deadline - told:.0f} s longer at most")
        return missing

    def _start_node(self, name: str, folder: Path, say: Callable[[str], None]) -> int:
        """Start it; returns where in its log it begins."""
        log = self.log(name)
        begins = log.stat().st_size if log.is_file() else 0
        say(f"starting {name}")
        self._start(name, node_command(folder, self.address, free_port()))
        return begins

    def _end(self, name: str) -> None:
        """A node that was refused goes on for a while before it ends."""
        for process in self.processes:
            if process.name == name:
                process.end()


def joined(log: Path, start: int) -> bool:
    """Whether a SuperNode says, after so many bytes of its log, that it has been let in."""
    return b"SuperNode ID:" in log.read_bytes()[start:]


def refused(log: Path, start: int) -> bool:
    """Whether a SuperNode says there that it gives up."""
    return b"Exit Code:" in log.read_bytes()[start:]


def node_command(folder: Path, superlink: str, port: int) -> list[str]:
    """The program that runs a node from its folder; TLS where the folder has a key."""
    if not (folder / "meta.json").is_file():
        raise FedsimError(f"{folder} is not the folder of a node, as `deploy up` writes it.")
    command = [program("flower-supernode"), "--superlink", superlink, "--port", str(port)]
    command += ["--node-config", f'shard="{folder.resolve()}"']
    if not (folder / keys.NODE_KEY).is_file():
        return [*command, "--insecure"]
    certificate, key = str(folder / keys.CA), str(folder / keys.NODE_KEY)
    return [*command, "--root-certificates", certificate, "--auth-supernode-private-key", key]
