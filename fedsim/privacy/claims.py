"""Every epsilon with what makes it a claim: unit, adjacency, sampler, delta, accountant, adversary,
and for whom it holds.

All that prints an epsilon makes a `Claim` of the run's statement and takes the words from it.
Figures are rounded up, so that none is below what was proven.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

NOTHING = "∞ (no guarantee)"
COLUMNS = ("epsilon", "delta", "unit", "adjacency", "sampler", "accountant", "adversary",
           "holds_for", "simulated_users", "own_users", "own_people", "own_epsilon",
           "noise")  # fmt: skip
# Column of the epsilon of several runs -> that of the theorem that it is by.
THEOREMS = {"epsilon_with_search": "theorem", "epsilon_of_all": "theorem_of_all"}
_SECRET = ("poisson", "truncated", "fixed", "groups")
BATCHES = "poisson batches"  # which a client draws itself, and whose sizes it reports exactly
_OF_SUMS = ("zero out one user", "replace one user;")  # of an update, its text is replaced
NONE_OF_OWN = "none that means anything"
_WHOLE_DIGITS = 15  # of the largest number that is written out
_NOISE = {
    "seeded": "a simulation, since who knows config and text can subtract it",
    "fresh": "from a fresh key",
}
# Adjacency as statements of earlier versions say it, which knew no events -> what is proven there.
_OF_EARLIER = {
    "add or remove one user": "zero out one user; the number of users is public",
    "zero-out one user": "zero out one user; the number of users is public",
    "add or remove one sequence of that client": (
        "zero out one sequence of that client; the numbers of sequences are public"
    ),
}


@dataclass(frozen=True)
class Claim:
    """An (epsilon, delta) guarantee of one run, or of several together, and for whom it holds.

    own_users: those that really took part; own_people: how many of them are people, where others
    are synthetic, which hold canaries or audit. simulated_users: of the larger population whose
    noise was simulated, where one was; epsilon is theirs then, and own_epsilon that of the run's
    own users: None where it means nothing, NaN where it was not computed. noise: what made it.
    """

    epsilon: float
    delta: float
    unit: str
    adjacency: str
    sampler: str
    accountant: str
    adversary: str
    own_users: int
    own_people: int | None = None
    simulated_users: int | None = None
    own_epsilon: float | None = None
    noise: str = ""

    @classmethod
    def of(cls, said: Mapping[str, Any] | None) -> Claim | None:
        """That of a privacy statement; None where it guarantees nothing."""
        if not said or not said["guarantee"]:
            return None
        guarantee, own = said["guarantee"], said.get("own") or {}
        made = str(said.get("options", {}).get("noise", "seeded"))
        if "events" not in guarantee:
            told = str(guarantee.get("adjacency", ""))
            guarantee = {**guarantee, "adjacency": _OF_EARLIER.get(told, told)}
        return cls._of_guarantee(
            guarantee,
            own_users=int(said["users"]),
            own_people=_people(said),
            simulated_users=int(own["reported_users"]) if own else None,
            own_epsilon=_number(own.get("epsilon")),
            noise=_NOISE.get(made, made),
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Claim | None:
        """From `columns`, as a table keeps them; None where the row has no guarantee."""
        if any(_missing(row.get(name)) for name in ("epsilon", "adversary", "own_users")):
            return None
        known = {name: value for name, value in row.items() if not _missing(value)}
        return cls._of_guarantee(
            known,
            own_users=int(known["own_users"]),
            own_people=int(known["own_people"]) if "own_people" in known else None,
            simulated_users=int(known["simulated_users"]) if "simulated_users" in known else None,
            own_epsilon=_number(known.get("own_epsilon")),
            noise=str(known.get("noise", "")),
        )

    @classmethod
    def _of_guarantee(cls, values: Mapping[str, Any], **more: Any) -> Claim:
        words = ("unit", "adjacency", "sampler", "accountant", "adversary")
        said: dict[str, Any] = {name: str(values.get(name) or "not recorded") for name in words}
        epsilon, delta = float(values["epsilon"]), float(values["delta"])
        return cls(epsilon=epsilon, delta=delta, **said, **more)

    # -- other claims that follow from it ----------------------------------------------------

    def at_most(self, budget: float) -> Claim:
        """The same with the budget that was asked for, which is never below what was spent."""
        return replace(self, epsilon=max(budget, self.epsilon))

    def together(
        self, epsilon: float, accountant: str = "", own_epsilon: float = math.nan
    ) -> Claim:
        """Of several runs that saw the same users, with the epsilon of all; accountant: by what."""
        own = self.own_epsilon if self.own_epsilon is None else own_epsilon
        return replace(
            self, epsilon=epsilon, own_epsilon=own, accountant=accountant or self.accountant
        )

    @property
    def own(self) -> Claim | None:
        """Of the users that really took part; None where that means nothing."""
        if self.simulated_users is None:
            return self
        if self.own_epsilon is None or math.isnan(self.own_epsilon):
            return None
        return replace(self, epsilon=self.own_epsilon, simulated_users=None, own_epsilon=None)

    # -- in words ----------------------------------------------------------------------------

    @property
    def holds_for(self) -> str:
        """For whom: the run's users, or simulated ones, with what the run's own have."""
        return self._whom(self.own_in_words)

    @property
    def short(self) -> str:
        """For a cell of a table: the figure and for whom; `notes` says the rest below it."""
        return f"{rounded_up(self.epsilon)} for {self._whom(_users(self.own_users))}"

    @property
    def own_in_words(self) -> str:
        """The run's own users, and how many of them are people."""
        if self.own_people is None:
            return _users(self.own_users)
        return in_words(self.own_users, self.own_people)

    def _whom(self, own: str) -> str:
        if self.simulated_users is None:
            what = "sequences of the " if self.unit.startswith("sequence") else ""
            return f"the {what}{own} of this run"
        return (
            f"{self.simulated_users:,} simulated users; of the run's own {own}: {self._own_words()}"
        )

    @property
    def terms(self) -> str:
        """All that a figure depends on, without the figure."""
        made = f"; noise: {self.noise}" if self.noise else ""
        hidden = ", for who does not know who was drawn" if self.amplified else ""
        if self.sampler.startswith(BATCHES):
            hidden = ", for who does not know the batches, nor infers them from reported counts"
        return (
            f"at delta = {rounded_up(self.delta, 3)} for each {self.unit} (adjacency: "
            f"{self.adjacency}; sampler: {self.sampler}{hidden}; accountant: {self.accountant}"
            f"{made}), against an adversary that {self.adversary}"
        )

    @property
    def amplified(self) -> bool:
        """Whether it counts that nobody knows who was drawn: of users who may be in any round,
        where it is sums that are seen."""
        return self.sampler in _SECRET and self.adjacency.startswith(_OF_SUMS)

    def sentence(self, subject: str = "Epsilon", verb: str = "is") -> str:
        """The whole claim; subject: of what, as "Epsilon of one run"."""
        said = f"{subject} {verb} {rounded_up(self.epsilon)} {self.terms}"
        return f"{said}. It holds for {self.holds_for}."

    def columns(self) -> dict[str, Any]:
        """The claim as the `COLUMNS` of a table, or as keys of JSON; `of_row` reads them."""
        own = self.own_epsilon
        known = {"own_epsilon": None if own is None or math.isnan(own) else own}
        return {name: known.get(name, getattr(self, name)) for name in COLUMNS}

    def _own_words(self) -> str:
        if self.own_epsilon is None:
            return NONE_OF_OWN
        if math.isnan(self.own_epsilon):
            return "more than of one run, not computed"
        return rounded_up(self.own_epsilon)


def notes(claims: Iterable[tuple[str, Claim]], all_of_them: str = "Every epsilon") -> list[str]:
    """What stands below a table whose cells are `short`: the terms of each row, equal ones once.

    claims: a name of the row, and its claim.
    """
    whose: dict[str, list[str]] = {}
    for name, claim in claims:
        names = whose.setdefault(claim.terms + _not_own(claim), [])
        if name not in names:
            names.append(name)
    if len(whose) == 1:
        return [f"{all_of_them} is {next(iter(whose))}."]
    return [f"Epsilon of {', '.join(names)} is {terms}." for terms, names in whose.items()]


def _not_own(claim: Claim) -> str:
    if claim.simulated_users is None:
        return f"; it holds for {claim.holds_for}"
    return (
        f"; it holds for {claim.simulated_users:,} simulated users, not for the run's own "
        f"{claim.own_in_words}"
    )


def together(claim: Claim, row: Mapping[str, Any], name: str) -> Claim:
    """The claim of a run and others that saw the same users, from a table's row: `name` is the
    column of their epsilon, a key of `THEOREMS`; that of the run's own users has own_ before it."""
    own, by = row.get(f"own_{name}"), row.get(THEOREMS[name])
    known = math.nan if _missing(own) else float(own)  # type: ignore[arg-type]
    return claim.together(float(row[name]), "" if _missing(by) else str(by), known)


def completed(said: dict[str, Any]) -> dict[str, Any]:
    """A statement whose guarantees, those of its own users too, have all columns of a claim."""
    claim = Claim.of(said)
    if claim is None:
        return said
    guarantee = said["guarantee"] | _for_json(claim)
    if not said.get("own"):
        return said | {"guarantee": guarantee}
    own = said["own"]
    its = _for_json(replace(claim, simulated_users=None, own_epsilon=None))
    its["epsilon"] = own["epsilon"]
    if own.get("guarantee"):
        kept = {name: own["guarantee"][name] for name in ("adjacency", "accountant")}
        own = own | {"guarantee": own["guarantee"] | its | kept}
    return said | {"guarantee": guarantee, "own": own | its}


def _for_json(claim: Claim) -> dict[str, Any]:
    """The columns, with "inf" for what JSON does not know."""
    inf = {name for name, v in claim.columns().items() if isinstance(v, float) and math.isinf(v)}
    return claim.columns() | dict.fromkeys(inf, "inf")


def rounded_up(value: float, digits: int = 4) -> str:
    """So many significant digits, rounded up; infinite is no guarantee."""
    return NOTHING if math.isinf(value) else _rounded(value, digits, ROUND_CEILING)


def rounded_down(value: float, digits: int = 3) -> str:
    """So many significant digits, rounded down, for what an attack shows at least."""
    return "∞" if math.isinf(value) else _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, how: str) -> str:
    exact = Decimal(repr(float(value)))
    if not exact:
        return "0"
    if exact.adjusted() >= _WHOLE_DIGITS:
        return f"{Context(digits, how).plus(exact):.{digits - 1}e}"
    places = min(exact.adjusted() - digits + 1, 0)  # whole numbers keep all of their digits
    near = exact.quantize(Decimal(1).scaleb(places), rounding=how)
    return f"{near:,.0f}" if not places else f"{float(near):.{digits}g}"


def in_words(users: int, people: int) -> str:
    """824 users (749 people and 75 synthetic users); users alone where all are people."""
    if users == people:
        return _users(users)
    whom = "1 person" if people == 1 else f"{people:,} people"
    return f"{_users(users)} ({whom} and {_users(users - people, 'synthetic user')})"


def _people(said: Mapping[str, Any]) -> int | None:
    """How many of a statement's users are people; None where all are, or nobody counted."""
    people = (said.get("people") or {}).get("training")
    return None if people is None or people == said["users"] else int(people)


def _users(number: int, name: str = "user") -> str:
    return f"1 {name}" if number == 1 else f"{number:,} {name}s"


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _missing(value: Any) -> bool:
    return value is None or value == "" or str(value) in ("nan", "<NA>")
