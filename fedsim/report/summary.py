"""The run in a few plain sentences, each made from the tables, and honest about what is missing."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from fedsim.leakage.unseen import chance_of
from fedsim.privacy.accounting import LARGE_EPSILON
from fedsim.privacy.claims import Claim
from fedsim.program import command_for_pages
from fedsim.report.facts import NEVER_SEEN_BITS, Facts
from fedsim.report.formats import chance, count, duration, number, percent, size, whole
from fedsim.report.intervals import LEAST, Estimate

MINUS = "\N{MINUS SIGN}"
NAMES = {
    "trigram": "the trigram built from the same training users",
    "central": "the same network trained centrally on the same users' pooled text",
}
AVERAGED = ", its steps averaged over as much text as the rounds"
FLOORS = {"unigram": "the commonest words that fit the letters save",
          "word list": "a list of words without a model"}  # fmt: skip


def summary(facts: Facts) -> list[str]:
    """Paragraphs: what was trained, how good it is, what it memorized, what it cost; and what is
    missing."""
    training = [_training(facts), *_state(facts), *_failures(facts)]
    parts = (training, _quality(facts), _memorization(facts), _cost(facts))
    return [" ".join(part) for part in parts if part]


def _training(facts: Facts) -> str:
    result = facts.result(facts.federated)
    parameters = "" if result is None else f" ({whole(result.parameters)} parameters)"
    model = f"a {facts.config['model']['name']} next-word model{parameters}"
    data = f"the {facts.config['data']['name']} data"
    if not facts.rounds_done:
        return f"This run was to train {model} by {facts.federated} on {data}; no round is done."
    people, holders = len(facts.participations(False)), len(facts.participations(True))
    who = count(people, "user")
    if holders:
        who += f" and {count(holders, 'synthetic canary user')}"
    cohort = count(int(facts.config["server"]["cohort"]), "user")
    return (
        f"This run trained {model} by {facts.federated} on {data}: "
        f"{count(facts.rounds_done, 'round')} of {cohort} each, in which {who} took part."
    )


def _state(facts: Facts) -> list[str]:
    state = facts.status["state"]
    where = f"after round {facts.rounds_done} of {facts.rounds_planned}"
    if state == "finished":
        return [facts.diverged] if facts.diverged else []
    if state == "failed":
        error = str(facts.status.get("error", "")).strip().rstrip(".") or "unknown"
        return [f"It failed {where}, with this error: {error}. To continue it, {_resume(facts)}."]
    if state in ("interrupted", "paused"):
        return [f"It was {state} {where}; to continue it, {_resume(facts)}."]
    if state == "stopped":
        return [f"Its process was killed {where}; to continue it, {_resume(facts)}."]
    return [
        f"It was still {state} {where} when this report was written; if it was killed since, "
        f"{_resume(facts)} to continue it."
    ]


def _resume(facts: Facts) -> str:
    # Not the whole path: a report is sent around, and the folder may be moved.
    return f"run `{command_for_pages('resume')}` with the path of the folder {facts.name}"


def _failures(facts: Facts) -> list[str]:
    failed, sampled = facts.rounds["users_failed"].sum(), facts.rounds["users_sampled"].sum()
    if not failed:
        return []
    return [
        f"{int(failed):,} of {int(sampled):,} client trainings failed "
        f"({percent(failed / sampled, 1)}) and are missing from their rounds."
    ]


def _quality(facts: Facts) -> list[str]:
    result = facts.result(facts.federated)
    if result is None:
        return _validation_only(facts)
    sentences = [
        f"On {count(int(result.users), 'test user')} whose text it never saw, the word that "
        f"follows is its first suggestion in {percent(result.top1_recall)} of cases and among its "
        f"first three in {percent(result.top3_recall)}."
    ]
    sentences += _keystrokes(facts)
    baselines = [m for m in facts.models if m != facts.federated]
    if not baselines:
        return [*sentences, "No baseline was scored, so there is nothing to hold this against."]
    names = {**NAMES, "central": NAMES["central"] + (AVERAGED if facts.central_averaged else "")}
    leads = [(facts.lead(model, "top1_recall"), names.get(model, model)) for model in baselines]
    compared = [_lead(lead, name) for lead, name in leads if lead is not None]
    return (
        [*sentences, f"Its top-1 recall is {', and '.join(compared)}."] if compared else sentences
    )


def _keystrokes(facts: Facts) -> list[str]:
    """What it saves, beside the keyboards that do not look at what was typed before."""
    result, floors = facts.result(facts.federated), [m for m in facts.scored if m in FLOORS]
    if result is None or not floors:
        return []
    beside = [
        f"{FLOORS[name]} {percent(row.keystroke_savings, 1)}"
        for name in floors
        if (row := facts.result(name)) is not None
    ]
    return [
        f"With three suggestions it saves {percent(result.keystroke_savings, 1)} of keystrokes; "
        f"{', '.join(beside)}."
    ]


def averaged(facts: Facts) -> str:
    """What of the models is a running average, in a sentence; empty where nothing is."""
    if not facts.averaged:
        return ""
    models = facts.federated
    both = ""
    if facts.central_averaged:
        models += " and central"
        both = ", that of the central steps over as much text"
    return (
        f"Scored, audited and saved is the running average of the iterates of {models} "
        f"(server.average = {facts.averaged:g} from round to round{both}), not the last one."
    )


def _validation_only(facts: Facts) -> list[str]:
    missing = "The model was not scored on test users, so it is not compared with any baseline."
    if not len(facts.validation):
        return [missing, "It was not scored on validation users either."]
    last = facts.validation.iloc[-1]
    return [
        f"{missing} On {count(int(last.users), 'validation user')}, after round {last['round']}, "
        f"its top-1 recall was {percent(last.top1_recall)} and its top-3 recall "
        f"{percent(last.top3_recall)}."
    ]


def _lead(lead: Estimate, other: str) -> str:
    points = 100 * lead.value
    side = "above" if points >= 0 else "below"
    text = f"{abs(points):.2f} points {side} {other}"
    if lead.half_width != lead.half_width:
        return f"{text} (fewer than {LEAST} users, so without an interval)"
    if lead.excludes_zero:
        least, most = abs(points) - 100 * lead.half_width, abs(points) + 100 * lead.half_width
        return f"{text} (95 % interval {least:.2f} to {most:.2f})"
    ends = f"{100 * lead.low:+.2f} to {100 * lead.high:+.2f}".replace("-", MINUS)
    return f"{text} (95 % interval {ends}: these users cannot settle which is better)"


def _memorization(facts: Facts) -> list[str]:
    if not len(facts.planted):
        if facts.plants_canaries and len(facts.exposure):
            return ["There was no room for a canary, so nothing here tells what it memorized."]
        if facts.plants_canaries:
            return ["Canaries are planted but were not measured yet: memorization is unknown."]
        return ["No canaries were planted, so nothing here tells what the model memorized."]
    seen, planted = facts.seen, facts.planted
    at = ""
    if int(facts.exposure["round"].max()) != facts.rounds_done:
        at = f" (measured after round {int(facts.exposure['round'].max())})"
    never = len(planted) - len(seen)
    absent = ""
    if never:
        were = "was" if never == 1 else "were"
        absent = f" {never} more {were} never trained on, because no holder took part."
    if not len(seen):
        return [
            f"No holder of the {count(len(planted), 'planted canary', 'planted canaries')} took "
            f"part{at}, so nothing here tells what the model memorized."
        ]
    highest = float(seen.exposure_bits.max())
    references = round(2**facts.ceiling_bits) - 1
    most = f", the most that {references:,} reference sentences can show"
    ceiling = most if highest >= facts.ceiling_bits else ""
    return [
        f"Of the {count(len(seen), 'planted canary', 'planted canaries')} it trained on, "
        f"{int(seen.extracted.sum())} can be extracted word for word, and the highest sampled "
        f"exposure is {highest:.2f} bits{ceiling}{at}; "
        f"{_by_chance(len(seen), facts.ceiling_bits)}.{_likest_a_secret(seen)}{absent}"
    ]


def _likest_a_secret(seen: pd.DataFrame) -> str:
    """The cell with the fewest holders and copies, where there are others."""
    users, copies = min(zip(seen["users"], seen["repeats"], strict=True))
    cell = seen[(seen["users"] == users) & (seen["repeats"] == copies)]
    if len(cell) == len(seen):
        return ""
    bits = cell["exposure_bits"].to_numpy()
    held = f"{count(int(users), 'user')} with {count(int(copies), 'copy', 'copies')} each"
    return (
        f" Those most like a real secret, of {held}, have {number(bits.mean(), 2)} bits "
        f"(n = {len(cell)}; unseen ones have as much in {chance(chance_of(bits))} of cases)."
    )


def _cost(facts: Facts) -> list[str]:
    rounds = facts.rounds
    if not len(rounds):
        return []
    down, up = (rounds[f"{way}_bytes"].sum() for way in ("download", "upload"))
    each = down / max(1, rounds["users_sampled"].sum())
    time = duration(float(rounds["seconds"].sum()))
    return [
        f"It cost {size(down)} of downloads and {size(up)} of uploads over all clients and rounds, "
        f"{size(each)} each way for one user and round; training took {time} in this simulation."
    ]


def _by_chance(canaries: int, ceiling_bits: float) -> str:
    """What unseen sentences would show: exposure is about exponential, and so grows the maximum."""
    if canaries == 1:
        return f"a sentence that was never seen averages {NEVER_SEEN_BITS}"
    expected = sum(1 / k for k in range(1, canaries + 1)) / math.log(2)
    return (
        f"of {canaries:,} sentences that were never seen, the highest would have about "
        f"{min(expected, ceiling_bits):.1f} bits"
    )


def privacy(statement: dict[str, Any] | None) -> tuple[str, str]:
    """(heading, sentences) on differential privacy, from the run's statement."""
    if statement is None:
        return "Not private.", (
            "No differential privacy was applied in this run: nothing bounds what the model gives "
            "away about a user."
        )
    claim = Claim.of(statement)
    if claim is None:
        return "Not private.", (
            f"The mechanism '{statement['mechanism']}' ran without noise, so nothing bounds what "
            "the model gives away about a user."
        )
    if math.isinf(claim.epsilon):
        return "Not private.", claim.sentence()
    done, planned = int(statement["rounds_done"]), int(statement["rounds"])
    whole = "" if done == planned else f" This is for all {planned:,} rounds; {done:,} are done."
    return _heading(claim, statement), claim.sentence() + whole


def _heading(claim: Claim, statement: dict[str, Any]) -> str:
    """In two words, for who reads no further: only what holds for the people of the run."""
    if claim.simulated_users is not None:
        return "Private for simulated users only."
    if (statement.get("noise") or {}).get("kind") == "seeded":
        return "Private in simulation only."
    return "Hardly private." if claim.epsilon > LARGE_EPSILON else "Private."
