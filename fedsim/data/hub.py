"""Data sets of the Hugging Face hub, fetched once, at the commit that a recipe pins."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from fedsim.data.recipes import Source
from fedsim.data.storage import drafted
from fedsim.errors import FedsimError


def folder_of(source: Source, cache: Path) -> Path:
    """Where the data set lies below the cache folder once it has been fetched."""
    key = json.dumps([source.dataset, source.revision, source.split])
    name = hashlib.sha256(key.encode()).hexdigest()[:20]
    return cache / "hub" / f"{(source.dataset or '').replace('/', '--')}-{name}"


def fetched(source: Source, cache: Path) -> Path:
    """The folder with the data set as `save_to_disk` leaves it; the first time it is fetched.

    Raises FedsimError where the package `datasets` is missing or the hub does not give the data.
    """
    folder = folder_of(source, cache)
    if folder.is_dir():
        return folder
    load = _datasets_load(source)
    what = f"{source.dataset}, split {source.split}, revision {source.revision}"
    try:
        found = load(source.dataset, revision=source.revision, split=source.split)
        with drafted(folder) as draft:
            found.save_to_disk(str(draft / "set"))
            (draft / "set").rename(folder)
    except Exception as error:  # of the hub, the network, the format, the disk: none is ours
        lines = str(error).splitlines() or [type(error).__name__]
        raise FedsimError(
            f"The Hugging Face hub does not give {what} ({lines[0][:300].rstrip('.')}): check the "
            "recipe's [source] and the network."
        ) from error
    return folder


def _datasets_load(source: Source) -> Any:
    """`datasets.load_dataset`; our own folder of recipes answers to that name too."""
    try:
        return importlib.import_module("datasets").load_dataset
    except (ImportError, AttributeError):
        raise FedsimError(
            f"The data set {source.dataset} lies on the Hugging Face hub, which needs the package "
            "datasets: run `pip install datasets`."
        ) from None
