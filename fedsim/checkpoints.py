"""Checkpoints: one safetensors file each, written atomically, checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedsim.errors import FedsimError
from fedsim.files import write_atomically
from fedsim.program import command

PATTERN = "round-*.safetensors"


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write arrays and JSON-able `meta` with a digest over both."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(dict(meta), sort_keys=True)
    header = {"meta": text, "sha256": _digest(contiguous, text)}
    write_atomically(path, save(contiguous, metadata=header))


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote. Raises FedsimError where the file is damaged or foreign."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # TypeError and the like: a foreign file of a type of number that NumPy does not have.
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError, KeyError) as error:
        raise FedsimError(
            f"{path} is damaged or not a safetensors file ({error}); restore it."
        ) from None
    text = header.get("meta", "")
    if header.get("sha256") != _digest(arrays, text):
        raise FedsimError(f"{path} is damaged: its content does not match its checksum.")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise FedsimError(f"{path} is damaged: what it says of itself is no JSON object.")
    return arrays, meta


def _file(folder: Path, round: int) -> Path:
    """Where the checkpoint of a round is; the names sort by round."""
    return folder / f"round-{round:07d}.safetensors"


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    h = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        h.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        h.update(np.ascontiguousarray(arrays[name]).tobytes())
    return h.hexdigest()


def save_checkpoint(
    folder: Path, round: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], keep: int
) -> None:
    """Add the checkpoint of `round` and remove all but the last `keep`."""
    save_arrays(_file(folder, round), arrays, {**meta, "round": round})
    for old in sorted(folder.glob(PATTERN))[:-keep]:
        old.unlink(missing_ok=True)


def rounds_kept(folder: Path) -> list[int]:
    """The rounds of the checkpoints that are there, ascending."""
    return sorted(int(path.stem.removeprefix("round-")) for path in folder.glob(PATTERN))


def remove_after(folder: Path, round: int) -> None:
    """Remove the checkpoints newer than that of `round`: the damaged ones that were passed over.

    They would count towards `keep`, and push out whole ones.
    """
    for path in folder.glob(PATTERN):
        if path > _file(folder, round):
            path.unlink(missing_ok=True)


def _check(path: Path, meta: Mapping[str, Any]) -> None:
    """Raise FedsimError where a whole file does not say what a checkpoint of ours says."""
    lengths = meta.get("tables")
    fine = (
        isinstance(meta.get("identity"), str)
        and isinstance(meta.get("round"), int)
        and path == _file(path.parent, meta["round"])
        and isinstance(lengths, dict)
        and all(isinstance(length, int) and length >= 0 for length in lengths.values())
    )
    if not fine:
        raise FedsimError(f"{path} is damaged: it does not hold what a checkpoint of it would.")


def load_latest(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]]:
    """The newest checkpoint that is whole, and a sentence for each newer one that is not.

    Raises FedsimError where there is none.
    """
    problems: list[str] = []
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            arrays, meta = load_arrays(path)
            _check(path, meta)
        except FedsimError as error:
            problems.append(str(error))
            continue
        return arrays, meta, problems
    detail = " ".join(problems) or "there is no checkpoint in it."
    raise FedsimError(
        f"Cannot resume from {folder}: {detail} Start the run anew with `{command('train')}`."
    )
