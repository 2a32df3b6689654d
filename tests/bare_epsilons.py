"""A reader who accepts no epsilon without what makes it a claim, whatever it stands in.

An epsilon must stand in a part (a paragraph, a list, a table with what is below it, a section of a
page, an object of JSON) that has its delta, unit, adjacency, sampler, accountant, adversary and
for whom it holds; in running text the figure itself must be one of those that the part claims.
A config key (`privacy.epsilon`) may be echoed where the document has a whole claim.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NUMBER = r"(?:\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|∞|inf\b)"
PARTS = {
    "delta": r"delta\W+(?:is |of )?\d",
    "unit": r"for (?:each|one) (?:user|sequence)|unit(?: of privacy)?\s+(?:one )?(?:user|sequence)"
    r"|\bunit: (?:one )?(?:user|sequence)",
    "adjacency": r"(?:zero out|replace|add or remove) one (?:user|sequence)",
    "sampler": r"sampl(?:er|ing)\W+(?:poisson|truncated|fixed|cyclic|groups)",
    "accountant": r"\bPLD\b|exact Gaussian|\bRDP\b",
    "adversary": r"sees every",
    "for whom": r"of this run|of the plan|run's own|of [\d,]+ users a round"
    r"|users(?: \([^)]*\))? (?:that were really there|whose noise is simulated)",
}
_HEADING, _WALL = "\0", "\1"  # of a page: what ends a part, and what a sentence does not cross
_BETWEEN = (
    r"(?:[^\w\d\1]|\b(?:is|of|at|least|most|one|run|runs|than|about|a|an|value|figure|equals|budget"
    r"|search|included|proven|bound|says|total|all|for|and|or|was|with|it|the|in)\b)*?"
)
_SAID = re.compile(rf"(?<![\w.\-/])(?:epsilon|ε)s?\b(?![.=_\-]\w)({_BETWEEN})({NUMBER})", re.I)
_WORD = re.compile(r"(?<![\w.\-])(?:epsilon|ε)(?!\w)", re.I)
# How a claim says its figures: of whom it holds, of the run's own users, of an attack.
_CLAIMED = [
    re.compile(pattern, re.I)
    for pattern in (
        rf"({NUMBER})(?: \(no guarantee\))? at (?:the same )?delta",
        rf"({NUMBER})(?: \(no guarantee\))? for (?:the )?(?:sequences of the )?[\d,]+ "
        r"(?:simulated )?users?",
        rf"(?:users?|them)\)?(?:: | epsilon is )({NUMBER})",
        rf"({NUMBER}) (?:in the median|at the upper quartile)",
        rf"at least ({NUMBER}) \(one-sided 95 %\)",
        rf"({NUMBER}) \([^)]*95 %\) by an attack",
        rf"({NUMBER}) that is proven",
        rf"({NUMBER}) is proven",
        rf"epsilon ({NUMBER})(?: \(no guarantee\))? alone, at delta = [\d.e-]+ \(adjacency",
    )
]
_ECHO = re.compile(r"  epsilon = [\d.]+")  # of a key, below the name of its section
_EVERY = re.compile(r"every epsilon is at delta|epsilon of [^|]{1,400}? is at delta", re.I)


def bare(text: str) -> list[str]:
    """Epsilons of a text that are no claims; Markdown tables, LaTeX and terminals included."""
    return [found for part in parts(text) for found in _bare_in(part)]


def bare_on_page(source: str) -> list[str]:
    """The same of HTML, whose parts end where a heading begins."""
    text = re.sub(r"<(style|script|title)\b.*?</\1>", "", source, flags=re.S)
    text = re.sub(r"<h[1-6]\b|</?(?:section|article|main|pre)\b", f"{_HEADING}<", text)
    return [found for part in text.split(_HEADING) for found in _bare_in_section(part)]


def _bare_in_section(source: str) -> list[str]:
    axes = re.findall(r"<text\b[^>]*>[^<]*(?<![\w.])epsilon\b[^<]*</text>", source, re.I)
    text = re.sub(r"\s+", " ", source)
    text = re.sub(r"</t[dh]>", " | ", text)
    text = re.sub(r"</?(?:text|p|li)\b", f"{_WALL}<", text)
    text = re.sub(r"<(?:p|li|tr|tbody|table|svg)\b", "\n<", text)
    text = html.unescape(re.sub(r"<[^>]*>?", " ", text))
    plots = [f"a plot of epsilon lacks {', '.join(_lacking(text))}"]
    return _bare_in(text) + (plots if axes and _lacking(text) else [])


def bare_in_json(value: Any, path: str = "") -> list[str]:
    """The same of values: an object with an epsilon has all other keys, a text is read as such."""
    if isinstance(value, str):
        return [f"{path}: {found}" for found in bare(value)]
    if isinstance(value, Mapping):
        inside = {k: v for k, v in value.items() if k != "warnings"}  # of the object's own figure
        own = _bare_object(value, path)
        return own + [b for k, v in inside.items() for b in bare_in_json(v, f"{path}.{k}")]
    if isinstance(value, Sequence):
        if all(isinstance(one, str) for one in value):
            return [f"{path}: {found}" for found in bare("\n".join(value))]
        if any(_of_an_attack(one) for one in value):
            told = " ".join(str(one.get("note") or "") for one in value if _of_an_attack(one))
            return [f"{path}: {name} of {told}" for name in _lacking(told)]
        return [b for k, v in enumerate(value) for b in bare_in_json(v, f"{path}[{k}]")]
    return []


def whole(text: str) -> bool:
    """Whether some part of a text is a claim."""
    return any(not _lacking(part) for part in parts(text))


def parts(text: str) -> Iterator[str]:
    """Paragraphs; a table goes with the one below it."""
    blocks = [block for block in re.split(r"\n[ \t]*\n", text) if block.strip()]
    held = ""
    for block in blocks:
        joined = f"{held}\n{block}" if held else block
        held = ""
        if block.lstrip().startswith("|"):
            held = joined
        else:
            yield joined
    if held:
        yield held


def _bare_in(part: str) -> list[str]:
    if not _WORD.search(part):
        return []
    lines = [line for line in part.splitlines() if not _ECHO.fullmatch(line)]
    prose = " ".join(line for line in lines if "|" not in line)
    prose = re.sub(r"\s+", " ", prose)
    said = [(found.group(0), found.group(2)) for found in _SAID.finditer(prose)]
    said = [(words, figure) for words, figure in said if "delta" not in words.lower()]
    tabled = list(_in_tables(lines))
    if not said and not tabled:
        return []
    lacking = _lacking(part)
    if lacking:
        return [f"{words!r} lacks {', '.join(lacking)}" for words, _ in said + tabled]
    known = _claimed(prose)
    every = bool(_EVERY.search(part))
    return [
        f"{words!r} is none of what is claimed beside it"
        for words, figure in said
        if not any(_near(figure, one) for one in known)
    ] + [f"{words!r}: no figure of a table without a note" for words, _ in tabled if not (
        every or known)]  # fmt: skip


def _in_tables(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Figures in a column whose heading, or in a row whose first cell, names an epsilon."""
    heads: list[str] | None = None
    for line in lines:
        if "|" not in line:
            heads = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if heads is None:
            heads = cells
            continue
        for place, cell in enumerate(cells):
            named = (place < len(heads) and _WORD.search(heads[place])) or (
                place and _WORD.search(cells[0])
            )
            figure = re.match(NUMBER, cell)
            if named and figure:
                yield f"{cells[0]}: {cell}", figure.group(0)


def _lacking(part: str) -> list[str]:
    flat = re.sub(r"\s+", " ", part)
    return [name for name, pattern in PARTS.items() if not re.search(pattern, flat, re.I)]


def _claimed(prose: str) -> set[str]:
    return {found for pattern in _CLAIMED for found in pattern.findall(prose)}


def _near(one: str, other: str) -> bool:
    a, b = (float("inf") if t[0] in "∞iI" else float(t.replace(",", "")) for t in (one, other))
    return a == b or abs(a - b) <= 0.01 * min(abs(a), abs(b))


def _of_an_attack(value: Any) -> bool:
    return isinstance(value, Mapping) and str(value.get("quantity", "")).startswith("epsilon")


KEYS = ("delta", "unit", "adjacency", "sampler", "accountant", "adversary", "holds_for")


def _bare_object(value: Mapping[str, Any], path: str) -> list[str]:
    if path.endswith((".config.privacy", ".options")):  # what was asked for
        return []
    figures = [k for k, v in value.items() if re.fullmatch(r"epsilon(_\w+)?", k) and v is not None]
    lacking = [key for key in KEYS if not value.get(key)]
    return [f"{path}.{key} lacks {', '.join(lacking)}" for key in figures] if lacking else []
