"""`privacy compose`: what several runs guarantee together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsim.cli.train import Json

SIMULATED = "seeded noise in some run, which whoever has its config and text can subtract"

if TYPE_CHECKING:
    from fedsim.privacy.composition import Composed, Whole


def compose(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs that saw the same people")],
    delta: Annotated[
        float | None, typer.Option(help="of the whole; default: the smallest of the runs'")
    ] = None,
    same_people: Annotated[
        bool, typer.Option("--same-people", help="count everybody as in all, on other text too")
    ] = False,
    as_json: Json = False,
) -> None:
    """What several runs guarantee together to people who are in all of them."""
    from fedsim.privacy.composition import compose_runs
    from fedsim.runs import Run

    composed = compose_runs([Run.open(run) for run in runs], delta, same_people)
    print(json.dumps(composed.as_dict(), indent=2) if as_json else "\n".join(_lines(composed)))


def _lines(composed: Composed) -> list[str]:
    from fedsim.privacy.statement import GROUPS, group_lines

    there = f"each of the {composed.who} that were really there, as if in all runs"
    parts = [_of(composed.there, there)]
    if composed.reported is not None:
        users = f"{composed.reported.users:,} users" if composed.reported.users else "users"
        parts.insert(0, _of(composed.reported, f"each of the {users} whose noise is simulated"))
    if composed.simulation:
        parts[0].insert(0, _row("SIMULATION", SIMULATED))
    for group, title in GROUPS.items():
        parts.append(group_lines(title, composed.groups[group]))
    return "\n\n".join("\n".join(part) for part in parts if part).split("\n")


def _names(whole: Whole) -> str:
    """What sampling counts on to stay secret."""
    return "who took part when" if whole.unit == "user" else "which sequences were in a batch"


def _of(whole: Whole, whom: str) -> list[str]:
    from fedsim.privacy.claims import rounded_up

    checks = [whole.accountant, f"zCDP rho {rounded_up(whole.rho)}, amplification not counted"]
    if whole.epsilon_rdp is not None:
        checks.insert(1, f"RDP {rounded_up(whole.epsilon_rdp)}")
    if whole.mu is not None:
        checks.append(f"GDP mu {rounded_up(whole.mu)}")
    known = whole.epsilon_names_known
    rows = [
        ("epsilon", f"{rounded_up(whole.epsilon)} at delta = {rounded_up(whole.delta, 3)}, all "
                    "models together"),
        ("accountant", "; ".join(checks)),
        ("for", whom),
        ("unit", f"one {whole.unit}; {whole.adjacency}"),
        ("sampler", whole.sampler),
        ("adversary", whole.adversary),
        *((("names known", f"for who knows {_names(whole)}, epsilon is {rounded_up(known)} at "
            "the same delta for whoever was drawn as often as anybody in each run: sampling not "
            "counted"),) if known is not None else ()),
        *(
            ("run", f"{name}: epsilon {rounded_up(epsilon)} alone, {terms}")
            for name, epsilon, terms in zip(whole.runs, whole.epsilons, whole.terms, strict=True)
        ),
        *(("infinite", f"{name} guarantees nothing, and so the whole does not")
          for name in whole.exposed),
        *(("repeated", f"{name} is one of the others again: it tells nothing new")
          for name in whole.repeated),
        *(("warning", warning) for warning in whole.warnings),
    ]  # fmt: skip
    return [_row(name, text) for name, text in rows]


def _row(name: str, text: str) -> str:
    return f"{name:<12}{text}"
