"""A deployment that is up for a block, and ended whatever happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsim.config import Config
from fedsim.deploy.deployment import Deployment


@contextmanager
def running(
    folder: Path, config: Config, tls: bool = True, remote: bool = False
) -> Iterator[Deployment]:
    """Two nodes and their SuperLink; tls, remote: see `Deployment.create`."""
    deployment = Deployment.create(folder, config, 2, tls, remote, 0)
    try:
        deployment.up()
        yield deployment
    finally:
        deployment.down()
