"""Rows of a run's tables as named figures of a round: numbers only, never text of people."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fedsim.tables import SCORES

Row = Mapping[str, Any]
Named = dict[str, Any]  # numbers, or what stands for a missing one

# Column of the tables `rounds` and `privacy` -> what it is called outside.
_ROUND = {
    "train_loss_nats_per_token": "train/loss",
    "tokens": "train/tokens",
    "tokens_per_second": "train/tokens_per_second",
    "update_norm": "train/update_norm",
    "mean_client_norm": "train/mean_client_norm",
    "users_sampled": "cohort/sampled",
    "users_completed": "cohort/completed",
    "users_failed": "cohort/failed",
    "download_bytes": "cost/download_bytes",
    "upload_bytes": "cost/upload_bytes",
    "seconds": "cost/seconds",
}
_PRIVACY = {
    "clip_norm": "privacy/clip_norm",
    "noise_deviation": "privacy/noise_deviation",
    "users_clipped": "privacy/users_clipped",
    "users_not_finite": "privacy/users_not_finite",
}


def figures(table: str, rows: Iterable[Row]) -> dict[str, float]:
    """Name -> value of the rows of one round of one of `SENT`; what is missing is left out."""
    named = {re.sub(r"[^\w.\-/ ]", "_", k): v for k, v in SENT[table](list(rows)).items()}
    return {name: float(value) for name, value in named.items() if not pd.isna(value)}


def _rounds(rows: list[Row]) -> Named:
    return {name: row[column] for row in rows for column, name in _ROUND.items()}


def _privacy(rows: list[Row]) -> Named:
    return {name: row.get(column) for row in rows for column, name in _PRIVACY.items()}


def _evaluations(rows: list[Row]) -> Named:
    return {f"{row['split']}/{column}": row[column] for row in rows for column in SCORES}


def _exposure(rows: list[Row]) -> Named:
    """Means over the canaries of a cell; planted ones count once a holder has taken part."""
    cells: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] != "planted":
            cells["held_out"].append(row)
        elif row["holder_participations"] > 0:
            cells[f"users_{row['users']}_copies_{row['repeats']}"].append(row)
            cells["planted"].append(row)
    out = {}
    for cell, members in cells.items():
        out[f"exposure/{cell}"] = float(np.mean([row["exposure_bits"] for row in members]))
        out[f"extracted/{cell}"] = float(np.mean([row["extracted"] for row in members]))
    if "planted" in cells:
        out["exposure/highest"] = max(row["exposure_bits"] for row in cells["planted"])
    return out


def _first_corpus(rows: list[Row]) -> Named:
    def name(row: Row) -> str:
        prefix = row["prefix_words"]
        after = "" if pd.isna(prefix) else f"/after_{prefix}_words"
        return f"first_corpus/{row['text']}/{row['quantity']}{after}"

    return {name(row): row["estimate"] for row in rows}


def _leakage(rows: list[Row]) -> Named:
    def name(row: Row) -> str:
        group = "" if pd.isna(row["group"]) else str(row["group"])
        return "/".join(part for part in (row["measure"], row["quantity"], group) if part)

    return {f"leakage/{name(row)}": row["estimate"] for row in rows}


def _results(rows: list[Row]) -> Named:
    return {
        f"results/{row['model']}/{column}": value
        for row in rows
        for column, value in row.items()
        if column not in ("model", "round")
    }


# Table -> its figures. `clients` and `users` are about single people, so they stay in the folder.
SENT = {
    "rounds": _rounds,
    "privacy": _privacy,
    "evaluations": _evaluations,
    "exposure": _exposure,
    "first_corpus": _first_corpus,
    "leakage": _leakage,
    "results": _results,
}
