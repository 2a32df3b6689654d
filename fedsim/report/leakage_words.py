"""What leakage measures call their figures, in words a newcomer understands, with units."""

from __future__ import annotations

import math
import re
from typing import Any

from fedsim.privacy.claims import rounded_down, rounded_up
from fedsim.report.formats import MISSING, number, size

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # a unit stays beside its number

_NEGATIVE_ZERO = re.compile(r"^-(?=0(\.0*)?(?![\d.]))")

# Quantity -> (what it is, its unit).
QUANTITIES = {
    "auc": ("AUC: telling members from strangers", "auc"),
    "auc_ceiling": ("highest AUC that the promised epsilon allows", "auc"),
    "tpr_at_fpr_0.01": ("members named, while 1 in 100 strangers is named by mistake", "share"),
    "tpr_at_fpr_0.001": ("members named, while 1 in 1,000 strangers is named by mistake", "share"),
    "tpr_at_fpr_0.01_ceiling": ("the most of these, at 1 in 100, that epsilon allows", "share"),
    "tpr_at_fpr_0.001_ceiling": ("the most of these, at 1 in 1,000, that epsilon allows", "share"),
    "extraction_rate": ("sentences that come out word for word", "share"),
    "beyond_predictable": ("how much more comes out than is predictable anyway", "points"),
    "eidetic_sentences": ("different sentences that came out", "count"),
    "users_exposed": ("users with a sentence that came out", "count"),
    "distinct_sentences": ("different sentences generated", "count"),
    "found_share": ("generated sentences that somebody really typed", "share"),
    "precision_at_100": ("of the 100 most suspicious, those that somebody typed", "share"),
    "token_precision": ("of the words that the server names, those that were typed", "share"),
    "token_recall": ("of the typed words, those that the server names", "share"),
    "token_f1": ("both in one figure (F1)", "share"),
    "counts_exact": ("words of which the server knows how often they were typed", "share"),
    "sentences_exact": ("sentences that the server reads word for word", "share"),
    "sentences_false": ("of the sentences it claims, those that nobody typed", "share"),
    "rouge1": ("words that the best reconstruction shares (ROUGE-1)", "share"),
    "rouge2": ("pairs of words that it shares (ROUGE-2)", "share"),
    "rougeL": ("longest run of words in order that it shares (ROUGE-L)", "share"),
    "epsilon_proven": ("epsilon that is proven", "epsilon"),
    "epsilon_lower_bound": ("epsilon is at least, says the attack", "epsilon"),
    "epsilon_bound_most": ("the most that the attack could have shown", "epsilon"),
    "epsilon_contradicted": ("whether the attack contradicts what is proven", "plain"),
    "epsilon_estimate": ("epsilon that the attack suggests", "epsilon"),
    "guesses_right": ("guesses of the attack that were right", "share"),
    "exposure_bits": ("mean sampled exposure", "bits"),
    "exact_exposure_bits": ("mean exact exposure, of the last two words", "bits"),
    "extrapolated_exposure_bits": ("mean extrapolated exposure", "bits"),
    "exposure_change_bits": ("change of the mean sampled exposure by compressing", "bits"),
    "uniform_rank_p": ("p-value that unseen canaries rank by chance", "plain"),
    "spearman_with_copies": ("rank correlation of exposure with copies", "plain"),
    "canaries_not_trained": ("canaries that were never trained on", "count"),
    "extracted": ("canaries that can be extracted", "share"),
    "top1_recall": ("top-1 recall on test users", "share"),
    "top3_recall": ("top-3 recall on test users", "share"),
    "perplexity": ("perplexity on test users", "plain"),
    "model_bytes": ("size of the model", "bytes"),
}  # fmt: skip

# Key of a group -> how its value is put; "{}" is the value.
KEYS = {
    "prefix": "first {} words typed", "of": "of {}", "by": "by the {}",
    "score": "by {}", "statistic": "{} over sentences",
    "attack": "{}", "level": "of a {}", "method": "{}", "deviation": "deviation {}",
    "strategy": "{}",
    "copy": "{}", "sparsity": "{} of the weights cut", "width": "width {}",
    "canaries": "{} canaries", "epsilon": "epsilon {}", "delta": "delta {}",
    "z": "z = {}", "cohort": "cohort of {}", "words": "{} words long",
}  # fmt: skip

# Key of a group -> how one and how many are put.
COUNTED = {
    "users": ("1 user", "{} users"),
    "repeats": ("1 copy", "{} copies"),
    "participations": ("took part once", "took part {} times"),
    "sequences": ("1 sentence", "{} sentences"),
    "steps": ("1 local step", "{} local steps"),
}

# What a value alone says badly.
PAIRS = {
    "text=train": "with text that was trained on",
    "text=heldout": "with other text of the same person",
    "blind=untrained": "blind: an untrained model",
    "blind=words": "blind: the words alone",
    "model=run": "at the run's model",
    "model=fresh": "at a fresh model",
    "defence=none": "no defence",
    "copy=none": "the model itself",
    "words=any": "of any length",
    "attack=embedding-rows": "by the embedding's rows",
    "attack=output-bias": "by the output bias",
    "attack=span": "by the span of its rows",
    "score=loss": "by the model's loss alone",
    "score=zlib": "by loss over compressed length (zlib)",
    "score=min-k": "by its least likely words (Min-K %)",
    "score=min-k++": "by the same, normalized (Min-K %++)",
    "score=reference": "by loss against a reference",
    "score=neighbour": "by loss against changed copies",
}
EQUAL_TEXT = "looked up in equal text of both"


def phrase(quantity: str) -> str:
    """A quantity in words; its name, spaced, where nobody has put it."""
    return QUANTITIES.get(quantity, (quantity.replace("_", " "), ""))[0]


def unit_of(quantity: str) -> str:
    """share, points, bits, auc, count, epsilon, bytes, or plain."""
    return QUANTITIES.get(quantity, ("", "plain"))[1]


def level_of(quantity: str, control: float) -> float:
    """The figure where nothing leaked, against which an interval is read; NaN: unknown."""
    return {"auc": 0.5, "points": 0.0}.get(unit_of(quantity), control)


def pairs_of(group: str) -> list[tuple[str, str, str]]:
    """(key, sign, value) of "key=value ..." in order; free words have no key and no sign."""
    parts = re.split(r"(?:^|(?<=\s))(\w+)(<=|=)", group)
    out = [("", "", parts[0].strip())] if parts[0].strip() else []
    return out + [
        (parts[i], parts[i + 1], parts[i + 2].strip()) for i in range(1, len(parts), 3)
    ]  # fmt: skip


def of_whom(group: str) -> str:
    """A group in words."""
    said, group = [], group.strip()
    if group.endswith("equal text"):
        group, equal = group.removesuffix("equal text"), True
    else:
        equal = False
    for key, sign, value in pairs_of(group):
        said.append(_pair(key, sign, value))
    return ", ".join([*said, EQUAL_TEXT] if equal else said)


def _pair(key: str, sign: str, value: str) -> str:
    if not key and value in QUANTITIES:
        return phrase(value)
    if f"{key}{sign}{value}" in PAIRS:
        return PAIRS[f"{key}{sign}{value}"]
    if key in COUNTED:
        one, many = COUNTED[key]
        most = "at most " if sign == "<=" else ""
        return most + (one if value == "1" else many.format(value.replace("-", " to ")))
    if key == "defence":
        return f"defence: {value}"
    if key == "words":
        value = value.replace("-", " ")  # up-to-7
    if key in KEYS and sign == "=":
        return KEYS[key].format(value)
    return f"{key} {sign} {value}".strip()


def value(quantity: str, x: Any) -> str:
    """A figure with its unit."""
    x = float(x)
    unit = unit_of(quantity)
    if math.isnan(x):
        return MISSING
    if math.isinf(x):
        return "∞" if x > 0 else f"{MINUS}∞"
    text = {
        "share": lambda: f"{_digits(100 * x)}{SPACE}%",
        "points": lambda: f"{_digits(100 * x, sign=True)}{SPACE}points",
        "auc": lambda: f"{x:.3f}",
        "bits": lambda: f"{x:.2f}{SPACE}bits",
        "count": lambda: number(x, 0 if x == round(x) else 1),
        "epsilon": lambda: _epsilon(quantity, x),
        "bytes": lambda: size(x),
    }.get(unit, lambda: f"{x:.4g}")()
    return _NEGATIVE_ZERO.sub("", text).replace("-", MINUS)


def _epsilon(quantity: str, x: float) -> str:
    """What is proven never below it, what an attack shows never above it."""
    if quantity == "epsilon_proven":
        return rounded_up(x)
    return rounded_down(x) if quantity == "epsilon_lower_bound" else f"{x:.3g}"


def _digits(percent: float, sign: bool = False) -> str:
    """As many digits as a figure of that size needs; 0 and 100 are exact."""
    if percent in (0.0, 100.0):
        return f"{percent:.0f}"
    size = abs(percent)
    digits = 1 if size >= 1 else 2 if size >= 0.01 else 3
    return f"{percent:{'+' if sign else ''}.{digits}f}"


def ends(quantity: str, low: float, high: float) -> str:
    """An interval: "0.53 to 0.59"; one-sided where one end is missing."""
    if unit_of(quantity) == "share":  # Student's t does not know that a share ends at 0 and 1
        low, high = (min(1.0, max(0.0, end)) if end == end else end for end in (low, high))
    if math.isnan(low) and math.isnan(high):
        return ""
    if math.isnan(high):
        return f"at least {value(quantity, low)}"
    if math.isnan(low):
        return f"at most {value(quantity, high)}"
    first = value(quantity, low)
    return f"{first.split(SPACE)[0]} to {value(quantity, high)}"
