"""`audit RUN`, what a run's model gives away, and `selfcheck`, whether the measures are right."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from fedsim.cli.report import UNMASK
from fedsim.consoles import new_console, print_report
from fedsim.errors import FedsimError
from fedsim.program import command
from fedsim.showing import one_line

if TYPE_CHECKING:
    from fedsim.leakage.audit import Audited
    from fedsim.runs import Run

WIDTH = 150
EXIT_BROKEN = 3
MOST = 5  # figures of a measure that are printed unless all are asked for


def audit(
    run: Annotated[Path | None, typer.Argument(help="the run's folder")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="measure.option=value, see --list")
    ] = None,
    measures: Annotated[
        str | None, typer.Option(help="a,b,...; by default all that train no models of their own")
    ] = None,
    unmask: Annotated[bool, typer.Option("--unmask", help=UNMASK)] = False,
    listed: Annotated[bool, typer.Option("--list", help="the measures and their options")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="measures at a time; 0: one a core")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="measure also what an earlier audit kept")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="print all figures")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure what a finished run's model gives away; the run's report then shows it.

    Each measure is kept as it ends: an audit that was stopped goes on with the next one, and what
    an earlier one kept is measured again where its options, the model or the code are others.
    Exit code 3 where a measure proves that a guarantee of the run does not hold.
    """
    from fedsim.runs import Run

    if listed:
        _list(as_json)
        return
    if run is None:
        raise FedsimError(f"Name the folder of the run to audit: `{command('audit', 'RUN')}`.")
    opened = Run.open(run)
    names = [name.strip() for name in (measures or "").split(",") if name.strip()]
    if measures is not None and not names:
        raise FedsimError(
            f"--measures names none; see `{command('audit', '--list')}`, or leave it out."
        )
    found, page = _audited(opened, names, overrides or [], jobs, again, unmask)
    rows = [row for done in found for row in done.table.to_dict("records")]
    if as_json:
        print(json.dumps([{k: _plain(v) for k, v in row.items()} for row in rows], indent=2))
    else:
        for done in found:
            _print(done, len(done.table) if full else MOST)
        print_report(page)
        print(f"{opened.path / 'audit'} holds people's sentences in clear: keep it to yourself.")
    broken = [done.broken for done in found if done.broken]
    for sentence in broken:
        print(f"Error: {sentence}", file=sys.stderr)
    if broken:
        raise typer.Exit(EXIT_BROKEN)


def _audited(
    run: Run, names: list[str], overrides: list[str], jobs: int, again: bool, unmask: bool
) -> tuple[list[Audited], Path]:
    """What was measured, and the page that shows it. A stop writes the page too, and ends."""
    from fedsim.cli.audit_progress import AuditProgress
    from fedsim.interrupts import held_back
    from fedsim.report import write_report
    from fedsim.studies.audit import audit_run

    with AuditProgress() as shown:

        def told(done: Audited) -> None:
            shown.say(_told(done))

        def refused(name: str, error: FedsimError) -> None:
            shown.say(f"{name}: not taken. {error}")

        none_named = refused if not names else None
        try:
            found = audit_run(run, names, overrides, jobs, told, none_named, again, shown)
        except KeyboardInterrupt:
            with held_back():  # a second one must not cost the page
                page = write_report(run, unmask)
            words = [word for word in sys.argv[1:] if word != "--again"]
            shown.say(
                f"Interrupted; what was measured is kept, and in {one_line(page)}. Go on with: "
                f"{command(*words)}"
            )
            raise typer.Exit(130) from None
    return found, write_report(run, unmask)


def selfcheck(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Try every leakage measure where theory says what it must find; exit code 1 if one fails."""
    from fedsim.leakage.checks import CHECKS

    rows = []
    for name in CHECKS:
        for check in CHECKS[name]():
            rows.append(
                {
                    "check": name,
                    "truth": check.truth,
                    "found": check.found,
                    "low": check.low,
                    "high": check.high,
                    "passed": check.passed,
                }
            )
            if not as_json:
                mark = "ok    " if check.passed else "FAILED"
                print(
                    f"{mark} {name}: {check.truth}: {check.found:.4g}, within {check.low:.4g} to "
                    f"{check.high:.4g}",
                    flush=True,
                )
    if as_json:
        print(json.dumps([{k: _plain(v) for k, v in row.items()} for row in rows], indent=2))
    failed = sum(not row["passed"] for row in rows)
    if failed:
        print(f"{failed} of {len(rows)} self-checks failed.", file=sys.stderr)
        raise typer.Exit(1)


def _told(done: Audited) -> str:
    """A measure that has ended, in one line."""
    if done.kept:
        return (
            f"{done.name}: kept from before, when it took {done.seconds:.1f} s; --again measures "
            "it again"
        )
    speed = f", {done.sentences / done.seconds:,.0f} sentences/s" if done.sentences else ""
    return f"{done.name}: {done.seconds:.1f} s{speed}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def _list(as_json: bool) -> None:
    from fedsim.leakage.measures import MEASURES

    rows: list[dict[str, Any]] = []
    for name in MEASURES:
        measure = MEASURES[name]
        rows.append({"measure": name, "title": measure.title, "trains": measure.trains,
                     "threat": measure.threat, "meaning": measure.meaning,
                     "options": {key: {"default": field.default, "about": field.description}
                                 for key, field in measure.model_fields.items()}})  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=2, default=list))
        return
    for row in rows:
        more = "  (trains models of its own)" if row["trains"] else ""
        print(f"{row['measure']}: {row['title']}{more}\n  {row['meaning']}")
        for key, option in row["options"].items():
            print(f"  {row['measure']}.{key}={option['default']}  {option['about'] or ''}".rstrip())


def _print(done: Audited, most: int) -> None:
    """What a measure found, in a sentence, and the figures that tell most."""
    from fedsim.report.leakage import title_of
    from fedsim.report.leakage_cards import telling
    from fedsim.report.leakage_rows import rows_of
    from fedsim.report.leakage_rules import conclusion
    from fedsim.report.leakage_words import of_whom, phrase, value

    console = new_console(width=None if sys.stdout.isatty() else WIDTH, markup=True)
    rows = rows_of(done.table)
    found = conclusion(done.name, rows)
    console.print(f"[bold]{title_of(done.name)}[/bold]  {escape(found.text)}")
    table = Table(box=None, padding=(0, 2), header_style="")
    for column in ("figure", "of", "estimate and 95 % interval", "control", "note"):
        table.add_column(column, overflow="fold")
    for row in telling(rows, found)[:most]:
        cells = (phrase(row.quantity), of_whom(row.group), row.said,
                 value(row.quantity, row.control), row.note)  # fmt: skip
        table.add_row(*map(escape, cells))
    console.print(table)
    if len(rows) > most:
        console.print(f"  and {len(rows) - most} more: --full, the report, leakage.csv")
    console.print()
