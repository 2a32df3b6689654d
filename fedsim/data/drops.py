"""What became of a corpus's text: what was read, what was dropped and why, what was left.

Units, each with its own sum `read = kept + dropped by reason`:

- users: people who are named in at least one row, whether or not it is dropped;
- rows: messages as their format delimits them (a CSV record, a line of a log, an XML element). A
  row is kept when at least one sentence of it is in the corpus, and dropped otherwise, for exactly
  one reason;
- sentences: what kept rows are made into: a row may become several of them;
- words: what was read in rows that were tokenized. Rows that are dropped before that (an empty one,
  a bot's) have none, so words are no measure of whole rows that were dropped.

Beside the sums: `replaced`, words of the corpus that stand as a class there (a number, an address),
`signs`, characters of the rows that were tokenized which are no part of a word, and `changed`, what
was altered and yet kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

NOTES = ("replaced", "signs", "changed")
UNITS = ("users", "rows", "sentences", "words")


@dataclass(frozen=True)
class Dropped:
    """Yielded by a reader in place of a message that it leaves out: one row, and why.

    reason: what tells these rows from others, put after the noun and the same for all of a kind:
    "without text", "by bots". user: the person who wrote it, where the row names one; it is then
    counted among the users even if nothing of theirs is kept.
    """

    reason: str
    user: str | None = None


@dataclass(frozen=True)
class Changed:
    """Yielded by a reader beside its messages: something was altered and is kept; not a row.

    what: a noun phrase that reads well after a count, such as "user ids with spaces around them".
    """

    what: str
    count: int = 1


@dataclass(frozen=True)
class Hint:
    """Yielded by a reader beside its messages: a sentence about what may not be meant."""

    said: str


@dataclass
class Tally:
    """One unit's sum. `kept` is set when the corpus is written, from what is written."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what is left out; nothing happens for a count of 0."""
        if count:
            self.dropped[reason] += count

    @property
    def balanced(self) -> bool:
        """Whether every one that was read was kept or dropped."""
        return self.read == self.kept + self.dropped.total()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, the most frequent reason first."""
        return {"read": self.read, "kept": self.kept, "dropped": _ranked(self.dropped)}


@dataclass
class Drops:
    """The account of one corpus while it is read and built; see the module for the units."""

    users: Tally = field(default_factory=Tally)
    rows: Tally = field(default_factory=Tally)
    sentences: Tally = field(default_factory=Tally)
    words: Tally = field(default_factory=Tally)
    silent: set[str] = field(default_factory=set)  # users named by a row that a reader left out
    replaced: Counter[str] = field(default_factory=Counter)
    signs: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    hints: list[str] = field(default_factory=list)  # sentences about what may not be meant

    def note(self, event: Dropped | Changed | Hint) -> None:
        """Count, or keep, what a reader says beside its messages."""
        if isinstance(event, Hint):
            self.hints.append(event.said)
            return
        if isinstance(event, Changed):
            self.changed[event.what] += event.count
            return
        self.rows.read += 1
        self.rows.drop(event.reason)
        if event.user is not None:
            self.silent.add(event.user)

    @property
    def tallies(self) -> dict[str, Tally]:
        """The sums by their unit."""
        return {unit: getattr(self, unit) for unit in UNITS}

    @property
    def balanced(self) -> bool:
        """Whether every sum comes out."""
        return all(tally.balanced for tally in self.tallies.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and the description of a stored corpus."""
        sums = {unit: tally.as_dict() for unit, tally in self.tallies.items()}
        notes = {name: _ranked(getattr(self, name)) for name in NOTES}
        return {**sums, **notes, "hints": self.hints}


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
