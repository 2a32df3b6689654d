"""The `deploy` engine: a bundle of two imports, submitted to a deployment's SuperLink."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedsim import __version__
from fedsim.config import from_dict
from fedsim.data.shards import SERVER
from fedsim.data.store import open_corpus, open_folder
from fedsim.deploy.deployment import FOLDER, SUPERLINK, Deployment
from fedsim.deploy.processes import environment, program
from fedsim.errors import FedsimError
from fedsim.program import command
from fedsim.runs import Run
from fedsim.sections import EngineOptions

# The code is the installed fedsim of each machine: a bundle that carried it would be a second,
# older copy as soon as somebody edits the first.
PROJECT = """
[project]
name = "fedsim-on-a-deployment"
version = "{version}"
description = "The apps of the installed fedsim"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "fedsim"

[tool.flwr.app.components]
serverapp = "fedsim_bundle.server_app:app"
clientapp = "fedsim_bundle.client_app:app"

[tool.flwr.app.config]
settings = ""
"""
MODULE = '"""The app of the installed fedsim."""\n\nfrom {module} import app\n\n__all__ = ["app"]\n'
_FRAME = " \n\r│╭╮╰╯─"  # around what Flower says of errors
RUN_ID = re.compile(r"started run (\d+)")


def serve(
    server_app: str, client_app: str, settings: dict[str, Any], engine: EngineOptions
) -> None:
    """Run the apps on the deployment in the folder `engine.address`.

    What the ServerApp prints is passed on. A Ctrl-C stops it on the SuperLink; the run can be
    resumed. Raises FedsimError where the run did not finish.
    """
    deployment = Deployment.open(Path(engine.address or FOLDER))
    if not deployment.running(SUPERLINK):
        raise FedsimError(
            f"The SuperLink of {deployment.folder} does not run: `{command('deploy', 'up')}` again."
        )
    bundle = _write_bundle(deployment.folder / "bundle", server_app, client_app)
    _require_its_data(deployment, settings)
    with _for_the_server(deployment, settings) as name:
        told = f'settings="{name}"'
        words = [program("flwr"), "run", str(bundle), SUPERLINK, "--stream", "-c", told]
        said = _stream(deployment, words, bool(settings["quiet"]))
    _check_outcome(Path(settings["run"]), said, deployment)


@contextmanager
def _for_the_server(deployment: Deployment, settings: dict[str, Any]) -> Iterator[str]:
    """The name under which the ServerApp finds the settings, in a file on its own machine.

    What is in the bundle or in Flower's run config travels to every node.
    """
    name = secrets.token_hex(8)
    path = deployment.settings / f"{name}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(settings, file)
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)


def _stream(deployment: Deployment, words: list[str], quiet: bool) -> str:
    """Pass on what the submitted run prints; returns the last line of it."""
    stream = subprocess.Popen(
        words,
        env=environment(deployment.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a Ctrl-C is ours to handle
    )
    run_id, said = "", ""
    assert stream.stdout is not None
    try:
        for line in stream.stdout:
            said = line.strip(_FRAME) or said
            found = RUN_ID.search(line)
            run_id = run_id or (found[1] if found else "")
            if not quiet:
                print(line, end="", file=sys.stderr)
    except KeyboardInterrupt:
        if run_id:
            deployment.flower("stop", run_id, SUPERLINK)
        raise
    finally:
        stream.terminate()
        stream.wait()
    return said


def _require_its_data(deployment: Deployment, settings: dict[str, Any]) -> None:
    """Raise FedsimError where the run is not on the text that the shards were cut from."""
    told = settings.get("config")
    config = from_dict(json.loads(told)) if told else Run.open(settings["run"]).config
    if open_corpus(config.data).digest != open_folder(deployment.folder / SERVER).digest:
        made = ", ".join(f"data.{k}={v}" for k, v in deployment.data.items() if v is not None)
        raise FedsimError(
            f"The deployment in {deployment.folder} was made with other data ({made}); leave the "
            "data keys out, or make another one with `deploy up --folder`."
        )


def _check_outcome(folder: Path, said: str, deployment: Deployment) -> None:
    """Raise FedsimError where the run did not finish."""
    if not (folder / "status.json").is_file():
        raise FedsimError(f"The run did not start: {said}")
    run = Run.open(folder)
    if run.status["state"] not in ("finished", "paused"):
        if not deployment.running(SUPERLINK):
            again = command("deploy", "up", "--folder", deployment.folder)
            raise FedsimError(
                f"The SuperLink has ended while the run was under way (see "
                f"{deployment.log(SUPERLINK)}): `{again}`, then `{command('resume', folder)}`."
            )
        reason = run.status.get("error") or said
        raise FedsimError(
            f"The run ended before its time: {reason}; then `{command('resume', folder)}`."
        )


def _write_bundle(folder: Path, server_app: str, client_app: str) -> Path:
    package = folder / "fedsim_bundle"
    package.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT.lstrip().format(version=__version__))
    (package / "__init__.py").write_text('"""What `deploy run` submits."""\n')
    for name, reference in (("server_app", server_app), ("client_app", client_app)):
        module = reference.partition(":")[0]
        (package / f"{name}.py").write_text(MODULE.format(module=module))
    return folder
