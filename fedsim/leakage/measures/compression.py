"""Leakage of compressed copies: what pruning, 8 bits and distillation take and leave.

The same canaries and the same test users for the model and each of its copies, so that rows can
be compared pair by pair.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from fedsim.compression import COPIES, Original
from fedsim.compression.distilled import public_text
from fedsim.evaluation import SUGGESTIONS, Keyboard, evaluate_user
from fedsim.leakage.base import MEASURES, NAN, Finding, Findings, Measure, Subject
from fedsim.leakage.exposure import measure_exposure
from fedsim.leakage.intervals import (
    WILSON,
    bootstrap_over,
    mean_interval,
    over_users,
    student_t_over,
    wilson,
)
from fedsim.models.base import LanguageModel
from fedsim.seeding import stream

ORIGINAL = "copy=none"
TEACHING = 15.0  # about how long a student takes beside a copy that is not taught
OVER_CANARIES = student_t_over("canaries")


@MEASURES.register("compression")
class Compression(Measure):
    """Accuracy and memory of the model and of smaller copies of it, side by side."""

    copies: tuple[str, ...] = Field(
        ("pruned", "int8", "distilled"), description="pruned, int8, distilled"
    )
    sparsities: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.5, 0.9), description="of pruned copies"
    )
    width: float = Field(1.0, gt=0, le=1, description="of the student, a share of the teacher's")
    steps: int = Field(300, ge=1, description="of distillation, 32 sentences each")
    users: int = Field(30, ge=2, description="test users that are drawn to score accuracy")

    title = "Compressed copies"
    threat = "holds a compressed copy of the final global model"
    meaning = (
        "Phones get smaller copies of a model, and a copy can lose words and secrets unequally. "
        "Where exposure stays while recall falls, compressing protected nobody."
    )

    def measure(self, subject: Subject) -> Findings:
        """See `Measure.measure`; details are each copy's canaries and test users."""
        wanted = self._wanted()
        made_in = {group: TEACHING if name == "distilled" else 1.0 for group, name, _ in wanted}
        phases = subject.steps(**made_in, canaries=1 + len(wanted), users=1 + len(wanted))
        options, public = subject.config.model.options, public_text(subject.federation.corpus)
        original = Original(subject.model, options, public, subject.seed)
        size = original.parameters().nbytes
        models: dict[str, tuple[LanguageModel, int]] = {ORIGINAL: (subject.model, size)}
        for group, name, settings in wanted:
            made = COPIES[name](**settings).make(replace(original, heard=phases.part(group)))
            models[group] = (made.model, made.nbytes)
        users = drawn_users(subject, self.users)
        tables = {
            group: canary_table(subject, model)
            for group, (model, _) in phases.over("canaries", models.items(), len(models))
        }
        canaries = {group: table for group, table in tables.items() if table is not None}
        counts = {
            group: count(subject, model, users)
            for group, (model, _) in phases.over("users", models.items(), len(models))
        }
        rows = []
        for group, (_, nbytes) in models.items():
            rows += accuracy(group, counts[group], subject.seed)
            rows += leakage(group, canaries.get(group), canaries.get(ORIGINAL))
            rows.append(Finding("model_bytes", nbytes, group, control=size))
        details = {"canaries": _joined(canaries)} if canaries else {}
        return Findings(rows, {**details, "users": _joined(counts)})

    def _wanted(self) -> list[tuple[str, str, dict[str, float | int]]]:
        """(group, name, options) of each copy."""
        out: list[tuple[str, str, dict[str, float | int]]] = []
        for name in self.copies:
            if name == "pruned":
                out += [(f"copy=pruned sparsity={s:g}", name, {"sparsity": s})
                        for s in self.sparsities]  # fmt: skip
            elif name == "distilled":
                settings = {"width": self.width, "steps": self.steps}
                out.append((f"copy=distilled width={self.width:g}", name, settings))
            else:
                out.append((f"copy={name}", name, {}))
        return out


def drawn_users(subject: Subject, most: int) -> np.ndarray:
    """Test users, whom no training saw: all, or `most` drawn."""
    return subject.federation.scored("test", most, subject.seed)


def count(subject: Subject, model: LanguageModel, users: np.ndarray) -> pd.DataFrame:
    """`evaluate_user` of each user."""
    corpus = subject.federation.corpus
    keyboard = Keyboard(corpus.vocabulary.words, model.device)
    rows = []
    for user in users.tolist():
        text = corpus.sequences(user, "all")
        found = evaluate_user(model, text.tokens, text.offsets, keyboard)
        rows.append({"user": user, **found})
    return pd.DataFrame(rows)


def canary_table(subject: Subject, model: LanguageModel) -> pd.DataFrame | None:
    """One row a canary, as in a run's table of exposure; None of a run with canaries=none."""
    if not subject.federation.planted.canaries:
        return None
    holders = subject.federation.holder_participations(subject.participations)
    prefix = subject.config.canaries.prefix_words
    return measure_exposure(model, subject.federation.planted, prefix, holders, model.device)


def accuracy(group: str, counts: pd.DataFrame, seed: int) -> list[Finding]:
    """Recalls and perplexity over all words of the users; intervals draw whole users."""
    columns = counts[["hits_top1", "hits_top3", "words", "nats", "tokens"]].to_numpy(np.float64)
    statistics = {
        "top1_recall": lambda rows: _ratio(columns[rows, 0], columns[rows, 2]),
        f"top{SUGGESTIONS}_recall": lambda rows: _ratio(columns[rows, 1], columns[rows, 2]),
        "perplexity": lambda rows: float(np.exp(_ratio(columns[rows, 3], columns[rows, 4]))),
    }
    out = []
    for name, statistic in statistics.items():
        # The same draws for every copy: their intervals are those of the same people.
        rng = stream(seed, "compression, users")
        low, high = over_users(statistic, counts["user"].to_numpy(), rng)
        value = statistic(np.arange(len(columns)))
        out.append(Finding(name, value, group, len(columns), low, high, bootstrap_over("users")))
    return out


def _ratio(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.sum() / b.sum()) if b.sum() else NAN


def leakage(
    group: str, canaries: pd.DataFrame | None, before: pd.DataFrame | None
) -> list[Finding]:
    """Exposure and greedy extraction of the trained canaries, held-out ones as control, and how
    much the exposure of each changed by compressing. Without canaries one row says so."""
    if canaries is None or before is None:
        note = "this run has canaries=none: what copies remember cannot be told from it"
        return [Finding("exposure_bits", NAN, group, note=note)]
    trained = (canaries.holder_participations > 0).to_numpy()
    held_out = (canaries.kind == "held_out").to_numpy()
    n = int(trained.sum())
    if not n:
        note = "no canary was trained on: there is nothing to extract"
        return [Finding("exposure_bits", NAN, group, note=note)]
    bits, out = canaries.exposure_bits.to_numpy(), canaries.extracted.to_numpy()
    ceiling = float(canaries.ceiling_bits.iloc[0])
    at_ceiling = int((bits[trained] >= ceiling).sum())
    note = f"{at_ceiling} of {n} at the ceiling of {ceiling:.2f} bits" if at_ceiling else ""
    mean, low, high = mean_interval(bits[trained])
    rows = [Finding("exposure_bits", mean, group, n, low, high, OVER_CANARIES,
                    float(bits[held_out].mean()), note)]  # fmt: skip
    hits = int(out[trained].sum())
    low, high = wilson(hits, n)
    rows.append(Finding("extracted", hits / n, group, n, low, high, WILSON,
                        float(out[held_out].mean())))  # fmt: skip
    if group != ORIGINAL:
        change = bits - before.exposure_bits.to_numpy()
        mean, low, high = mean_interval(change[trained])
        rows.append(Finding("exposure_change_bits", mean, group, n, low, high, OVER_CANARIES,
                            float(change[held_out].mean())))  # fmt: skip
    return rows


def _joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = [table.assign(group=group) for group, table in tables.items()]
    return pd.concat(parts, ignore_index=True)
