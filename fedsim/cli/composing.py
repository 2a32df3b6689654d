"""`privacy compose`: what several runs guarantee together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsim.cli.train import Json

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
    if composed.reported is None:
        return _of(composed.there, "there")
    return [
        *_of(composed.reported, "whose noise is simulated"),
        "",
        *_of(composed.there, "that were really there"),
    ]


def _of(whole: Whole, which: str) -> list[str]:
    from fedsim.privacy.claims import rounded_up

    checks = [whole.accountant, f"zCDP rho {whole.rho:.4g}, amplification not counted"]
    if whole.epsilon_rdp is not None:
        checks.insert(1, f"RDP {whole.epsilon_rdp:.4g}")
    if whole.mu is not None:
        checks.append(f"GDP mu {whole.mu:.4g}")
    many = f"{whole.users:,} users" if whole.users else "users"
    rows = [
        ("epsilon", f"{rounded_up(whole.epsilon)} at delta = {rounded_up(whole.delta, 3)}, all "
                    "models together"),
        ("accountant", "; ".join(checks)),
        ("for", f"each of the {many} {which}, as if in all runs"),
        ("unit", f"one {whole.unit}; {whole.adjacency}"),
        ("sampler", whole.sampler),
        ("adversary", whole.adversary),
        *(
            ("run", f"{name}: epsilon {rounded_up(epsilon)} alone")
            for name, epsilon in zip(whole.runs, whole.epsilons, strict=True)
        ),
        *(("infinite", f"{name} guarantees nothing, and so the whole does not")
          for name in whole.exposed),
        *(("repeated", f"{name} is one of the others again: it tells nothing new")
          for name in whole.repeated),
        *(("warning", warning) for warning in whole.warnings),
    ]  # fmt: skip
    return [f"{name:<12}{text}" for name, text in rows]
