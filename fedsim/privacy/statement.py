"""The privacy statement of a run: what is guaranteed to whom against whom, and what is not.

After "How to DP-fy ML" (Ponomareva et al. 2023, section 5.3): every epsilon names its unit, its
adjacency, its sampler, its delta, its accountant and its adversary.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from fedsim.privacy.claims import completed, rounded_down, rounded_up
from fedsim.privacy.coverage import (
    baselines,
    composes_with,
    exact,
    not_covered,
    rests_on,
    vocabulary_in_words,
)

WIDTH = 100
LABEL = 24
_FULL = 0.98  # of a budget: what a calibration uses of it at least
GROUPS = {
    "rests_on": "MUST STAY SECRET",
    "not_covered": "NOT COVERED",
    "composes_with": "COMPOSES WITH",
    "exact": "EXACT, WITHOUT NOISE",
}
PUBLIC = {
    "user": "the number of users: rates, denominators and delta are made of it",
    "update": "the number of users, of which delta is made; who completed which round",
    "sequence": "the numbers of sequences of clients, which scale their noise; who completed "
    "which round",
}


def statement(
    config: Mapping[str, Any],
    guarantee: Mapping[str, Any] | None,
    unit: str,
    users: int,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """The statement as plain values.

    `config` is the resolved one as plain values, `guarantee` that of `Guarantee.as_dict` for all
    rounds of the run; `more` holds what is known beside: `rounds_done`, `realised`, `clients`,
    `own`, `noise`, `people` (see `as_text` and `fedsim.privacy.coverage`).
    """
    said = {
        "mechanism": config["privacy"]["name"],
        "options": {k: v for k, v in config["privacy"].items() if k != "name"},
        "guarantee": dict(guarantee) if guarantee else None,
        "users": users,
        "public": PUBLIC[unit],
        "cohort": config["server"]["cohort"],
        "rounds": config["server"]["rounds"],
        "sampler": config["server"]["sampler"],
        "strategy": config["strategy"]["name"],
        "baselines": baselines(config),
        "trackers": list(config["tracking"]["to"]),
        **more,
        "empirical": None,
    }
    if not guarantee:
        return said
    people = said["people"]
    more = {
        "rests_on": rests_on(said),
        "not_covered": not_covered(config, unit, people, said["vocabulary"]),
        "composes_with": composes_with(config, people),
        "exact": exact(config),
    }
    return completed(said | more)


def as_text(said: Mapping[str, Any]) -> str:
    """The statement for people, lines of at most `WIDTH` characters."""
    guarantee = said["guarantee"]
    if guarantee is None:
        return _line("NO GUARANTEE", _without(said))
    lines = [_line("DP GUARANTEE", f"against an adversary that {guarantee['adversary']}")]
    if (said.get("noise") or {}).get("kind") == "seeded":
        lines.append(
            _line("  SIMULATION", "seeded noise, which whoever has config and text can subtract")
        )
    lines.append(_line("  unit of privacy", guarantee["unit"]))
    lines.append(_line("  adjacency", guarantee["adjacency"]))
    lines.append(_line("  mechanism", _mechanism(said)))
    lines.append(_line("  sampling", _sampling(said)))
    lines.append(_line("  participations", _participations(said)))
    lines.append(_line("  epsilon", _epsilon(guarantee)))
    if guarantee.get("epsilon_names_known") is not None:
        lines.append(_line("  names known", _names_known(said)))
    if said["options"].get("epsilon"):
        lines.append(_line("  budget", _budget(said)))
    lines.append(_line("  delta", _delta(said)))
    if said.get("public"):
        lines.append(_line("  public", said["public"]))
    vocabulary = said.get("vocabulary") or {}
    if vocabulary.get("composed"):
        lines.append(_line("  vocabulary", f"counted in it: {vocabulary_in_words(vocabulary)}"))
    if said.get("own"):
        lines.append(_line("  SIMULATED", _simulated(said)))
    if said.get("clients"):
        lines.append(_line("  over clients", _clients(said["clients"])))
    for warning in guarantee["warnings"]:
        lines.append(_line("  WARNING", warning))
    measured = said["empirical"] or "no lower bound was measured"
    lines.append(_line("  empirical", measured))
    for key, title in GROUPS.items():
        lines += group_lines(title, said.get(key) or {})
    return "\n".join(lines)


def group_lines(title: str, sentences: Mapping[str, str] | Sequence[str]) -> list[str]:
    """Its lines; runs of earlier versions have sentences without labels."""
    if not isinstance(sentences, Mapping):
        return [_line(title if not row else "", text) for row, text in enumerate(sentences)]
    rows = [_line(f"  {label}", text) for label, text in sentences.items()]
    return [title, *rows] if rows else []


def _without(said: Mapping[str, Any]) -> str:
    if said["mechanism"] == "none":
        return "no mechanism of differential privacy was used."
    if said["mechanism"] == "secagg":
        return (
            "secure aggregation (simulated) hides single updates from the server, not the losses "
            "and norms that clients report; the sum, and the model that is made of it, are not "
            "bounded by any epsilon."
        )
    return f"'{said['mechanism']}' has no noise: updates are clipped, epsilon is infinite."


def _mechanism(said: Mapping[str, Any]) -> str:
    options, guarantee = said["options"], said["guarantee"]
    noise = rounded_down(guarantee["noise_multiplier"], 6)
    parts = [f"{said['mechanism']}, noise multiplier {noise}"]
    if said["mechanism"] in ("tree", "sqrt", "banded", "blt"):
        sensitivity = rounded_up(guarantee["sensitivity"], 6)
        parts.append(f"of a row, sensitivity of the strategy matrix {sensitivity}")
    if "initial_clip_norm" in options:
        parts.append(f"clip norm adaptive from {options['initial_clip_norm']:g}, count included")
    else:
        parts.append(f"clip norm {options['clip_norm']:g}")
    if said["mechanism"] == "dp-sgd":
        rate = rounded_up(options["sample_rate"], 6)
        parts.append(f"{options['steps']} steps a round, Poisson batches at rate {rate}")
    elif said["mechanism"] != "local":
        parts.append("uniform weights, fixed denominator")
    if options.get("secagg_bits"):
        parts.append(f"secure aggregation simulated with {options['secagg_bits']} bits")
    return ", ".join(parts)


def _sampling(said: Mapping[str, Any]) -> str:
    text = f"{said['sampler']}, {said['cohort']:,} of {said['users']:,} users a round"
    if said.get("own"):
        text = (
            f"{said['sampler']}, {said['options']['report_cohort']:,} of "
            f"{said['own']['reported_users']:,} simulated users a round ({said['cohort']:,} of the "
            f"{said['users']:,} users that are there)"
        )
    if who := _who(said):
        text += f"; the {said['users']:,} users are {who}"
    claimed = said["guarantee"]["amplified"] and said["mechanism"] != "dp-sgd"
    amplified = "amplification claimed for it" if claimed else "no amplification claimed for it"
    return f"{text}: as implemented; {amplified}"


def _who(said: Mapping[str, Any]) -> str:
    """Of whom the users consist, where not all are people; "" of earlier statements too."""
    people = said.get("people") or {}
    synthetic = [
        f"{number:,} {name} user{'s' * (number > 1)}"
        for name in ("canary", "audit")
        if (number := people.get(f"{name}_users", 0))
    ]
    return " and ".join([f"{people['training']:,} people", *synthetic]) if synthetic else ""


def _participations(said: Mapping[str, Any]) -> str:
    guarantee, realised = said["guarantee"], said.get("realised") or {}
    text = f"{said['rounds']:,} rounds"
    if 0 < said["rounds_done"] < said["rounds"]:
        text += f", of which {said['rounds_done']:,} are done"
    if guarantee["participations"]:
        text += f"; accounted at most {guarantee['participations']} a user"
    if guarantee["min_separation"]:
        text += f", at least {guarantee['min_separation']} rounds apart (j - i)"
    if realised:
        text += (
            f"; realised after {said['rounds_done']:,} rounds: at most {realised['participations']}"
        )
        if realised.get("min_separation"):
            text += f", {realised['min_separation']} apart"
    return text


def _epsilon(guarantee: Mapping[str, Any]) -> str:
    text = (
        f"{rounded_up(float(guarantee['epsilon']))} at delta = "
        f"{rounded_up(guarantee['delta'], 3)} ({guarantee['accountant']}"
    )
    if guarantee["epsilon_rdp"] is not None:
        text += f"; cross-check RDP {rounded_up(float(guarantee['epsilon_rdp']))}"
    if guarantee["rho"] is not None:  # as in runs of earlier versions
        counted = ", amplification not counted" if guarantee["amplified"] else ""
        text += f"; rho = {rounded_up(float(guarantee['rho']))} zCDP{counted}"
    if guarantee.get("mu") is not None:
        text += f"; mu = {rounded_up(float(guarantee['mu']))} GDP"
    return text + ")"


def names_known(guarantee: Mapping[str, Any], unit: str = "user", happened: bool = False) -> str:
    """What is left of a guarantee for who knows who was drawn; unit: of whom it speaks.

    happened: the draws are those of the run, not what is exceeded once in 10^9 runs.
    """
    times = f"{guarantee['draws']:,} {'round' if unit == 'user' else 'batch'}"
    times += ("es" if unit == "sequence" else "s") * (guarantee["draws"] != 1)
    seldom = (
        "nobody was drawn more often"
        if happened
        else "nobody is drawn more often, but in one of 10^9 runs"
    )
    return (
        f"{rounded_up(float(guarantee['epsilon_names_known']))} at the same delta for a {unit} "
        f"that was drawn in {times} ({seldom}): the exact Gaussian, sampling not counted"
    )


def _names_known(said: Mapping[str, Any]) -> str:
    unit = "sequence" if said["mechanism"] == "dp-sgd" else "user"
    known = "in which batches a sequence was" if unit == "sequence" else "who took part when"
    happened = bool(said.get("drawn")) and not said.get("own")
    text = f"for who knows {known}, epsilon is {names_known(said['guarantee'], unit, happened)}"
    own = (said.get("own") or {}).get("guarantee") or {}
    if own.get("epsilon_names_known") is not None:
        told = names_known(own, unit, bool(said.get("drawn")))
        text += f"; for those of this run epsilon is {told}"
    return text


def _budget(said: Mapping[str, Any]) -> str:
    """Who chose the noise, where a budget is given: the budget, or the noise beside it."""
    budget, spent = said["options"]["epsilon"], float(said["guarantee"]["epsilon"])
    text = f"privacy.epsilon={budget:g} is the most that it may be, and is kept"
    if spent < _FULL * budget:
        return f"{text}; the noise is not made for it: privacy.noise_multiplier was given beside it"
    return text


def _delta(said: Mapping[str, Any]) -> str:
    delta = rounded_up(float(said["guarantee"]["delta"]), 3)
    if said["mechanism"] == "dp-sgd":
        return f"{delta}, below 1 / the most sequences of a client"
    users = said["own"]["reported_users"] if said.get("own") else said["users"]
    recommended = rounded_up(users**-1.1, 3)
    return f"{delta}; 1 / users = {1 / users:.3g}, recommended at most {recommended}"


def _simulated(said: Mapping[str, Any]) -> str:
    options, own = said["options"], said["own"]
    text = (
        f"the noise is that of a cohort of {options['report_cohort']:,} among "
        f"{own['reported_users']:,} users, and epsilon is theirs; of the {said['users']:,} users "
        f"of this run {said['cohort']:,} were sampled a round"
    )
    if own["epsilon"] is None:
        return f"{text}; their own noise is too little for an epsilon that means anything"
    return f"{text}; for them epsilon is {rounded_up(float(own['epsilon']))}"


def _clients(clients: Mapping[str, Any]) -> str:
    return (
        f"epsilon {rounded_up(clients['median'])} in the median, "
        f"{rounded_up(clients['upper_quartile'])} at the upper quartile, "
        f"{rounded_up(clients['max'])} at most, of {clients['clients']:,} clients that took part "
        f"({clients['participations']} times at most)"
    )


def _line(label: str, text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=label.ljust(LABEL), subsequent_indent=" " * LABEL,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
