"""The page: facts, sentences, plots and tables put into the template."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jinja2
from markupsafe import Markup

from fedsim.privacy.statement import as_text
from fedsim.program import command_for_pages
from fedsim.report import plots, tables
from fedsim.report.facts import FLOORS, NEVER_SEEN_BITS, Facts
from fedsim.report.formats import MISSING, percent
from fedsim.report.intervals import mean
from fedsim.report.leakage_template import FINDINGS, HINT, LEAKAGE
from fedsim.report.leakage_template import STYLE as LEAKAGE_STYLE
from fedsim.report.script_template import SCRIPT
from fedsim.report.style_template import STYLE
from fedsim.report.summary import averaged, privacy, summary
from fedsim.report.template import PAGE
from fedsim.runs import Run

# The page asks for nothing, and runs its own script only, whatever text it shows.
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'"


def render(run: Run, unmask: bool = False) -> str:
    """The whole report as HTML."""
    facts = Facts.of(run)
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(
            {
                "page": PAGE.lstrip(),
                "leakage": FINDINGS.lstrip() + LEAKAGE.lstrip(),
                "hint": HINT.lstrip(),
            }
        ),
        autoescape=True,  # names, paths and errors are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page").render(
        facts=facts,
        style=Markup(STYLE.lstrip() + (LEAKAGE_STYLE.lstrip())),
        script=Markup(SCRIPT),
        policy=POLICY,
        leakage=_audit(facts, run, unmask),
        program=command_for_pages(),
        started=str(facts.provenance.get("started", ""))[:16].replace("T", " "),
        summary=summary(facts),
        privacy=privacy(facts.privacy),
        statement=as_text(facts.privacy) if facts.privacy else "",
        never_seen=NEVER_SEEN_BITS,
        tiles=_tiles(facts),
        config=list(tables.flat(facts.config)),
        provenance=list(tables.flat(facts.provenance)),
        **_scores(facts),
        **_leakage(facts),
        **_cost(facts),
    )


def _audit(facts: Facts, run: Run, unmask: bool) -> dict[str, Any] | None:
    """The part on leakage measures; None where none was taken."""
    if not len(facts.leakage):
        return None
    # The measures load torch, which the report of a run without an audit does not need.
    from fedsim.report.leakage import Leakage
    from fedsim.report.leakage_cards import card

    leakage = Leakage(run, facts.leakage, facts.privacy)
    cards = [card(leakage, name, unmask) for name in leakage.measures]
    return {"overview": leakage.overview(), "cards": cards}


def _tiles(facts: Facts) -> list[tuple[str, str]]:
    """The three or four numbers that most readers came for."""
    out = []
    result = facts.result(facts.federated)
    if result is not None:
        out.append((percent(result.top1_recall), "top-1 recall, test users"))
        out.append((percent(result.top3_recall), "top-3 recall, test users"))
    elif len(facts.validation):
        last = facts.validation.iloc[-1]
        out.append((percent(last.top1_recall), f"top-1, validation, round {last['round']}"))
        out.append((percent(last.top3_recall), f"top-3, validation, round {last['round']}"))
    if len(facts.seen):
        out.append((f"{facts.seen.exposure_bits.max():.2f} bits", "highest sampled exposure"))
        extracted = f"{int(facts.seen.extracted.sum())} of {len(facts.seen)}"
        out.append((extracted, "trained canaries extracted"))
    return out


def _scores(facts: Facts) -> dict[str, Any]:
    curves = []
    if len(facts.validation) or len(facts.results):
        curves = [plots.learning(facts, "top1_recall", "top-1")]
        curves.append(plots.learning(facts, "top3_recall", "top-3"))
    if facts.rounds["train_loss_nats_per_token"].notna().any():
        curves.append(plots.training_loss(facts))
    has_users = any(len(facts.users_of(model)) for model in facts.models)
    return {
        "results": tables.results(facts),
        "floors": any(model in FLOORS for model in facts.scored),
        "averaged": averaged(facts),
        "curves": curves,
        "distribution": plots.user_distribution(facts) if has_users else None,
        "deciles": tables.deciles(facts),
        "offers": tables.offers(facts),
        "better_for": tables.better_for(facts),
    }


def _leakage(facts: Facts) -> dict[str, Any]:
    out: dict[str, Any] = {
        "grid": None,
        "exposure_curves": [],
        "canaries": [],
        "control_plot": None,
        "control_mean": MISSING,
        "left_out": tables.left_out(facts),
    }
    if len(facts.planted):
        out["grid"] = tables.exposure_grid(facts)
        out["canaries"] = tables.canaries(facts)
        holders = plots.holders(facts.exposures)
        out["exposure_curves"] = [plots.exposure_by_round(facts, users) for users in holders]
    if len(facts.controls):
        out["control_plot"] = plots.controls(facts)
        average = mean(facts.controls["exposure_bits"])
        out["control_mean"] = f"{average.value:.2f} bits"
        if average.half_width == average.half_width:
            out["control_mean"] += f" (95 % interval {average.low:.2f} to {average.high:.2f})"
    return out


def _cost(facts: Facts) -> dict[str, Any]:
    if not len(facts.rounds):
        return {"cost_tiles": [], "cost_plots": [], "participation": [], "failure_reasons": []}
    return {
        "cost_tiles": tables.cost_tiles(facts),
        "cost_plots": [plots.traffic(facts), plots.speed(facts)],
        "participation": tables.participation(facts),
        "failure_reasons": tables.failure_reasons(facts),
    }
