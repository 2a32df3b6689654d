"""One plain sentence for each leakage measure, by a rule that was stated before the numbers.

A rule names its rows in advance, so that none is the best of many. "More" is said only where the
whole 95 % interval lies above what would be found without leakage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.report.leakage_rows import Row, fits, pick
from fedsim.report.leakage_words import level_of, of_whom, pairs_of, phrase, value

GUESSING = "cannot be told from guessing"


@dataclass(frozen=True)
class Conclusion:
    """A sentence or two, and the rows that they stand on; its parts, where it is a list."""

    text: str
    rows: Sequence[Row] = ()
    points: Sequence[str] = ()


def conclusion(measure: str, rows: Sequence[Row]) -> Conclusion:
    """By the measure's rule, or by the one for measures that have none."""
    found = RULES[measure](rows) if measure in RULES else None
    return found or _any(rows)


def _any(rows: Sequence[Row]) -> Conclusion:
    """The first figure that can be held against a control, else the first figure."""
    compared = [r for r in rows if r.known and not math.isnan(level_of(r.quantity, r.control))]
    known = [r for r in rows if r.known]
    if not known:
        notes = [row.note for row in rows if row.note]
        return Conclusion(f"Nothing could be resolved{f': {notes[0]}' if notes else ''}.")
    row = (compared or known)[0]
    whom = f" ({of_whom(row.group)})" if row.group else ""
    text = f"{phrase(row.quantity).capitalize()}{whom}: {row.said}"
    if not compared:
        return Conclusion(f"{text}; there is nothing to hold it against.", [row])
    level = level_of(row.quantity, row.control)
    without = value(row.quantity, level)
    return Conclusion(f"{text}, {_beside(row, level)} {without} without leakage.", [row])


def _beside(row: Row, level: float) -> str:
    if not row.bounded:
        return "how surely is not known, beside"
    return {1: "more than", -1: "less than", 0: "which cannot be told from"}[row.side(level)]


# -- membership ------------------------------------------------------------------------------


def _area(rows: Sequence[Row], row: Row, blind: Sequence[Row | None]) -> str:
    """What an AUC says, after "An attacker ... with "."""
    text = f"AUC {row.said}"
    if not row.bounded:
        return f"{text}: too few people for an interval, so nothing is shown"
    if row.side(0.5) < 0:
        return f"{text}: worse than guessing, so the groups differ in more than training"
    if not row.side(0.5):
        return f"{text}: {GUESSING}"
    seeing = [other for other in blind if other is not None and other.side(0.5)]
    if seeing:
        return (
            f"{text}: better than guessing, but an attacker who cannot know has AUC "
            f"{seeing[0].said}, so the groups differ and this shows no leakage"
        )
    return f"{text}: better than guessing"


def _membership(rows: Sequence[Row]) -> Conclusion | None:
    """The reference score, which needs no model but an n-gram."""
    row = pick(rows, "auc", "score=reference")
    if row is None:
        return None
    blind = [pick(rows, "auc", "blind=untrained score=reference"), pick(rows, "auc", "blind=words")]
    said = _area(rows, row, blind)
    return Conclusion(f"An attacker tells sentences that were trained on from others with {said}.",
                      [row])  # fmt: skip


def _user_membership(rows: Sequence[Row]) -> Conclusion | None:
    """The mean reference score, with each kind of text."""
    whole: list[str] = []
    used = []
    kinds = {"train": "the sentences that were trained on", "heldout": "other sentences of theirs"}
    for text, held in kinds.items():
        group = f"text={text} score=reference statistic=mean"
        row = pick(rows, "auc", group)
        if row is not None:
            blind = [pick(rows, "auc", f"blind=untrained {group}"),
                     pick(rows, "auc", f"blind=words text={text}")]  # fmt: skip
            who = "An attacker with" if not whole else "With"
            tells = " tells people who took part from others with" if not whole else ""
            whole.append(f"{who} {held}{tells or ' it is'} {_area(rows, row, blind)}")
            used.append(row)
    return Conclusion(". ".join(whole) + ".", used) if used else None


def _shadows(rows: Sequence[Row]) -> Conclusion | None:
    """LiRA with shadows that saw the target, on users."""
    group = "level=user attack=lira-online"
    row = pick(rows, "auc", group)
    if row is None:
        return None
    blind = [pick(rows, "auc", f"blind=untrained {group}"),
             pick(rows, "auc", "blind=words level=user")]  # fmt: skip
    said = _area(rows, row, blind)
    return Conclusion(
        f"An attacker with models of its own tells people who took part from others with {said}.",
        [row],
    )


# -- extraction ------------------------------------------------------------------------------


def _beyond(row: Row) -> str:
    if not row.bounded:
        return "too few to say whether that is more"
    return {
        1: "more than language explains",
        -1: "less than there",
        0: "which cannot be told from what is predictable anyway",
    }[row.side(0.0)]


def _memorisation(rows: Sequence[Row]) -> Conclusion | None:
    """The fewest first words, as the adversary knows least."""
    prefixes = [int(v) for r in rows for k, _, v in pairs_of(r.group)
                if k == "prefix" and v.isdigit()]  # fmt: skip
    if not prefixes:
        return None
    group = f"prefix={min(prefixes)}"
    rate, beyond = pick(rows, "extraction_rate", group), pick(rows, "beyond_predictable", group)
    if rate is None:
        return None
    text = (
        f"From their first {min(prefixes)} words the model completes {rate.said} of the "
        "participants' sentences"
    )
    if beyond is None:
        return Conclusion(f"{text}; there is nobody to compare them with.", [rate])
    trigram = pick(rows, "beyond_predictable", f"{group} by=trigram")
    text += f", {beyond.said} beside people that it never saw: "
    if trigram is not None and beyond.side(0.0) > 0 and trigram.side(0.0) <= 0:
        text += (
            "more, but not more than a trigram of other people's text, so language may explain it"
        )
    else:
        text += _beyond(beyond)
    return Conclusion(f"{text}.", [row for row in (rate, beyond, trigram) if row])


def _generation(rows: Sequence[Row]) -> Conclusion | None:
    """The hundred that the model itself finds likeliest."""
    group = "score=perplexity"
    share = pick(rows, "precision_at_100", group)
    beyond = pick(rows, "beyond_predictable", f"{group} equal text")
    if share is None:
        return None
    text = f"Of the {share.n} generated sentences that it finds likeliest, participants typed "
    text += share.said
    if beyond is None:
        return Conclusion(f"{text}; there is nobody to compare them with.", [share])
    text += f"; in equal text that is {beyond.said} beside strangers: {_beyond(beyond)}"
    return Conclusion(f"{text}.", [share, beyond])


# -- the rest --------------------------------------------------------------------------------


def _canaries(rows: Sequence[Row]) -> Conclusion | None:
    """All trained canaries together, by the exposure that leads everywhere."""
    row = pick(rows, "exposure_bits", "all planted")
    if row is None:
        return None
    chance = row.control
    text = f"The {row.n} planted canaries that were trained on have a mean sampled exposure of "
    text += row.said
    if not math.isnan(chance):
        text += f", {_beside(row, chance)} the {value(row.quantity, chance)} of unseen ones"
    used, out = [row], pick(rows, "extraction_rate", "all planted method=greedy")
    if out is not None:
        text += f"; {round(out.estimate * out.n)} of {out.n} come out when their beginning is typed"
        used.append(out)
    return Conclusion(f"{text}.", used)


LOCAL = {"attack": "span", "model": "run", "strategy": "fedavg", "defence": "none"}


def _updates(rows: Sequence[Row]) -> Conclusion | None:
    """An exact gradient of the final model without a defence; then the most noise tried."""
    plain = {"attack": "embedding-rows", "model": "run", "strategy": "fedsgd", "defence": "none"}
    bare = [r for r in rows if r.quantity == "token_recall" and r.known and fits(r, "", plain)]
    if not bare:
        return None
    # The situation that the defences are tried in: its sentences are short enough to be read.
    row = next((r for r in bare if "up-to" in r.group), bare[0])
    span = row.group.replace("attack=embedding-rows", "attack=span")
    whole = pick(rows, "sentences_exact", span)
    chance = value(row.quantity, row.control)
    text = (
        f"From one exact gradient without a defence ({_case(row)}) the server names {row.said} of "
        f"the typed words, {_beside(row, row.control)} {chance} by chance"
    )
    if whole is not None:
        text += f", and reads {whole.said} of the sentences word for word"
    steps = [r for r in rows if r.quantity == "sentences_exact" and r.known and fits(r, "", LOCAL)]
    if steps:
        many = steps[-1]
        text += f"; after local steps of FedAvg ({_case(many)}) {many.said} of the sentences"
    least = next((r for r in rows if r.quantity == "token_recall" and _noised(r)), None)
    if least is not None:
        chance = value(least.quantity, least.control)
        text += f"; under the noise of a cohort of one it names {least.said} of the words, "
        if least.bounded:
            text += f"{_beside(least, least.control)} {chance} by chance"
        else:
            text += f"where chance alone names {chance}"
    return Conclusion(f"{text}.", [r for r in (row, whole, least) if r])


def _case(row: Row) -> str:
    """Of what a client's update was made."""
    held = {key: text for key, _, text in pairs_of(row.group)}
    shown = [f"{held['sequences']} sentences"]
    if "words" in held and held["words"] != "any":
        shown.append(f"each {held['words'].replace('-', ' ')} words long")
    if "steps" in held:
        shown.append(f"{held['steps']} steps")
    return ", ".join(shown)


def _noised(row: Row) -> bool:
    """Whether a row is of the embedding's rows under the noise that one user would need."""
    held = {key: text for key, _, text in pairs_of(row.group)}
    wanted = {"attack": "embedding-rows", "defence": "noise", "cohort": "1"}
    return row.known and "z" in held and all(held.get(k) == text for k, text in wanted.items())


def _epsilon(rows: Sequence[Row]) -> Conclusion | None:
    """The bound that holds for any mechanism, and the verdict of the measure itself."""
    bound = pick(rows, "epsilon_lower_bound", "method=one-run")
    if bound is None:
        return None
    verdict = pick(rows, "epsilon_contradicted")
    text = f"One attack shows that epsilon is at least {value(bound.quantity, bound.estimate)}"
    text += " (one-sided 95 %)."
    if verdict is not None:
        text += f" It {verdict.note}."
    proven = pick(rows, "epsilon_proven")
    if proven is not None and proven.note:
        text += f" Proven is, {proven.note}."
    return Conclusion(text, [r for r in (proven, bound, verdict) if r])


def _compression(rows: Sequence[Row]) -> Conclusion | None:
    """Each copy's change of exposure, pair by pair."""
    changes = [r for r in rows if r.quantity == "exposure_change_bits" and r.known]
    if not changes:
        return None
    sides = {1: "a rise", -1: "a fall", 0: "not to be told from no change"}
    said = []
    for row in changes:
        sure = f" ({sides[row.side(0.0)]})" if row.bounded else ""
        told = f"{of_whom(row.group)}: exposure changes by {row.said}{sure}"
        for quantity, name in (("extracted", "canaries extracted"), ("top1_recall", "top-1")):
            before, after = (pick(rows, quantity, g) for g in ("copy=none", row.group))
            if before and after:
                was, now = (value(quantity, r.estimate) for r in (before, after))
                told += f", {name} {was} \u2192 {now}"
        said.append(told)
    whole = pick(rows, "exposure_bits", "copy=none")
    if whole is not None and "ceiling" in whole.note:
        said.append(f"of the model itself {whole.note}, where no change can be seen")
    return Conclusion(f"By compressing: {'; '.join(said)}.", changes, said)


RULES: dict[str, Callable[[Sequence[Row]], Any]] = {
    "canaries": _canaries,
    "memorisation": _memorisation,
    "generation": _generation,
    "membership": _membership,
    "user_membership": _user_membership,
    "shadows": _shadows,
    "updates": _updates,
    "compression": _compression,
    "epsilon": _epsilon,
}
