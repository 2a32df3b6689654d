"""Faults of the disk and of what lies on it: full, read-only, torn."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faulty.attempt import REFUSED, ROUNDS, Attempt
from faulty.orders import WriteFault
from faulty.processes import Command

MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


class Namespace:
    """A mount namespace of its own, in which commands see other file systems than we do."""

    def __init__(self) -> None:
        self._shell = subprocess.Popen(
            [*MOUNTS, "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.run("true")
        pid = str(self._shell.pid)
        self.within = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", pid]
        self.root = Path(f"/proc/{pid}/root")

    def run(self, command: str) -> None:
        """A shell command in the namespace. Raises RuntimeError where it fails."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command} && echo done || echo failed\n")
        self._shell.stdin.flush()
        said = [self._shell.stdout.readline()]
        while said[-1] not in ("done\n", "failed\n", ""):
            said.append(self._shell.stdout.readline())
        if said[-1] != "done\n":
            raise RuntimeError(f"{command}: {''.join(said)}")

    def close(self) -> None:
        """End it; its mounts go with the last process in it."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A mount namespace until the block ends."""
    space = Namespace()
    try:
        yield space
    finally:
        space.close()


def mounts_permitted() -> bool:
    """Whether this machine lets us mount things in a namespace of our own."""
    try:
        with namespace() as space:
            space.run("mount -t tmpfs -o size=64k tmpfs /mnt")
            subprocess.run([*space.within, "true"], check=True, capture_output=True)
    except (OSError, RuntimeError, subprocess.CalledProcessError):
        return False
    return True


def no_room_left(attempt: Attempt) -> str:
    """From some write on no file can grow; later there is room again."""
    at = int(attempt.rng.integers(1, attempt.lab.writes + 1))
    fault = WriteFault("full", at, attempt.one_of(["before", "after"]))
    engine = attempt.one_of(["pool", "local"])
    command = attempt.train("--engine", engine, orders=attempt.orders(write=fault))
    attempt.expect_sentence(command, "File too large")
    return attempt.to_the_end()


def small_disk(attempt: Attempt) -> str:
    """The run's folder is on a disk of some 16 to 200 kB, which grows afterwards."""
    disk = attempt.folder / "disk"
    disk.mkdir()
    with namespace() as space:
        size = int(attempt.rng.integers(4, 50)) * 4
        space.run(f"mount -t tmpfs -o size={size}k tmpfs {disk}")
        inside, outside = disk / "run", space.root / disk.relative_to("/") / "run"

        def start(name: str, *arguments: Any) -> Command:
            return attempt.command([name, *arguments], fresh=True, within=space.within)

        attempt.path = outside
        command = start("train", "--preset", attempt.lab.preset, "--out", inside)
        if command.wait() != 0:
            attempt.expect_sentence(command, "No space left on device")
        space.run(f"mount -o remount,size=64m {disk}")
        return attempt.to_the_end(resume=lambda *keys: start("resume", inside, *keys))


def read_only(attempt: Attempt) -> str:
    """The run's folder, or the one it is to be made in, can only be read."""
    if attempt.rng.random() < 0.5:
        with namespace() as space:
            _freeze(space, attempt.folder)
            command = attempt.train(fresh=True, within=space.within)
            attempt.expect_sentence(
                command, "cannot be made, since .* is no folder that can be written into"
            )
        attempt.expect(not attempt.path.exists(), "a folder was made")
        return REFUSED
    _interrupted(attempt)
    before = _contents(attempt.path)
    with namespace() as space:
        _freeze(space, attempt.path)
        command = attempt.resume(fresh=True, within=space.within)
        attempt.expect_sentence(command, "Cannot write .*: Read-only file system")
    attempt.expect(_contents(attempt.path) == before, "the folder was changed")
    attempt.to_the_end()
    return REFUSED


def torn_checkpoint(attempt: Attempt) -> str:
    """The newest checkpoint is cut off or has another bit: the one before is used, and said so."""
    _interrupted(attempt)
    *_, older, newest = sorted((attempt.path / "checkpoints").glob("round-*"))
    _damage(attempt, newest)
    command = attempt.resume("--engine", attempt.one_of(["pool", "local"]))
    code, said = command.wait(), command.said()
    attempt.expect(code == 0, f"exit code {code}")
    attempt.expect(f"{newest.name} is damaged" in said, "the damage is not said")
    instead = f"Using the checkpoint of round {int(older.stem.split('-')[1])} instead."
    attempt.expect(instead in said, f"not said: {instead}")
    return attempt.same_bits()


def torn_checkpoints(attempt: Attempt) -> str:
    """All checkpoints are damaged: refused, and all that was written is still there."""
    _interrupted(attempt)
    for file in (attempt.path / "checkpoints").glob("round-*"):
        _damage(attempt, file)
    before = _contents(attempt.path, "*.csv") | _contents(attempt.path, "*.safetensors")
    command = attempt.resume("--engine", "local")
    attempt.expect_sentence(command, "is damaged.*Start the run anew")
    after = _contents(attempt.path, "*.csv") | _contents(attempt.path, "*.safetensors")
    attempt.expect(after == before, "what was written before has changed")
    return REFUSED


def _interrupted(attempt: Attempt) -> None:
    """A run that was killed after its third round or later."""
    command = attempt.train("--engine", "local")
    rows = int(attempt.rng.integers(3, ROUNDS))
    # The checkpoint comes after the rows of an even round.
    command.wait_until(lambda: attempt.status().get("round", 0) >= 2 and attempt.rows() >= rows)
    time.sleep(attempt.seconds(0.02))
    command.kill()


def _damage(attempt: Attempt, file: Path) -> None:
    data = bytearray(file.read_bytes())
    place = int(attempt.rng.integers(len(data)))
    if attempt.rng.random() < 0.5:
        del data[place:]
    else:
        data[place] ^= 1 << int(attempt.rng.integers(8))
    file.write_bytes(data)


def _freeze(space: Namespace, folder: Path) -> None:
    space.run(f"mount --bind {folder} {folder}")
    space.run(f"mount -o remount,bind,ro {folder}")


def _contents(folder: Path, pattern: str = "*") -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob(pattern)
        if file.is_file()
    }


KINDS = {
    "no file can grow": (5, no_room_left),
    "newest checkpoint torn": (3, torn_checkpoint),
    "all checkpoints torn": (1, torn_checkpoints),
}
WITH_MOUNTS = {
    "disk full": (3, small_disk),
    "read-only folder": (2, read_only),
}
