"""CSV that reads back exactly: rows as text, and a file of them that may have been cut off."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedsim.errors import FedsimError
from fedsim.tables import LATER, Schema


def read_rows(path: Path, schema: Schema) -> pd.DataFrame:
    """A table's file with its types; empty where there is none.

    A last row that was cut off is left out. Raises FedsimError where anything else is not as it was
    written.
    """
    text = _whole_rows(path.read_bytes()) if path.is_file() else b""
    if not text:
        return pd.DataFrame({c: pd.Series(dtype=t) for c, t in schema.items()})
    try:
        table = pd.read_csv(io.BytesIO(text), dtype=schema, keep_default_na=False, na_values=[""])
        if list(table.columns) != [c for c in schema if c in table or c not in LATER]:
            raise ValueError(f"its columns should be {', '.join(schema)}")
        lacking = {c: pd.Series(None, table.index, t) for c, t in schema.items() if c not in table}
        table = table.assign(**lacking)[list(schema)]
    except (ValueError, OverflowError) as error:  # pandas' ParserError is a ValueError too
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise FedsimError(
            f"{path} is damaged ({reason}); restore it from a copy, or train the run anew."
        ) from None
    return table


def columns_for(path: Path, schema: Schema) -> Schema:
    """Those that a row has in a table's file: a file of before goes on with what it has."""
    if not path.is_file() or not path.stat().st_size:
        return schema
    with path.open(encoding="utf-8", newline="") as file:
        there = file.readline().rstrip("\r\n").split(",")
    return {c: t for c, t in schema.items() if c in there or c not in LATER}


def header(schema: Schema) -> str:
    """The first line of the file."""
    return ",".join(schema) + "\n"


def rows_text(rows: Iterable[Mapping[str, Any]], schema: Schema) -> str:
    """Rows as the file holds them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(schema), lineterminator="\n")
    known = [{k: _cell(v) for k, v in row.items() if k in schema or k not in LATER} for row in rows]
    writer.writerows(known)
    return text.getvalue()


def _whole_rows(text: bytes) -> bytes:
    """A CSV file up to its last row that ends: a line break between quotes ends none."""
    end = text.rfind(b"\n") + 1
    while text.count(b'"', 0, end) % 2:
        end = text.rfind(b"\n", 0, end - 1) + 1
    return text[:end]


def _cell(value: Any) -> Any:
    """A value as CSV text that reads back exactly."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float | np.floating) else value
