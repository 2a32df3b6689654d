"""Where tensors live and how many threads compute: settings that a run records."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from fedsim.errors import FedsimError

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")  # lines such as 0::/user.slice or 4:cpu,cpuacct:/docker/x


def resolve_device(name: str) -> torch.device:
    """'auto' means CUDA where there is one, else the CPU; other names are torch's own."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise FedsimError(
            f"engine.device = '{name}' cannot be used here ({reason}); try 'auto' or 'cpu'."
        ) from None
    return device


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute on `count` torch threads inside the block: sums depend on it in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than a container's quota.

    A part of a core counts as a whole one; at least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _cpu_quotas())]))


def _cpu_quotas() -> Iterator[float]:
    """Cores' worth of time that the control groups of this process grant; nothing without a limit.

    A group is bound by the groups above it. Inside a container the path may be that of the host,
    which is not there: then the root is the container's own group.
    """
    lines: list[str] = []
    with suppress(OSError):
        lines = OWN_CGROUPS.read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _quota_of(folder, version=1 if controllers else 2)


def _quota_of(folder: Path, version: int) -> Iterator[float]:
    """The quota of one control group, if it has one."""
    with suppress(OSError, ValueError):  # no such file; 'max', which is no limit
        if version == 2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        if int(quota) > 0 and int(period) > 0:  # version 1 writes -1 for no limit
            yield int(quota) / int(period)
