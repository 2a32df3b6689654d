"""Rows of the measure `updates`: how right the server was, over the clients of one situation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedsim.data.sequences import Sequences
from fedsim.leakage import update_attack
from fedsim.leakage.base import NAN, Finding
from fedsim.leakage.intervals import CLOPPER_PEARSON, clopper_pearson, mean_interval, student_t_over
from fedsim.leakage.update_attack import Read, Sent
from fedsim.leakage.update_sentences import Recovered
from fedsim.models.base import LanguageModel

STUDENT = student_t_over("clients")
EXACT = f"{CLOPPER_PEARSON} over sentences"


@dataclass(frozen=True)
class Cell:
    """One situation: what was sent, and the text of the clients.

    everyone: the text of all that are in a sum, which is then the only thing sent.
    """

    group: str
    model: LanguageModel
    users: tuple[int, ...]
    texts: tuple[Sequences, ...]
    sent: tuple[Sent, ...]
    everyone: Sequences | None = None


def findings(cell: Cell, reads: Sequence[Read]) -> list[Finding]:
    """All rows of a situation; one that no member can be in is said to be so."""
    if not cell.users:
        note = "not resolvable: too few members hold so many sentences"
        return [Finding("token_f1", NAN, f"attack=embedding-rows {cell.group}", note=note)]
    of = list(reads) if cell.everyone is None else [reads[0]] * len(cell.texts)
    note = "given how many different words there are" if of[0].sized else ""
    rows = _word_rows(cell, "embedding-rows", [r.words for r in of], note)
    if cell.everyone is not None:
        rows.append(_union_row(cell, reads[0], cell.everyone))
    targets = [r.targets for r in of if r.targets is not None]
    if targets:
        rows += _word_rows(cell, "output-bias", targets, "")
        rows.append(_count_row(cell, [r.counts for r in of if r.counts is not None]))
    recovered = [r.sentences for r in of if r.sentences is not None]
    return rows + (_sentence_rows(cell, recovered) if recovered else [])


def _word_rows(cell: Cell, attack: str, found: list[np.ndarray], note: str) -> list[Finding]:
    """Chance is drawing as many words at random: precision k/V, recall the share that is drawn."""
    true = [update_attack.typed(t) for t in cell.texts]
    scores = np.array([update_attack.overlap(f, t) for f, t in zip(found, true, strict=True)])
    size = cell.model.vocabulary_size
    k, named = (float(np.mean([len(x) for x in some])) for some in (true, found))
    chance = (k / size, named / size, 2 * k * named / size / max(k + named, 1.0))
    group = f"attack={attack} {cell.group}"
    rows = []
    for column, name in enumerate(("token_precision", "token_recall", "token_f1")):
        rows.append(_mean(name, scores[:, column], group, chance[column], note))
    return rows


def _union_row(cell: Cell, read: Read, everyone: Sequences) -> Finding:
    """What a sum does show: which words were typed by somebody."""
    true = update_attack.typed(everyone)
    _, _, f1 = update_attack.overlap(read.words, true)
    group = f"attack=embedding-rows {cell.group} of=union"
    chance = len(true) / cell.model.vocabulary_size
    note = "whose word it is, the sum does not say"
    return Finding("token_f1", f1, group, 1, control=chance, note=note)


def _count_row(cell: Cell, counts: list[np.ndarray]) -> Finding:
    """Control: the share that is right where each word is taken to be there once."""
    once = np.ones(cell.model.vocabulary_size, np.int64)
    right = [update_attack.exact_counts(c, t) for c, t in zip(counts, cell.texts, strict=True)]
    control = float(np.mean([update_attack.exact_counts(once, t) for t in cell.texts]))
    group = f"attack=output-bias {cell.group}"
    return _mean("counts_exact", np.array(right), group, control)


def _sentence_rows(cell: Cell, recovered: list[Recovered]) -> list[Finding]:
    """Control: the same sentences held against the text of the next client."""
    true = [update_attack.sentences_of(t) for t in cell.texts]
    found = [r.sentences for r in recovered]
    others = [*true[1:], true[0]] if len(true) > 1 else []
    group, note = f"attack=span {cell.group}", _note(recovered)
    sentences = sum(map(len, true))
    hits = sum(update_attack.same(f, t) for f, t in zip(found, true, strict=True))
    by_chance = sum(update_attack.same(f, t) for f, t in zip(found, others, strict=False))
    control = by_chance / sentences if others else NAN
    rows = [_share("sentences_exact", hits, sentences, group, note, control)]
    claimed = sum(map(len, found))
    if claimed and cell.everyone is None:
        rows.append(_share("sentences_false", claimed - hits, claimed, group, note, NAN))
    own = np.array([update_attack.best_rouge(f, t) for f, t in zip(found, true, strict=True)])
    controls = np.full(3, NAN)
    if others:
        pairs = zip(found, others, strict=True)
        controls = np.mean([update_attack.best_rouge(f, t) for f, t in pairs], axis=0)
    for column, name in enumerate(("rouge1", "rouge2", "rougeL")):
        rows.append(_mean(name, own[:, column], group, float(controls[column]), note))
    return rows


def _mean(name: str, values: np.ndarray, group: str, control: float, note: str = "") -> Finding:
    """Over clients, of something between 0 and 1."""
    mean, low, high = mean_interval(values)
    low, high = float(np.maximum(low, 0.0)), float(np.minimum(high, 1.0))
    return Finding(name, mean, group, len(values), low, high, STUDENT, control, note)


def _share(name: str, hits: int, n: int, group: str, note: str, control: float) -> Finding:
    low, high = clopper_pearson(hits, n)
    return Finding(name, hits / n, group, n, low, high, EXACT, control, note)


def _note(recovered: list[Recovered]) -> str:
    """Why nothing was found, and for how many clients the server can check what was."""
    parts = []
    if all(not r.sentences and not r.failure for r in recovered):
        parts.append("not recoverable: no word fits")
    for failure in sorted({r.failure for r in recovered if r.failure}):
        clients = sum(r.failure == failure for r in recovered)
        parts.append(f"{failure} ({clients} of {len(recovered)} clients)")
    certain = sum(r.explained for r in recovered)
    if certain:
        parts.append(f"adds up to the update, so certain, for {certain} of {len(recovered)}")
    ranks = [r.rank for r in recovered]
    parts.append(f"ranks {min(ranks)} to {max(ranks)} of {recovered[0].dimension}")
    return "; ".join(parts)


def sentence_table(cell: Cell, reads: Sequence[Read], words: Sequence[str]) -> pd.DataFrame:
    """Every true sentence in words, and whether the server has it."""
    rows = []
    for user, text, read in zip(cell.users, cell.texts, reads, strict=True):
        left = list(read.sentences.sentences) if read.sentences else []
        for sentence in update_attack.sentences_of(text):
            exact = sentence in left
            if exact:
                left.remove(sentence)
            shown = " ".join(words[w] for w in sentence)
            rows.append({"group": cell.group, "user": user, "text": shown, "exact": exact})
    return pd.DataFrame(rows, columns=["group", "user", "text", "exact"])
