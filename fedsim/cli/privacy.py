"""`privacy`: what a plan guarantees and what keeps a budget; see also study.py, composing.py."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedsim.cli import composing, study
from fedsim.cli.train import Json
from fedsim.errors import FedsimError

if TYPE_CHECKING:
    from fedsim.privacy.accounting import Guarantee
    from fedsim.privacy.plan import Plan

app = typer.Typer(
    help="Differential privacy: epsilon of a plan, noise for a budget, what a run guarantees, what "
    "privacy costs."
)
app.command("statement")(study.statement)
app.command("study")(study.study)
app.command("compose")(composing.compose)

Users = Annotated[int, typer.Option(help="users in the population, N")]
Delta = Annotated[float | None, typer.Option(help="below 1/N; default: N^-1.1")]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="poisson, truncated, fixed, cyclic, or groups (banded only); default: poisson for "
        "gaussian, cyclic for the others"
    ),
]
Mechanism = Annotated[
    str, typer.Option(help="gaussian (dp-fedavg, adaptive), tree, sqrt, banded or blt")
]
Participations = Annotated[
    int | None, typer.Option(help="cyclic: rounds per user at most; default: what follows")
]
Separation = Annotated[
    int | None,
    typer.Option(help="cyclic: rounds from one turn of a user to the next; groups: their number"),
]
MaxCohort = Annotated[
    int | None, typer.Option(help="truncated: the cut; default: passed once in 10^9 rounds")
]
Bands = Annotated[int | None, typer.Option(help="banded: diagonals")]
Buffers = Annotated[int | None, typer.Option(help="blt: buffers")]
RestartEvery = Annotated[int | None, typer.Option(help="tree: rounds of each tree")]
Completion = Annotated[bool, typer.Option("--completion", help="tree: complete each tree")]

# Flags whose values only a factorisation reads.
_OPTIONS = ("bands", "buffers", "restart_every", "completion")


@app.command()
def epsilon(
    users: Users,
    cohort: Annotated[int, typer.Option(help="users in a round (poisson: expected), m")],
    rounds: Annotated[int, typer.Option(help="T")],
    noise_multiplier: Annotated[
        float, typer.Option(help="noise on the sum of clipped updates, over the clip norm")
    ],
    delta: Delta = None,
    sampler: Sampler = None,
    mechanism: Mechanism = "gaussian",
    participations: Participations = None,
    min_separation: Separation = None,
    max_cohort: MaxCohort = None,
    bands: Bands = None,
    buffers: Buffers = None,
    restart_every: RestartEvery = None,
    completion: Completion = False,
    as_json: Json = False,
) -> None:
    """Epsilon of a plan, with all that it depends on."""
    from fedsim.privacy.accounting import guarantee

    plan = _plan(locals())
    _show(plan, guarantee(plan), as_json, {})


@app.command()
def calibrate(
    users: Users,
    epsilon: Annotated[float, typer.Option(help="the budget")],
    cohort: Annotated[int | None, typer.Option(help="m; left out: the largest")] = None,
    rounds: Annotated[int | None, typer.Option(help="T; left out: the most")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(help="left out: the least")] = None,
    delta: Delta = None,
    sampler: Sampler = None,
    mechanism: Mechanism = "gaussian",
    participations: Participations = None,
    min_separation: Separation = None,
    max_cohort: MaxCohort = None,
    bands: Bands = None,
    buffers: Buffers = None,
    restart_every: RestartEvery = None,
    completion: Completion = False,
    as_json: Json = False,
) -> None:
    """The one of noise, rounds and cohort that is left out, such that epsilon is kept."""
    from fedsim.privacy import calibration
    from fedsim.privacy.accounting import guarantee

    given = locals()
    solvers: dict[str, Any] = {
        "noise_multiplier": calibration.noise_for,
        "rounds": calibration.rounds_for,
        "cohort": calibration.cohort_for,
    }
    missing = [name for name in solvers if given[name] is None]
    if len(missing) != 1:
        raise FedsimError(
            "Give two of --noise-multiplier, --rounds and --cohort; the one that is left out is "
            "found."
        )
    solved = missing[0]
    plan = _plan(given | {solved: 1})
    plan = dataclasses.replace(plan, **{solved: solvers[solved](plan, epsilon)})
    _show(plan, guarantee(plan), as_json, {"solved": solved, "target_epsilon": epsilon})


def _plan(given: dict[str, Any]) -> Plan:
    from fedsim.privacy.plan import Plan, default_delta

    if given["mechanism"] in ("dp-fedavg", "adaptive"):  # what they are to an accountant
        given = given | {"mechanism": "gaussian"}
    if given["delta"] is None:
        given = given | {"delta": default_delta(given["users"])}
    if given["sampler"] is None:
        given = given | {"sampler": "poisson" if given["mechanism"] == "gaussian" else "cyclic"}
    fields = {
        f.name: given[f.name]
        for f in dataclasses.fields(Plan)
        if f.name not in ("options", "before")
    }
    return Plan(**fields, options={key: given[key] for key in _OPTIONS if given[key]})


def _show(plan: Plan, stated: Guarantee, as_json: bool, more: dict[str, Any]) -> None:
    from fedsim.privacy.claims import rounded_up

    if as_json:
        whose = {"holds_for": _whose(plan)}
        print(json.dumps(more | dataclasses.asdict(plan) | stated.as_dict() | whose, indent=2))
        return
    if more:
        print(f"{more['solved']} = {rounded_up(getattr(plan, more['solved']), 6)}")
    print("\n".join(_lines(plan, stated)))


def _whose(plan: Plan) -> str:
    return f"the {plan.users:,} users of the plan"


def _amplified(stated: Guarantee) -> str:
    from fedsim.privacy.statement import names_known

    if stated.epsilon_names_known is None:
        return "no"
    return (
        "by sampling: holds only if users are really drawn so, and for who does not know who was; "
        f"for who knows it, epsilon is {names_known(stated.as_dict())}"
    )


def _lines(plan: Plan, stated: Guarantee) -> list[str]:
    from fedsim.privacy.claims import rounded_down, rounded_up

    checks = []
    if stated.epsilon_rdp is not None:
        checks.append(f"RDP {rounded_up(stated.epsilon_rdp)}")
    amplified = ", amplification not counted" if stated.amplified else ""
    checks.append(f"zCDP rho {rounded_up(stated.rho)}{amplified}")
    if stated.mu is not None:
        checks.append(f"GDP mu {rounded_up(stated.mu)}")
    kept = [
        f"at most {stated.participations} rounds of a user" if stated.participations else "",
        f"separation {stated.min_separation}" if stated.min_separation else "",
    ]
    rows = [
        ("epsilon", f"{rounded_up(stated.epsilon)} at delta = {rounded_up(stated.delta, 3)}"),
        ("holds for", _whose(plan)),
        ("accountant", "; ".join([stated.accountant, *checks])),
        ("unit", f"one {stated.unit}; {stated.adjacency}"),
        ("mechanism", f"{stated.mechanism}, noise multiplier "
                      f"{rounded_down(stated.noise_multiplier, 6)}, "
                      f"sensitivity {rounded_up(stated.sensitivity, 6)}"),
        ("sampler", ", ".join([stated.sampler, f"{plan.cohort} of {plan.users} users",
                               f"{plan.rounds} rounds", *filter(None, kept)])),
        ("amplified", _amplified(stated)),
        ("adversary", stated.adversary),
        *(("warning", warning) for warning in stated.warnings),
    ]  # fmt: skip
    return [f"{name:<12}{text}" for name, text in rows]
