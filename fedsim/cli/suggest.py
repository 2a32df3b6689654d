"""`suggest RUN TEXT`: what the trained keyboard would offer for what has been typed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedsim.suggesting import Suggestions


def suggest(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    text: Annotated[
        str,
        typer.Argument(
            help="what has been typed: 'how ar' asks for completions, 'how are ' for the next word"
        ),
    ] = "",
    count: Annotated[int, typer.Option(min=1, help="how many suggestions")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print what the keyboard shows, with the model's probability of each next word.

    This is the keyboard whose keystrokes are counted. A word without a space behind it is being
    typed, and its completions are shown.
    """
    from fedsim.data.segment import spaced
    from fedsim.runs import Run
    from fedsim.suggesting import suggest as suggested

    opened = Run.open(run)
    cut = spaced(text, opened.config.data.segment)
    found = suggested(opened.model(), opened.vocabulary(), cut, count, opened.config.data.text)
    if as_json:
        offers = [{"word": word, "probability": share} for word, share in found.offers]
        print(json.dumps({**asdict(found), "offers": offers}, indent=2))
        return
    _print(found)


def _print(found: Suggestions) -> None:
    """The offers, then what the model thinks of everything else, as shares of one."""
    rows = list(found.offers)
    if found.typed:
        rows.append((f"all that begin with '{found.typed}'", found.beginning_so))
    rows.append(("end of the sentence", found.end))
    rows.append(("any unknown word", found.unknown_word))
    width = max(16, *(len(name) for name, _ in rows))
    for name, share in rows:
        print(f"{name:<{width}} {share:.1%}")
    if found.typed and not found.offers:
        print(f"No word of the vocabulary begins with '{found.typed}'.")
    if found.unknown:
        said = ", ".join(f"'{word}'" for word in found.unknown)
        print(f"Not in the vocabulary, so read as an unknown word: {said}.")
