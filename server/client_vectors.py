"""A vector for each user and round in which it took part: files in a run's folder, or in memory.

A state of round R refers to each user's newest vector of a round up to R. Vectors that neither the
newest state nor any checkpoint refers to are deleted.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fedsim.checkpoints import rounds_kept
from fedsim.errors import FedsimError
from fedsim.files import remove_temporaries, write_atomically

FOLDER = "clients"


class ClientVectors:
    """float32 vectors (size,) by user and round; that of round 0 is zero."""

    def __init__(self, run: Path | None, size: int) -> None:
        """`run` is the run's folder; without one the vectors stay in memory."""
        self._run = run
        self._size = size
        self._memory: dict[tuple[int, int], np.ndarray] = {}

    def get(self, user: int, round: int) -> np.ndarray:
        """Raises FedsimError where it is not as `put` left it."""
        if not round:
            return np.zeros(self._size, np.float32)
        if self._run is None:
            return self._memory[user, round]
        path = self._path(user, round)
        try:
            values = np.load(path, allow_pickle=False)
            fine = values.dtype == np.float32 and values.shape == (self._size,)
        except (OSError, ValueError, EOFError):
            fine = False
        if not fine:
            raise FedsimError(
                f"{path} is missing or damaged, and the rounds to come need it; restore it from a "
                "copy, or train the run anew."
            )
        return values

    def put(self, user: int, round: int, values: np.ndarray) -> None:
        """Keep the user's vector of a round."""
        if self._run is None:
            self._memory[user, round] = values
            return
        buffer = io.BytesIO()
        np.save(buffer, values)
        path = self._path(user, round)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, buffer.getvalue())

    def forget_after(self, round: int) -> None:
        """Delete those of later rounds, which will be made again, and files half written."""
        self._forget([(user, of) for user, of in self._there() if of > round])
        if self._run is not None:
            remove_temporaries(self._run / FOLDER)

    def forget_unneeded(self, round: int) -> None:
        """Delete those that neither the state of `round` nor a checkpoint refers to."""
        states = [round]
        if self._run is not None:
            states += rounds_kept(self._run / "checkpoints")
        rounds: dict[int, list[int]] = {}
        for user, of in self._there():
            rounds.setdefault(user, []).append(of)
        for user, there in rounds.items():
            needed = {max((r for r in there if r <= state), default=0) for state in states}
            self._forget([(user, r) for r in there if r <= round and r not in needed])

    def forget_all(self) -> None:
        """Delete every vector, and the folder."""
        self._forget(self._there())
        if self._run is not None and (self._run / FOLDER).is_dir():
            (self._run / FOLDER).rmdir()

    def _path(self, user: int, round: int) -> Path:
        assert self._run is not None
        return self._run / FOLDER / f"user-{user}.round-{round}.npy"

    def _there(self) -> list[tuple[int, int]]:
        """(user, round) of all that are kept."""
        if self._run is None:
            return list(self._memory)
        names = [path.stem.split(".") for path in (self._run / FOLDER).glob("user-*.npy")]
        return [(int(u.removeprefix("user-")), int(r.removeprefix("round-"))) for u, r in names]

    def _forget(self, which: list[tuple[int, int]]) -> None:
        for user, round in which:
            if self._run is None:
                del self._memory[user, round]
            else:
                self._path(user, round).unlink(missing_ok=True)
