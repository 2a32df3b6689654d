"""`data`: list the data sets, show one, write a synthetic one."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from fedsim.config import load
from fedsim.consoles import new_console
from fedsim.data.catalogue import entries, origin, sample_sentences, statistics
from fedsim.data.drops import UNITS
from fedsim.data.options import DataOptions
from fedsim.data.recipes import Federation
from fedsim.data.shards import SERVER, disclosure, write_shards
from fedsim.data.store import Corpus, open_corpus
from fedsim.data.synthetic import synthesise
from fedsim.errors import FedsimError
from fedsim.options import validated
from fedsim.program import quoted

app = typer.Typer(help="List the data sets, show one, or write a synthetic one.")

_NAMED = 5  # files that are left out
# What an account has beside its sums, and how it is introduced.
_NOTES = {
    "replaced": "words of the corpus that stand as a class:",
    "signs": "signs that are no part of a word:",
    "changed": "altered and kept:",
}

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def _console() -> Console:
    """A console that never wraps or colours what goes into a file or a pipe."""
    console = new_console()
    return console if console.is_terminal else new_console(width=10_000)


def _table(console: Console, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


@app.callback(invoke_without_command=True)
def list_data_sets(context: typer.Context, as_json: Json = False) -> None:
    """List the data sets: users, words, licence, and what a missing one needs."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise FedsimError(f"Write --json after '{context.invoked_subcommand}'.")
        return
    found = entries()
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in found], indent=1))
        return
    console = _console()
    table = _table(
        console, "name", "users", "words", "licence", "state", "title", numbers=("users", "words")
    )
    for entry in found:
        row = (entry.name, _count(entry.users), _count(entry.words), entry.licence)
        table.add_row(*row, entry.state, entry.title)
    console.print(table)
    for entry in found:
        if entry.note:
            console.print(f"{entry.name}: {entry.note}")


@app.command()
def show(
    name: Annotated[
        str | None, typer.Argument(help="Data set or recipe file; your own file needs none.")
    ] = None,
    path: Annotated[str | None, typer.Option(help="Your file, folder or corpus.")] = None,
    user_column: Annotated[str, typer.Option(help="Column of the user.")] = "user",
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    encoding: Annotated[
        str | None, typer.Option(help="Of the text, such as cp1252; UTF-8 without it.")
    ] = None,
    quoting: Annotated[
        str | None, typer.Option(help="Of CSV: csv, backslash (Spark), escapes (SQL) or none.")
    ] = None,
    no_quoting: Annotated[
        bool, typer.Option("--no-quoting", help="The same as --quoting none: quotes are text.")
    ] = False,
    vocabulary: Annotated[int, typer.Option(help="Ids, special ones included.")] = 10_000,
    min_words: Annotated[int | None, typer.Option(help="Users with fewer are dropped.")] = None,
    cap_words: Annotated[int | None, typer.Option(help="Kept of each user.")] = None,
    segment: Annotated[
        str,
        typer.Option(help="Thai and the like: characters, words, spaces."),
    ] = "characters",
    drop_users: Annotated[
        list[str] | None, typer.Option(help="A user to leave out, by name; may be repeated.")
    ] = None,
    deduplicate: Annotated[
        bool | None,
        typer.Option("--deduplicate", help="Keep one of each user's equal messages."),
    ] = None,
    emoji: Annotated[str, typer.Option(help="keep or drop.")] = "keep",
    case: Annotated[str, typer.Option(help="fold (lower case) or keep.")] = "fold",
    numbers: Annotated[str, typer.Option(help="class (all are <number>) or keep.")] = "class",
    sentences: Annotated[str, typer.Option(help="split, or keep a message as one.")] = "split",
    samples: Annotated[int, typer.Option(min=0, help="Training users to print a sentence of.")] = 5,
    as_json: Json = False,
) -> None:
    """Print a data set in numbers, and a few sentences of its training users."""
    values: dict[str, Any] = {
        "path": path,
        "user_column": user_column,
        "text_column": text_column,
        "encoding": encoding,
        "quoting": "none" if no_quoting else quoting,
        "vocabulary": vocabulary,
        "min_words": min_words,
        "cap_words": cap_words,
        "segment": segment,
        "drop_users": drop_users or None,
        "deduplicate": deduplicate,
        "emoji": emoji,
        "case": case,
        "numbers": numbers,
        "sentences": sentences,
    }
    if name is not None:
        values["name"] = name
    try:
        options = validated(DataOptions, values, "data")
        corpus = open_corpus(options)
        found = origin(options)
    except FedsimError as error:
        raise FedsimError(_in_options(str(error))) from error
    figures = {**statistics(corpus), "origin": found, "samples": sample_sentences(corpus, samples)}
    if as_json:
        typer.echo(json.dumps(figures, indent=1, ensure_ascii=False))
    else:
        _print_statistics(figures)


def _in_options(advice: str) -> str:
    """Advice about the keys of a configuration, said in the options of `data show`."""
    options = "|".join(key for key in DataOptions.model_fields if key != "name")
    keys = rf"\bdata\.({options})\b"
    advice = re.sub(keys, lambda key: "--" + key[1].replace("_", "-"), advice)
    return advice.replace("data.name", "NAME")


def _print_statistics(numbers: dict[str, Any]) -> None:
    console = _console()
    console.print(f"{numbers['name']}: {numbers['title']}")
    for key in ("licence", "citation", "homepage", "digest"):
        console.print(f"{key:<10} {numbers[key]}")
    if found := numbers["origin"]:
        _print_origin(console, found)
    console.print(f"{'vocabulary':<10} {numbers['vocabulary']:,}\n")
    columns = ("users", "sentences", "words", "out of vocabulary")
    table = _table(console, "split", *columns, numbers=columns)
    for part, counts in numbers["split"].items():
        rate = numbers["out_of_vocabulary"][part]
        cells = [_count(counts[key]) for key in columns[:3]]
        table.add_row(part, *cells, f"{rate:.1%}")
    table.add_row("all", *(_count(numbers[key]) for key in columns[:3]), "")
    console.print(table)
    deciles = "  ".join(_count(value) for value in numbers["words_per_user_deciles"])
    console.print(f"\nwords per user, deciles from least to most: {deciles}")
    if numbers["account"]:
        _print_account(console, numbers["account"])
    if numbers["samples"]:
        console.print("\nsentences of training users, as the model sees them:")
    for sentence in numbers["samples"]:
        console.print(f"  {sentence}")


def _print_account(console: Console, account: dict[str, Any]) -> None:
    """What was read, what of it is in the corpus, and why the rest is not."""
    console.print("\nwhat became of the text (read = kept + dropped):")
    columns = ("read", "kept", "dropped")
    table = _table(console, "", *columns, "which", numbers=columns)
    for unit in UNITS:
        part = account[unit]
        dropped = sum(part["dropped"].values())
        table.add_row(unit, *(_count(n) for n in (part["read"], part["kept"], dropped)), "")
        for reason, count in part["dropped"].items():
            table.add_row("", "", "", _count(count), reason)
    console.print(table)
    for kind, heading in _NOTES.items():
        for what, count in account[kind].items():
            console.print(f"{heading} {_count(count)} {what}")
    for hint in account.get("hints", []):
        console.print(f"note: {_in_options(hint)}")


def _print_origin(console: Console, found: dict[str, Any]) -> None:
    """What the user's files were taken for, and what of a folder was left out."""
    files = f"{_count(found['files'])} file{'s' if found['files'] > 1 else ''}"
    console.print(f"{'read as':<10} {found['read_as']}: {found['why']}; {files}")
    if found["left_out"]:
        names = ", ".join(found["left_out"][:_NAMED])
        more = len(found["left_out"]) - _NAMED
        names += f" and {_count(more)} more" if more > 0 else ""
        console.print(f"{'left out':<10} {names}")


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="New folder for the corpus.")],
    users: Annotated[int, typer.Option(help="Number of users.")] = 1000,
    median_sentences: Annotated[float, typer.Option(help="Of the median user.")] = 10.0,
    vocabulary: Annotated[int, typer.Option(min=10, help="Ids, special ones included.")] = 10_000,
    max_words: Annotated[int, typer.Option(min=2, help="Of a sentence.")] = 30,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a seeded synthetic federation; train on it with data.path=OUT."""
    values = {"users": users, "median_sentences": median_sentences, "seed": seed}
    synthesise(out, validated(Federation, values, ""), vocabulary, max_words)
    corpus = Corpus(out)
    facts = {"path": str(out), "digest": corpus.digest, **corpus.counts}
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        counts = ", ".join(f"{_count(corpus.counts[key])} {key}" for key in ("users", "words"))
        _console().print(f"{out}: {counts}; use it with {quoted(f'data.path={out}')}")


@app.command()
def shard(
    out: Annotated[Path, typer.Option(help="New folder for the shards.")],
    nodes: Annotated[int, typer.Option(min=1, help="Machines that hold users' text.")] = 2,
    preset: Annotated[str, typer.Option(help="Whose data section is used.")] = "default",
    overrides: Annotated[list[str] | None, typer.Argument(help="data.key=value")] = None,
    as_json: Json = False,
) -> None:
    """Cut a corpus into one folder for each machine of a deployment, and one for the server."""
    corpus = open_corpus(load(preset, overrides or []).data)
    told = disclosure(corpus)
    parts = {folder: Corpus(folder) for folder in write_shards(corpus, out, nodes)}
    facts = {
        str(folder): {"users": int(part.hosted.sum()), "words": part.counts["words"]}
        for folder, part in parts.items()
    }
    if as_json:
        typer.echo(
            json.dumps({"shards": facts, "server": str(out / SERVER), "note": told}, indent=1)
        )
        return
    for name, counts in facts.items():
        users, words = _count(counts["users"]), _count(counts["words"])
        _console().print(f"{name}: {users} users, {words} words")
    _console().print(f"{out / SERVER}: the vocabulary and no sentences, for the server")
    if told:
        _console().print(told)
