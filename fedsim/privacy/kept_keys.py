"""The keys of private runs that did not finish: whose they are, and which of them nobody needs.

A key is what a resumed run goes on with, so that it is removed only where its run is finished, or
where somebody names it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim.errors import FedsimError
from fedsim.privacy import noise_keys
from fedsim.program import command
from fedsim.runs import Run

FINISHED = "finished"
ELSEWHERE = "not there: removed or moved"
UNKNOWN = "not recorded: of an earlier version"
# Of the one secret that the clients of all `local` and `dp-sgd` runs here draw from.
OF_CLIENTS = Path(noise_keys.CLIENTS).stem
NEEDED = "of all clients here: kept for the runs above"
UNUSED = "of all clients here: no unfinished run is listed"


@dataclass(frozen=True)
class KeptKey:
    """A key by its public name. run: the folder that it was begun or resumed in last, None of
    earlier versions and of `OF_CLIENTS`; state: that of the run, or why there is none; used:
    seconds since the epoch."""

    id: str
    run: Path | None
    state: str
    used: float

    @property
    def spare(self) -> bool:
        """Whether nothing can ask for it any more."""
        return self.state in (FINISHED, UNUSED)

    @property
    def may_be_needed(self) -> bool:
        """Whether a run that is there can be resumed with it."""
        return self.state not in (FINISHED, ELSEWHERE, UNKNOWN, UNUSED)


def kept_keys() -> list[KeptKey]:
    """All keys of runs on this machine, the one that was used last first, and that of clients."""
    files = [f for f in noise_keys.folder().glob("*.key") if f.name != noise_keys.CLIENTS]
    found = [_known(file) for file in files if not file.name.startswith(".")]
    runs = sorted(found, key=lambda key: (-key.used, key.id))
    return [*runs, *_of_clients(runs)]


def _of_clients(runs: Sequence[KeptKey]) -> list[KeptKey]:
    """The secret of clients, where there is one: any run that may go on may need it."""
    file = noise_keys.folder() / noise_keys.CLIENTS
    if not file.is_file():
        return []
    state = UNUSED if all(key.spare for key in runs) else NEEDED
    return [KeptKey(OF_CLIENTS, None, state, file.stat().st_mtime)]


def forget(names: Sequence[str]) -> list[KeptKey]:
    """Delete the keys of these ids, which may be shortened; returns them.

    Raises FedsimError, and deletes none, where there is no such key, where an id may be two, and
    where its run is there and can be resumed.
    """
    keys, chosen = kept_keys(), []
    for name in names:
        fitting = [key for key in keys if name and _is_named(key, name)]
        if len(fitting) != 1:
            why = "is no key" if not fitting else f"may be {len(fitting)} keys"
            raise FedsimError(f"'{name}' {why}; `{command('cache', 'keys')}` lists them.")
        (key,) = fitting
        if key.state == NEEDED:
            raise FedsimError(
                "The key of clients is kept as long as a key of a run is listed: finish or forget "
                "those runs first."
            )
        if key.may_be_needed:
            raise FedsimError(
                f"{key.run} is {key.state} and can be resumed with the key {key.id[:12]}: resume "
                "it, or remove that folder first."
            )
        chosen.append(key)
    for key in chosen:
        noise_keys.forget(key.id)
    return chosen


def _is_named(key: KeptKey, name: str) -> bool:
    return key.id == name if key.id == OF_CLIENTS else key.id.startswith(name)


def prune() -> list[KeptKey]:
    """Delete the keys of runs that are finished, and that of clients where no other is left;
    returns them."""
    spare = [key for key in kept_keys() if key.spare]
    for key in spare:
        noise_keys.forget(key.id)
    return spare


def _known(file: Path) -> KeptKey:
    id, noted = file.stem, file.with_suffix(noise_keys.RUN)
    used = (noted if noted.is_file() else file).stat().st_mtime
    try:
        run = Path(os.fsdecode(noted.read_bytes()))
    except OSError:
        return KeptKey(id, None, UNKNOWN, used)
    return KeptKey(id, run, _state(run, id), used)


def _state(folder: Path, id: str) -> str:
    """Of the run whose key it is; what cannot be read counts as a run that may be resumed."""
    if not folder.is_dir():
        return ELSEWHERE
    try:
        run = Run(folder)
        noise = run.provenance.get("noise")
        if not isinstance(noise, dict) or noise.get("id") != id:
            return ELSEWHERE  # another run took its place
        return str(run.status["state"])
    except FedsimError:
        return "damaged"
