"""`show RUN`: the final table, the exposure of the canaries and where the rest is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fedsim.consoles import new_console, print_report
from fedsim.divergence import diverged
from fedsim.locks import holder
from fedsim.profile import PARTS
from fedsim.program import command

if TYPE_CHECKING:
    from fedsim.runs import Run  # pandas, which a run loads when it has its workers

WIDTH = 110


def show(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print the results of a run."""
    from fedsim.runs import Run

    print_run(Run.open(run), as_json)


def print_run(run: Run, as_json: bool, profile: bool = False) -> None:
    """The result of a run, for people or as JSON, and where its time went if that is asked."""
    if as_json:
        more = {"profile": run.profile} if profile else {}
        print(json.dumps({**summary(run), **more}, indent=2))
        return
    # A pipe has no width of its own; 80 columns would break the headings.
    console = new_console(width=None if sys.stdout.isatty() else WIDTH)
    # All is read before anything is printed: a damaged table leaves no half of an answer.
    results, exposure, status = run.results, last_exposure(run), run.status
    leakage = leakage_lines(run)
    missing = how_to_continue(run) if status["state"] != "finished" else ""
    wrong = diverged(run)
    if len(results):
        console.print(_results_table(results))
    if len(exposure):
        console.print(_exposure_table(exposure))
    console.print(
        f"{status['state']} after {status['round']} rounds; model {run.digest[:16] or '-'}"
    )
    if wrong:
        console.print(wrong, soft_wrap=True)
    console.print(privacy_line(run), soft_wrap=True)
    for line in leakage:
        console.print(line, soft_wrap=True)
    if missing:
        console.print(missing, soft_wrap=True)
    if profile:
        console.print(_profile_table(run.profile))
    if (run.path / "report.html").is_file():
        print_report(run.path / "report.html")


def privacy_line(run: Run) -> str:
    """The guarantee in one line."""
    from fedsim.report.summary import privacy

    heading, text = privacy(run.privacy)
    return f"{heading.lower().rstrip('.')}: {text}"


def leakage_lines(run: Run) -> list[str]:
    """Which leakage measures were taken and which were not, where any was."""
    if not (run.path / "leakage.csv").is_file():
        return []  # and the measures, which load torch, are not needed
    from fedsim.report.leakage import digest

    return digest(run)


def how_to_continue(run: Run) -> str:
    """What an unfinished run lacks, and the command that adds it."""
    rounds = run.config.server.rounds
    done = int(run.rounds["round"].max()) if len(run.rounds) else 0
    missing = f"{rounds - done} of {rounds} rounds and " if done < rounds else ""
    lacks = f"missing: {missing}the scores on unseen test users"
    if run.status["state"] == "running":
        return f"{lacks}; process {holder(run.path) or 'unknown'} is at work on it"
    return f"{lacks}; continue with: {resume_command(run.path)}"


def resume_command(folder: Path) -> str:
    """The shell command that continues the run in a folder."""
    return command("resume", folder)


def summary(run: Run) -> dict[str, Any]:
    """Everything `show` prints, as plain values."""
    return {
        "run": str(run.path),
        **run.status,
        "diverged": diverged(run) or None,
        "privacy": run.privacy,
        "results": json.loads(run.results.to_json(orient="records", double_precision=15)),
        "exposure": json.loads(last_exposure(run).to_json(orient="records", double_precision=15)),
    }


def last_exposure(run: Run) -> Any:
    """The exposure rows of the last measurement."""
    exposure = run.exposure
    return exposure[exposure["round"] == exposure["round"].max()] if len(exposure) else exposure


def _results_table(results: Any) -> Table:
    users, words = int(results.users.iloc[0]), int(results.words.iloc[0])
    table = Table(
        title=f"{users} unseen test users, {words:,} words",
        title_justify="left",
        caption="recall over all words; worst tenth: mean top-1 recall of the tenth of the users "
        "with the lowest;\nkeystrokes saved with one, three and five suggestions",
        caption_justify="left",
    )
    for heading in (
        "model",
        "top-1",
        "top-3",
        "worst tenth",
        "perplexity",
        "keystrokes saved",
        "latency p50 / p95",
        "size",
    ):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in results.itertuples():
        latency, size = "", ""
        if row.latency_p50_ms == row.latency_p50_ms:
            latency = f"{row.latency_p50_ms:.2f} / {row.latency_p95_ms:.2f} ms"
        if row.model_bytes is not None and str(row.model_bytes) != "<NA>":
            size = f"{row.model_bytes / 1e6:.1f} MB"
        table.add_row(
            row.model,
            f"{row.top1_recall:.2%}",
            f"{row.top3_recall:.2%}",
            f"{row.top1_recall_worst_tenth:.2%}",
            f"{row.perplexity:.1f}",
            _savings(row),
            latency,
            size,
        )
    return table


def _savings(row: Any) -> str:
    """With one, three and five suggestions; runs of before have three only."""
    saved = (row.keystroke_savings_top1, row.keystroke_savings, row.keystroke_savings_top5)
    if saved[0] != saved[0]:
        return f"{row.keystroke_savings:.1%}"
    return " / ".join(f"{100 * share:.1f}" for share in saved) + "%"


def _profile_table(profile: Mapping[str, Any]) -> Table:
    wall, parts = profile["wall_seconds"], profile["parts"]
    rounds = sum(parts[name] for name in ("compute", "communication", "aggregation"))
    rate = f"{profile['tokens'] / rounds:,.0f} tokens/s" if rounds else "no training"
    lines = [f"{profile['rounds']} training rounds: {rounds:.1f} s, {rate}"]
    lines += [
        f"worker {worker['worker']} trained {worker['seconds'] / worker['of_seconds']:.0%} of "
        f"{worker['of_seconds']:.1f} s"
        for worker in profile["workers"]
        if worker["of_seconds"]
    ]
    table = Table(
        title=f"Where {wall:.1f} s went",
        title_justify="left",
        caption="\n".join(lines),
        caption_justify="left",
    )
    table.add_column("part")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    table.add_column("what it is")
    for name, meaning in PARTS.items():
        seconds = parts[name]
        table.add_row(name, f"{seconds:.2f}", f"{seconds / wall:.1%}" if wall else "", meaning)
    return table


def _exposure_table(exposure: Any) -> Table:
    from fedsim.leakage.unseen import chance_of
    from fedsim.report.formats import chance

    ceiling = exposure.ceiling_bits.iloc[0]
    table = Table(
        title=f"Canaries after round {exposure['round'].iloc[0]}: what the model memorized",
        title_justify="left",
        caption="mean sampled exposure of those that were trained on, at most "
        f"{ceiling:.2f} bits here; a sentence never seen averages 1.44\n"
        "by chance: how often as many sentences never seen have such a mean",
        caption_justify="left",
    )
    for heading in ("held by", "copies each", "canaries", "bits", "by chance", "extracted",
                    "participations"):  # fmt: skip
        table.add_column(heading, justify="right")
    grouped = exposure.groupby(["kind", "users", "repeats"], sort=True)
    for (kind, users, repeats), rows in grouped:
        held = "nobody" if kind == "held_out" else f"{users} user{'s' if users > 1 else ''}"
        # A canary whose holders never took part was not trained on: it says nothing of its cell.
        seen = rows if kind == "held_out" else rows[rows.holder_participations > 0]
        bits = seen.exposure_bits.to_numpy()
        table.add_row(
            held,
            str(repeats),
            f"{len(seen)} of {len(rows)}" if len(seen) < len(rows) else str(len(rows)),
            f"{bits.mean():.2f}" if len(seen) else "never took part",
            chance(chance_of(bits)) if len(seen) and kind != "held_out" else "",
            f"{int(seen.extracted.sum())} of {len(seen)}",
            f"{seen.holder_participations.mean():.1f}" if len(seen) else "0",
        )
    return table
