"""Data sets of Hugging Face `datasets` as `save_to_disk` leaves them: Arrow files and a state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.data.readers.base import READERS, Began, Row
from fedsim.data.readers.columns import Columns
from fedsim.data.readers.json_text import load_json
from fedsim.errors import FedsimError

if TYPE_CHECKING:
    import pyarrow as pa

_STATE = "state.json"


@READERS.register("huggingface")
class HuggingFace(Columns):
    """One row is one message, and the values of the user column are the people.

    The files are read with Arrow alone, in batches: the package `datasets` maps them unchecked
    into memory, where a damaged one can end the process. All splits in the folder are read.
    """

    def takes(self, file: Path) -> bool:
        """The state files and the Arrow files that they name."""
        return super().takes(file) and (file.name == _STATE or file.suffix == ".arrow")

    def messages(self, files: Sequence[Path]) -> Iterator[Row]:
        """(user, text) row by row, split by split."""
        states = [file for file in files if file.name == _STATE]
        if not states:
            raise FedsimError(
                f"{files[0].parent}: holds no {_STATE}, so it is no data set saved with "
                "save_to_disk: give the folder that save_to_disk wrote."
            )
        known = set(files)
        for state in states:
            for file in _arrow_files(state):
                # Only what was found in the folder: a name in a state may lead anywhere.
                if file not in known:
                    raise FedsimError(
                        f"{state}: names {file}, which is not in the folder that was given: "
                        "give the whole folder that save_to_disk wrote."
                    )
                yield Began(file)
                yield from self.checked(self.arrow_rows(file, self._batches(file), "Arrow"))

    def _batches(self, file: Path) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        with pa.OSFile(str(file)) as source:
            schema = pa.ipc.open_stream(source).schema
        wanted = [schema.names.index(name) for name in self.top_columns(file, schema)]
        options = pa.ipc.IpcReadOptions(included_fields=wanted)
        with pa.OSFile(str(file)) as source:
            yield from pa.ipc.open_stream(source, options=options)


def _arrow_files(state: Path) -> list[Path]:
    """The files of one split in their order."""
    content = load_json(state)
    listed = content.get("_data_files") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("filename"), str) for one in listed
    ):
        raise FedsimError(
            f"{state}: has no list '_data_files' with file names: save the data set again with "
            "save_to_disk."
        )
    if content.get("_indices_data_files"):
        raise FedsimError(
            f"{state}: was saved by an old version of datasets with an order of its own: save it "
            "again with flatten_indices().save_to_disk()."
        )
    return [state.parent / one["filename"] for one in listed]
