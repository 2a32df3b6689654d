"""The rows of a report's HTML tables, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedsim.leakage.unseen import chance_of
from fedsim.report.facts import Facts
from fedsim.report.formats import (
    MISSING,
    chance,
    count,
    missing,
    number,
    percent,
    percent_interval,
    size,
)
from fedsim.report.formats import duration as in_time
from fedsim.report.plots import look

MOST_CANARIES = 300
MOST_REASONS = 10


def results(facts: Facts) -> list[dict[str, Any]]:
    """The final table."""
    rows = []
    for model in facts.scored:
        row = facts.result(model)
        assert row is not None
        latency = MISSING
        if not missing(row.latency_p50_ms):
            latency = f"{row.latency_p50_ms:.2f} / {row.latency_p95_ms:.2f} ms"
        rows.append(
            {
                "model": model,
                "look": look(facts, model),
                "top1": percent(row.top1_recall),
                "top1_interval": percent_interval(facts.recall(model, "top1_recall")),
                "top3": percent(row.top3_recall),
                "top3_interval": percent_interval(facts.recall(model, "top3_recall")),
                "worst1": percent(row.top1_recall_worst_tenth),
                "worst3": percent(row.top3_recall_worst_tenth),
                "perplexity": number(row.perplexity),
                "savings": percent(row.keystroke_savings, 1),
                "savings1": percent(row.keystroke_savings_top1, 1),
                "savings5": percent(row.keystroke_savings_top5, 1),
                "latency": latency,
                "size": size(row.model_bytes),
            }
        )
    return rows


def deciles(facts: Facts) -> list[dict[str, Any]]:
    """Top-1 recall of the users at each tenth."""
    rows = []
    for model in facts.models:
        values = facts.user_recalls(model)
        if len(values):
            cells = [percent(q, 1) for q in np.quantile(values, np.arange(1, 10) / 10)]
            rows.append({"model": model, "look": look(facts, model), "cells": cells})
    return rows


def better_for(facts: Facts) -> list[str]:
    """For how many test users the federated model is the better one."""
    mine = facts.users_of(facts.federated).set_index("user")
    out = []
    for model in facts.models:
        other = facts.users_of(model).set_index("user")
        shared = mine.index.intersection(other.index)
        if model == facts.federated or not len(shared):
            continue
        gain = mine.loc[shared, "hits_top1"] - other.loc[shared, "hits_top1"]
        better, equal = int((gain > 0).sum()), int((gain == 0).sum())
        out.append(
            f"{facts.federated} hits more words than {model} for {better} of {len(shared)} users"
            + (f" and equally many for {equal}." if equal else ".")
        )
    return out


def exposure_grid(facts: Facts) -> dict[str, Any]:
    """Mean sampled exposure at the end by holders (rows) and copies (columns)."""
    planted = facts.planted
    copies = sorted(planted["repeats"].unique())
    rows = []
    for users in sorted(planted["users"].unique()):
        cells = [_cell(facts, planted, users, repeats) for repeats in copies]
        rows.append({"head": count(int(users), "user"), "cells": cells})
    return {"heads": [count(int(c), "copy", "copies") for c in copies], "rows": rows}


def _cell(facts: Facts, planted: pd.DataFrame, users: int, repeats: int) -> dict[str, Any] | None:
    cell = planted[(planted["users"] == users) & (planted["repeats"] == repeats)]
    if not len(cell):
        return None
    seen = cell[cell["holder_participations"] > 0]
    if not len(seen):
        return {"seen": 0, "planted": len(cell)}
    bits = float(seen["exposure_bits"].mean())
    return {
        "seen": len(seen),
        "planted": len(cell),
        "bits": ("≥ " if bits >= facts.ceiling_bits else "") + number(bits, 2),
        "chance": chance(chance_of(seen["exposure_bits"].to_numpy())),
        "share": f"{min(1.0, max(0.0, bits / facts.ceiling_bits)):.3f}",
        "extracted": int(seen["extracted"].sum()),
        "rounds": number(seen["holder_participations"].mean(), 0 if len(seen) == 1 else 1),
    }


def canaries(facts: Facts) -> list[dict[str, Any]]:
    """One row a planted canary, the most exposed first, those never trained on last."""
    sentences = facts.canary_sentences
    planted = facts.planted.assign(never=facts.planted["holder_participations"] == 0)
    planted = planted.sort_values(
        ["never", "exposure_bits", "canary"], ascending=[True, False, True]
    )
    return [
        {
            **_words(sentences, int(row.canary), facts.config["canaries"]["prefix_words"]),
            "users": int(row.users),
            "repeats": int(row.repeats),
            "holder_participations": int(row.holder_participations),
            "never": bool(row.never),
            "bits": ("≥ " if row.exposure_bits >= row.ceiling_bits else "")
            + number(row.exposure_bits, 2),
            "extracted": bool(row.extracted),
        }
        for _, row in planted.head(MOST_CANARIES).iterrows()
    ]


def _words(sentences: Sequence[Sequence[str]], canary: int, given: int) -> dict[str, str]:
    """A canary's first words, which extraction begins with, and the rest; its number where the
    words are not known."""
    if canary >= len(sentences):
        return {"given": f"#{canary}", "rest": ""}
    words = sentences[canary]
    return {"given": " ".join(words[:given]), "rest": " ".join(words[given:])}


def left_out(facts: Facts) -> str:
    """Canaries that were asked for and are not there, in a sentence; empty where all are."""
    options = facts.config["canaries"]
    asked = len(options["users"]) * len(options["repeats"]) * options["per_cell"]
    if len(facts.planted) == asked:
        return ""
    return (
        f"{len(facts.planted)} of {asked} canaries are planted, so that their holders are at most "
        f"{percent(options['max_share'], 0)} of the users that train (canaries.max_share)."
    )


def offers(facts: Facts) -> list[dict[str, Any]]:
    """What the keyboard shows after a few beginnings of messages."""
    table = facts.suggestions.assign(typed=facts.suggestions["typed"].fillna(""))
    return [
        {
            "typed": typed,
            "offers": [(row.word, percent(row.probability, 1)) for row in rows.itertuples()],
        }
        for typed, rows in table.groupby("typed", sort=False)
    ]


def participation(facts: Facts) -> list[str]:
    """How often users took part, in sentences."""
    out = []
    for noun, canary in (("user", False), ("canary user", True)):
        rounds = facts.participations(canary)
        if len(rounds):
            times = (
                f"{rounds.min()} to {rounds.max()} times (median {rounds.median():g})"
                if rounds.min() != rounds.max()
                else count(int(rounds.max()), "time") + " each"
            )
            out.append(f"{count(len(rounds), noun)} took part, {times}.")
    sampled, failed = facts.rounds["users_sampled"].sum(), facts.rounds["users_failed"].sum()
    out.append(f"{int(failed):,} of {int(sampled):,} client trainings failed.")
    return out


def failure_reasons(facts: Facts) -> list[tuple[str, int]]:
    """The commonest reasons of failed clients."""
    counts = facts.failures["reason"].fillna("(no reason recorded)").value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [(str(reason), int(n)) for reason, n in ordered[:MOST_REASONS]]


def cost_tiles(facts: Facts) -> list[tuple[str, str]]:
    """Value and name of the totals."""
    rounds = facts.rounds
    each = rounds["download_bytes"].sum() / max(1, rounds["users_sampled"].sum())
    return [
        (size(rounds["download_bytes"].sum()), "downloaded by all clients"),
        (size(rounds["upload_bytes"].sum()), "uploaded by all clients"),
        (size(each), "each way, for one user and round"),
        (in_time(float(rounds["seconds"].sum())), f"for {count(len(rounds), 'round')}"),
        (number(rounds["tokens_per_second"].median(), 0), "tokens a second (median)"),
    ]


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested value as dotted keys and JSON text."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, json.dumps(tree, ensure_ascii=False)
