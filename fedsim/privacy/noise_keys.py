"""The key that a run's noise is drawn from: known to everybody, or drawn by this machine and kept.

A *seeded* key follows from the config and the text: the same run gives the same bits, and whoever
knows both can subtract the noise, so that nobody is protected. It is for simulation. A *fresh* key
comes from the operating system and stays in a folder of this user's own on the server, never in a
run folder, a message or a bundle: a resumed run goes on with the same noise, and at the end of the
run the key is deleted. What clients draw comes from one secret of their machine, which serves all
runs there and stays until it is removed (`fedsim.privacy.kept_keys`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from fedsim.errors import FedsimError
from fedsim.files import write_atomically
from fedsim.paths import expanded
from fedsim.privacy.key_stream import KEY_BYTES

GENERATOR = "AES-256 in counter mode"
CLIENTS = "clients.key"
RELEASED, RUN = ".released", ".run"  # beside a key: the rounds it was used in, and where its run is
Kind = Literal["seeded", "fresh"]


@dataclass(frozen=True, repr=False)
class NoiseKey:
    """A key; `repr` does not show it."""

    kind: Kind
    secret: bytes

    @property
    def id(self) -> str:
        """A name of the key that tells nothing of it, for the record of the run."""
        return hashlib.sha256(b"fedsim noise key/" + self.secret).hexdigest()[:32]

    def named(self, purpose: str) -> str:
        """A string for `fedsim.seeding` that follows from the key and does not tell it."""
        return hmac.new(self.secret, purpose.encode(), hashlib.sha256).hexdigest()


def seeded(fingerprint: str, corpus_digest: str) -> NoiseKey:
    """The key of a simulation: another config or other text, another key."""
    told = f"fedsim seeded noise/{fingerprint}/{corpus_digest}".encode()
    return NoiseKey("seeded", hashlib.sha256(told).digest())


def fresh() -> NoiseKey:
    """A key from the operating system, not kept yet."""
    return NoiseKey("fresh", secrets.token_bytes(KEY_BYTES))


def keep(key: NoiseKey, run: Path) -> None:
    """Write a fresh key where `kept` finds it, readable for this user only, and whose it is."""
    _write(_file(key.id), key.secret)
    _note(key.id, run)


def kept(id: str, run: Path) -> NoiseKey:
    """The key of that id. Raises FedsimError where it is not on this machine."""
    try:
        key = NoiseKey("fresh", _file(id).read_bytes())
    except OSError:
        key = None
    if key is None or len(key.secret) != KEY_BYTES or key.id != id:
        raise FedsimError(
            f"The key of {run}'s noise is not in {folder()}: it can be continued only where it "
            "was begun (set FEDSIM_KEYS to the folder of keys if that was moved); start a new run."
        )
    _note(id, run)  # which may have been moved
    return key


def _note(id: str, run: Path) -> None:
    """Beside the key, where its run lies: only to list keys by."""
    with suppress(OSError):
        write_atomically(_file(id).with_suffix(RUN), os.fsencode(run.resolve()), 0o600)


def released_once(key: NoiseKey, round: int, digest: str) -> None:
    """Note that a round's sum, by its digest, is about to get its noise, before anybody sees it.

    A round that is made again after an interruption gets the same noise, so it has to be the same
    sum: the difference of two would show what clients sent. Raises FedsimError where it is
    another. Only of keys that are kept.
    """
    path = _file(key.id).with_suffix(RELEASED)
    if not _file(key.id).is_file():
        return
    try:
        known = (
            dict(line.split() for line in path.read_text().splitlines()) if path.exists() else {}
        )
        if str(round) not in known:
            with open(path, "a", opener=partial(os.open, mode=0o600)) as file:
                file.write(f"{round} {digest}\n")
                file.flush()
                os.fsync(file.fileno())
            return
    except (OSError, ValueError) as error:
        raise FedsimError(f"Cannot keep {path} ({error}); free space, then resume.") from None
    if known[str(round)] != digest:
        raise FedsimError(
            f"Round {round} was released before the interruption and comes out otherwise now: "
            "other clients completed it. With the same noise the two would show what they sent; "
            "resume when all clients are there again, or start a new run."
        )


def forget(id: str) -> None:
    """Delete a key, after which nobody can make its noise again."""
    for path in (_file(id), *(_file(id).with_suffix(suffix) for suffix in (RELEASED, RUN))):
        with suppress(OSError):
            path.unlink()


def client_key(shard: str, told: str, parameters: bytes) -> bytes:
    """The key of what clients draw themselves under fresh noise, from this machine's own secret.

    shard: the node's own folder, "" where all text is here. told: the run's name and all that its
    message says. parameters: a digest of the model that came. A server that sends another model or
    other settings in the same round gets other noise; a message that is repeated the same.
    """
    path = Path(shard) / CLIENTS if shard else folder() / CLIENTS
    if not path.exists():
        with suppress(FileExistsError):
            _write(path, secrets.token_bytes(KEY_BYTES))
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise FedsimError(f"Cannot read {path}: {error.strerror}.") from None
    if len(secret) != KEY_BYTES:
        raise FedsimError(f"{path} is not a key; remove it, and a new one is made.")
    return hmac.new(secret, told.encode() + b"/" + parameters, hashlib.sha256).digest()


def folder() -> Path:
    """Where keys are kept: `FEDSIM_KEYS`, or a folder of this user's state."""
    given = os.environ.get("FEDSIM_KEYS", "")
    if given:
        return expanded(given, "FEDSIM_KEYS")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state else Path.home() / ".local" / "state") / "fedsim" / "keys"


def _file(id: str) -> Path:
    return folder() / f"{id}.key"


def _write(path: Path, data: bytes) -> None:
    """A new file that nobody else may read, whole or not at all. FileExistsError where it is."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise FedsimError(
            f"Cannot write the key {path} ({error.strerror}); set FEDSIM_KEYS to a folder of "
            "yours, or privacy.noise=seeded for a simulation."
        ) from None
    finally:
        with suppress(OSError):
            draft.unlink()
