"""`cache`: what is kept to be used again, how large it is, and clearing it."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedsim.cli.train import Json
from fedsim.consoles import new_console
from fedsim.errors import FedsimError
from fedsim.program import command

if TYPE_CHECKING:
    from fedsim.privacy.kept_keys import KeptKey
    from fedsim.studies.cache_contents import Entry

app = typer.Typer(
    help="List, size and clear what is kept to be used again, and list the keys of private runs."
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)B?")
_UNITS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@app.callback(invoke_without_command=True)
def overview(context: typer.Context, as_json: Json = False) -> None:
    """The kinds of things that are kept, how many there are, and their size."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise FedsimError(f"Write --json after '{context.invoked_subcommand}'.")
        return
    from fedsim.data.sources import cache_folder
    from fedsim.privacy.kept_keys import kept_keys
    from fedsim.report.formats import count, size
    from fedsim.studies.cache_contents import KINDS, entries

    found = {kind: entries(kind) for kind in KINDS}
    rows: list[dict[str, Any]] = [
        {"kind": kind, "entries": len(own), "bytes": sum(entry.size for entry in own)}
        for kind, own in found.items()
    ]
    folder, keys = str(cache_folder()), len(kept_keys())
    if as_json:
        print(json.dumps({"folder": folder, "kinds": rows, "keys": keys}, indent=2))
        return
    table = Table("kind", "entries", "size", "what it is", box=None)
    for row in rows:
        about = KINDS[row["kind"]]
        table.add_row(row["kind"], f"{row['entries']:,}", size(row["bytes"]), about)
    console = _console()
    console.print(table)
    total = size(sum(row["bytes"] for row in rows))
    console.print(f"{total} in {folder}, all of which can be made again", soft_wrap=True)
    if keys:
        told = count(keys, "key", "keys")
        see = command("cache", "keys")
        console.print(f"{told} of private runs that did not finish, which cannot: see `{see}`",
                      soft_wrap=True)  # fmt: skip


@app.command()
def cells(as_json: Json = False) -> None:
    """The runs that studies share, the one that was used last first."""
    from fedsim.report.formats import size
    from fedsim.studies.cache_contents import CELLS, entries

    found = entries(CELLS)
    if as_json:
        print(json.dumps([_plain(entry) for entry in found], indent=2))
        return
    if not found:
        print("No study has left a cell yet.")
        return
    table = Table("strategy", "privacy", "model", "data", "seed", "rounds", "state", "size",
                  "used", "folder", box=None)  # fmt: skip
    for entry in found:
        about = entry.about
        rounds = f"{about['round']} of {about['rounds']}" if "round" in about else ""
        state = about["state"] or "nothing yet"
        table.add_row(
            *(str(about.get(key, "")) for key in ("strategy", "privacy", "model", "data", "seed")),
            rounds,
            state if entry.usable else f"{state}, by other code",
            size(entry.size),
            f"{entry.days:.0f} d ago",
            entry.name,
        )
    _console().print(table)


@app.command()
def keys(
    forget: Annotated[
        list[str] | None, typer.Option(help="remove the key of this id, whose run is not there")
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="remove the keys of runs that are finished, and that of "
            "clients where no other is left",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """The keys of noise of private runs that did not finish: a run that goes on needs its own.

    A finished run deletes its key itself. Of a run that was given up, remove the folder, then the
    key by its id; the key of a run that is there and not finished is never removed. "clients" is
    the secret that clients of local and dp-sgd draw from, of all runs on this machine.
    """
    from fedsim.privacy import kept_keys, noise_keys
    from fedsim.report.formats import count

    gone = kept_keys.forget(forget or [])
    gone += kept_keys.prune() if prune else []
    left = kept_keys.kept_keys()
    plain = [_plain_key(key) for key in left]
    if as_json:
        removed = [_plain_key(key) for key in gone]
        print(json.dumps({"folder": str(noise_keys.folder()), "keys": plain, "removed": removed},
                         indent=2))  # fmt: skip
        return
    if forget or prune:
        print(f"{count(len(gone), 'key', 'keys')} removed; {len(left)} left")
    if not left:
        print(f"No key of an unfinished run is in {noise_keys.folder()}.")
        return
    table = Table("key", "used", "run is", "run", box=None)
    for key in plain:
        table.add_row(key["id"][:12], f"{key['days_since_use']:.0f} d ago", key["state"],
                      key["run"] or "")  # fmt: skip
    _console().print(table)


def _plain_key(key: KeptKey) -> dict[str, Any]:
    return {"id": key.id, "run": str(key.run) if key.run else None, "state": key.state,
            "days_since_use": round(max(0.0, time.time() - key.used) / 86_400, 2)}  # fmt: skip


@app.command()
def prune(
    kind: Annotated[str, typer.Option(help="what to clear, as `cache` lists it")] = "cells",
    older_than: Annotated[
        float | None, typer.Option(min=0, help="days since it was used last")
    ] = None,
    max_size: Annotated[str, typer.Option(help="keep what was used last, up to 2GB or so")] = "",
    everything: Annotated[bool, typer.Option("--all", help="all of the kind")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what, remove nothing")] = False,
    as_json: Json = False,
) -> None:
    """Remove cells that nothing asks for any more: of other code, failed, or never begun.

    --older-than, --max-size and --all remove others too. Folders of studies keep their copies.
    """
    from fedsim.report.formats import count, size
    from fedsim.studies.cache_contents import beyond, entries, remove, stale

    found = entries(kind)
    limit = _bytes(max_size) if max_size else None
    chosen = {entry.path: entry for entry in stale(found)}
    if everything:
        chosen = {entry.path: entry for entry in found}
    if older_than is not None:
        chosen |= {entry.path: entry for entry in found if entry.days >= older_than}
    if limit is not None:
        left = [entry for entry in found if entry.path not in chosen]
        chosen |= {entry.path: entry for entry in beyond(left, limit)}
    gone = [entry for entry in chosen.values() if dry_run or remove(entry)]
    freed, busy = sum(entry.size for entry in gone), len(chosen) - len(gone)
    if as_json:
        print(json.dumps({"removed": [_plain(entry) for entry in gone], "bytes": freed,
                          "in_use": busy, "dry_run": dry_run}, indent=2))  # fmt: skip
        return
    said = "would be removed" if dry_run else "removed"
    number = count(len(gone), "entry", "entries")
    print(f"{number} of {kind} {said}, {size(freed)}; {len(found) - len(gone)} left")
    if busy:
        print(f"{busy} in use by other processes, so kept", file=sys.stderr)


def _plain(entry: Entry) -> dict[str, Any]:
    own = {"name": entry.name, "folder": str(entry.path), "bytes": entry.size}
    return own | {"days_since_use": round(entry.days, 2), "usable": entry.usable} | entry.about


def _bytes(text: str) -> float:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise FedsimError(f"--max-size {text} is no size; write 500MB or 2GB.")
    return float(found[1]) * _UNITS[found[2]]


def _console() -> Console:
    console = new_console()
    return console if console.is_terminal else new_console(width=10_000)
