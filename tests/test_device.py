"""How many cores a process may use: affinity and the quotas of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedsim import device
from fedsim.device import available_cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores without control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(device, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(device, "OWN_CGROUPS", tmp_path / "self")
    return tmp_path / "cgroup"


def write(file: Path, text: str) -> None:
    """A file with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def test_the_cores_that_the_process_is_bound_to(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert available_cores() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    for counted, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda counted=counted: counted)
        assert available_cores() == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("max 100000", 8),
        ("6400000 100000", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_the_quota_of_a_container(quota: str, expected: int, groups: Path) -> None:
    device.OWN_CGROUPS.write_text("0::/\n")
    write(groups / "cpu.max", quota)
    assert available_cores() == expected


def test_the_smallest_quota_on_the_way_up_counts(groups: Path) -> None:
    device.OWN_CGROUPS.write_text("0::/user.slice/job.scope\n")
    write(groups / "user.slice" / "cpu.max", "300000 100000")
    write(groups / "user.slice" / "job.scope" / "cpu.max", "max 100000")
    write(groups / "other.slice" / "cpu.max", "100000 100000")
    assert available_cores() == 3
    # Inside a container the path may be one of the host: the root is what is left.
    device.OWN_CGROUPS.write_text("0::/docker/0123/../4567\n")
    write(groups / "cpu.max", "500000 100000")
    assert available_cores() == 5


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", 8), ("100000", 1)])
def test_the_quota_of_version_1(quota: str, expected: int, groups: Path) -> None:
    device.OWN_CGROUPS.write_text("5:memory:/x\n4:cpu,cpuacct:/docker/0123\n0::/x\n")
    write(groups / "cpu" / "docker" / "0123" / "cpu.cfs_quota_us", quota)
    write(groups / "cpu" / "docker" / "0123" / "cpu.cfs_period_us", "100000")
    assert available_cores() == expected
