"""What several runs guarantee together to people who are in all of them.

Guarantees of runs that saw the same people add up: whoever has all models knows more of a person
than one of them tells. The runs' events are composed in one accounting, at one delta, which is
sharper than to add epsilons up (deltas would add up too).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.errors import FedsimError
from fedsim.privacy.accountants import compose
from fedsim.privacy.accounting import REPLACE, ZERO_OUT, loud
from fedsim.privacy.claims import Claim, rounded_up
from fedsim.privacy.events import Event, events_from, mu_of, rho_of
from fedsim.privacy.known_names import with_known_names
from fedsim.privacy.statement import GROUPS
from fedsim.runs import Run


@dataclass(frozen=True)
class Whole:
    """What all models together guarantee; `users` for whom, None where the runs differ in it.

    `epsilons` are those of the runs alone, in the order of `runs`, and `terms` what each is at;
    `exposed` are the runs without any guarantee, which make the whole infinite, and `repeated`
    those that are another one again and so tell nothing new. The other fields are as in
    `Guarantee`; `epsilon_names_known` is of a user that was drawn in each run as often as anybody.
    """

    runs: tuple[str, ...]
    epsilons: tuple[float, ...]
    terms: tuple[str, ...]
    exposed: tuple[str, ...]
    repeated: tuple[str, ...]
    epsilon: float
    delta: float
    unit: str
    adjacency: str
    sampler: str
    adversary: str
    accountant: str
    epsilon_rdp: float | None
    rho: float
    mu: float | None
    events: tuple[Event, ...]
    users: int | None
    warnings: tuple[str, ...]
    epsilon_names_known: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; "inf" where one is infinite."""
        plain = dataclasses.asdict(self) | {"events": [event.as_dict() for event in self.events]}
        return {name: _json(value) for name, value in plain.items()}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


@dataclass(frozen=True)
class Composed:
    """The whole for the people that were there, and where all runs simulate the noise of one
    larger population (`privacy.report_users`) for that population."""

    there: Whole
    reported: Whole | None
    who: str  # the users that were there, in words
    simulation: bool  # whether noise of some run is seeded
    groups: Mapping[str, Mapping[str, str]]  # of the statements, by `GROUPS`: what all of them say

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        there = {"holds_for": f"the {self.who} that were really there, as if in all runs"}
        said = {"there": self.there.as_dict() | there, "reported": None,
                "simulation": self.simulation, **self.groups}  # fmt: skip
        if self.reported is None:
            return said
        users = f"{self.reported.users:,} users" if self.reported.users else "users"
        reported = {"holds_for": f"the {users} whose noise is simulated"}
        return said | {"reported": self.reported.as_dict() | reported}


def compose_runs(
    runs: Sequence[Run], delta: float | None = None, same_people: bool = False
) -> Composed:
    """The guarantee of publishing all runs.

    delta: that of the whole; None for the smallest of the runs'. same_people: runs on other
    corpora count as if everybody were in all of them, which bounds whoever is in some.

    Raises FedsimError where they are of other people or protect another unit, where two share
    their noise without being the same, and where one does not say what it is made of.
    """
    if len(runs) < 2:
        raise FedsimError("Give two runs or more: what one guarantees says `privacy statement`.")
    if not same_people:
        _require_same_people(runs)
    distinct, repeated = _distinct(runs)
    said = {run: run.privacy for run in distinct}
    private = [run for run, told in said.items() if told and told["guarantee"]]
    exposed = tuple(str(run.path) for run in distinct if run not in private)
    if not private:
        raise FedsimError("None of these runs guarantees anything, and so they do not together.")
    statements = [_whole_statement(run, said[run] or {}) for run in private]
    _require_one_unit(private, statements)
    names = tuple(str(run.path) for run in private)
    about = {"runs": names, "exposed": exposed, "repeated": repeated}
    corpora = [run.corpus_digest for run in private]
    there = [(told.get("own") or told)["guarantee"] for told in statements]
    users = {told["users"] for told in statements}
    whole = _whole(there, _events(there, corpora), users, delta, about)
    reported = {(told.get("own") or {}).get("reported_users") for told in statements}
    simulated = None
    if len(reported) == 1 and reported != {None}:
        stated = [told["guarantee"] for told in statements]
        simulated = _whole(stated, _events(stated, corpora), reported, delta, about)
    return Composed(
        there=whole,
        reported=simulated,
        who=_who(statements),
        simulation=any((told.get("noise") or {}).get("kind") == "seeded" for told in statements),
        groups=_groups(names, statements),
    )


def _who(statements: Sequence[Mapping[str, Any]]) -> str:
    """The users of all runs, and how many of them are people where all runs have the same."""
    claims = [claim for told in statements if (claim := Claim.of(told))]
    said = {claim.own_in_words for claim in claims}
    return said.pop() if len(said) == 1 else "users"


def _groups(
    names: Sequence[str], statements: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    """What the statements of the runs say beside their guarantees: once where all say the same,
    else with the runs that say it. Statements of earlier versions have fewer groups."""
    out: dict[str, dict[str, str]] = {}
    for group in GROUPS:
        whose: dict[str, dict[str, list[str]]] = {}
        for name, told in zip(names, statements, strict=True):
            known = told.get(group) or {}
            rows = known if isinstance(known, Mapping) else {"": "; ".join(known)}
            for label, sentence in rows.items():
                whose.setdefault(label, {}).setdefault(sentence, []).append(name)
        out[group] = {label: _said(said, len(names)) for label, said in whose.items()}
    if "other runs" in out["composes_with"]:
        out["composes_with"]["other runs"] = (
            "all else that is published of the same people, which is not counted here"
        )
    return out


def _said(whose: Mapping[str, Sequence[str]], runs: int) -> str:
    if len(whose) == 1 and len(next(iter(whose.values()))) == runs:
        return next(iter(whose))
    return ". ".join(f"{', '.join(names)}: {sentence}" for sentence, names in whose.items())


def _require_same_people(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if run.corpus_digest != first.corpus_digest:
            raise FedsimError(
                f"{first.path} and {run.path} were trained on different text: where nobody is in "
                "both, the guarantee of each stands as it is; where people may be, add "
                "--same-people, which counts everybody as if in all."
            )
        if run.config.federation.partition != "user":
            raise FedsimError(
                f"{run.path} deals sentences out at random (federation.partition="
                f"{run.config.federation.partition}): its users are other ones in every run, so "
                "that guarantees for them do not compose."
            )


def _distinct(runs: Sequence[Run]) -> tuple[list[Run], tuple[str, ...]]:
    """The runs that tell something, and the names of those that are another one again."""
    kept: list[Run] = []
    repeated: list[str] = []
    keys: dict[str, Run] = {}
    for run in runs:
        key = _noise_key(run)
        before = keys.get(key) if key else None
        if before is None:
            kept.append(run)
            if key:
                keys[key] = run
            continue
        same = run.config.identity() == before.config.identity() and run.digest == before.digest
        if not (same and run.corpus_digest == before.corpus_digest and run.digest):
            raise FedsimError(
                f"{before.path} and {run.path} drew their noise from one key and are not the same "
                "run: in their difference it cancels, so that together they guarantee nothing; "
                "train one of them again."
            )
        repeated.append(str(run.path))
    return kept, tuple(repeated)


def _noise_key(run: Run) -> str | None:
    """What names the key of a run's noise; None of a run that has none."""
    told = run.privacy
    if not told or not told["guarantee"]:
        return None
    key = (told.get("noise") or {}).get("id")
    if not isinstance(key, str):
        raise FedsimError(
            f"{run.path} does not say which key its noise was drawn from, so that it may be "
            "another run's too: it is of an earlier version; train it again."
        )
    return key


def _whole_statement(run: Run, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The statement, its guarantees known to be made of events."""
    own = told.get("own")
    for stated in (told["guarantee"], own["guarantee"] if own and "guarantee" in own else own):
        if stated is not None and "events" not in stated:
            raise FedsimError(
                f"{run.path} does not say what its guarantee is made of: it is of an earlier "
                "version; train it again."
            )
    return told


def _require_one_unit(runs: Sequence[Run], statements: Sequence[Mapping[str, Any]]) -> None:
    units = {told["guarantee"]["unit"]: run for run, told in zip(runs, statements, strict=True)}
    if len(units) > 1:
        (one, first), (other, second), *_ = units.items()
        raise FedsimError(
            f"{first.path} protects one {one} and {second.path} one {other}: such guarantees do "
            "not compose; compose the runs of each unit."
        )


def _events(guarantees: Sequence[Mapping[str, Any]], corpora: Sequence[str]) -> tuple[Event, ...]:
    """Of all runs; the words of a corpus were released once, whatever was trained on it."""
    rounds: list[Event] = []
    words: dict[str, Event] = {}
    for told, corpus in zip(guarantees, corpora, strict=True):
        for event in events_from(told["events"]):
            if event.kind != "threshold":
                rounds.append(event)
            elif corpus not in words or event.noise_multiplier < words[corpus].noise_multiplier:
                words[corpus] = event  # the least noise is that of a replacement
    return (*words.values(), *rounds)


def _whole(
    guarantees: Sequence[Mapping[str, Any]],
    events: tuple[Event, ...],
    users: set[Any],
    delta: float | None,
    about: Mapping[str, tuple[str, ...]],
) -> Whole:
    if about["exposed"]:
        events = (*events, Event("gaussian", 0.0))
    unit = guarantees[0]["unit"]
    delta = _delta(guarantees, max(users) if unit == "user" else 1, delta)
    loss = compose(events, delta)
    return Whole(
        epsilon_names_known=_names_known(guarantees, events, delta),
        **about,
        epsilons=tuple(float(told["epsilon"]) for told in guarantees),
        terms=tuple(_terms(told) for told in guarantees),
        epsilon=loss.epsilon,
        delta=delta,
        unit=unit,
        adjacency=_adjacency([told["adjacency"] for told in guarantees]),
        sampler=", ".join(dict.fromkeys(str(told["sampler"]) for told in guarantees)),
        adversary=_adversary(guarantees),
        accountant=loss.accountant,
        epsilon_rdp=loss.rdp,
        rho=rho_of(events),
        mu=mu_of(events),
        events=events,
        users=users.pop() if len(users) == 1 else None,
        warnings=(*loss.warnings, *(loud(loss.epsilon) if not about["exposed"] else ())),
    )


def _terms(told: Mapping[str, Any]) -> str:
    """What an epsilon of one run is at, which may be other than those of the whole."""
    return (
        f"at delta = {rounded_up(float(told['delta']), 3)} (adjacency: {told['adjacency']}; "
        f"sampler: {told['sampler']}; accountant: {told['accountant']})"
    )


def _names_known(
    guarantees: Sequence[Mapping[str, Any]], events: tuple[Event, ...], delta: float
) -> float | None:
    """For who knows who took part in every run; None where that changes nothing, or where a run
    of an earlier version does not say how often anybody was drawn."""
    if not any(told["amplified"] for told in guarantees):
        return None
    if any(told["amplified"] and told.get("draws") is None for told in guarantees):
        return None
    known = [event for event in events if event.kind == "threshold" or not event.noise_multiplier]
    for told in guarantees:
        rounds = [e for e in events_from(told["events"]) if e.kind != "threshold"]
        known += with_known_names(rounds, int(told.get("draws") or 0))
    return compose(known, delta, grid=2.0).epsilon  # one Gaussian: no grid, and no cross-check


def _delta(guarantees: Sequence[Mapping[str, Any]], users: int, given: float | None) -> float:
    """One for the whole: the smallest of all is small enough for everybody."""
    delta = min(float(told["delta"]) for told in guarantees) if given is None else given
    if not 0 < delta < min(1.0, 1 / users if users > 1 else 1.0):
        raise FedsimError(
            f"--delta {delta:g} must be above 0 and below 1 / users = {1 / users:.3g}; leave it "
            "out for the smallest of the runs'."
        )
    return delta


def _adjacency(named: Sequence[str]) -> str:
    """What bounds a replacement bounds a zero-out too, so that the weaker of both is common."""
    if len(set(named)) == 1:
        return named[0]
    return REPLACE if all(name.startswith("replace") for name in named) else ZERO_OUT


def _adversary(guarantees: Sequence[Mapping[str, Any]]) -> str:
    """The weaker of all: who sees updates is not bounded where one run shows them."""
    central = [told for told in guarantees if told["mechanism"] != "local"]
    return str((central or list(guarantees))[0]["adversary"])
