"""`suggest RUN TEXT`: what the trained keyboard would offer next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def suggest(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    text: Annotated[str, typer.Argument(help="what has been typed so far")] = "",
    count: Annotated[int, typer.Option(min=1, help="how many suggestions")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print the likeliest next words with their probabilities."""
    import torch

    from fedsim.data.text import words
    from fedsim.models.batch import BOS, N_SPECIALS, UNK
    from fedsim.runs import Run

    opened = Run.open(run)
    model, vocabulary = opened.model(), opened.vocabulary()
    ids = {word: index for index, word in enumerate(vocabulary)}
    logits, state = model.step(torch.tensor([BOS]), None)
    for word in words(text):
        logits, state = model.step(torch.tensor([ids.get(word, UNK)]), state)
    logits[:, :N_SPECIALS] = -torch.inf
    probabilities, best = torch.softmax(logits[0], 0).topk(min(count, len(vocabulary) - N_SPECIALS))
    offers = [
        {"word": vocabulary[int(i)], "probability": float(p)}
        for p, i in zip(probabilities, best, strict=True)
    ]
    if as_json:
        print(json.dumps(offers, indent=2))
        return
    for offer in offers:
        print(f"{offer['word']:<16} {offer['probability']:.1%}")
