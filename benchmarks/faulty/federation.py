"""A federation of 30 made-up people that trains in a second or two, made where it is needed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from fedsim.seeding import stream

WORDS = 120
PEOPLE = 30

# 23 of the people train, and 6 users that hold canaries; every part of a run has its turn:
# evaluations, exposure, checkpoints between rounds that have none.
PRESET = """
# A tiny federation for fault injection
seed = 1
strategy = "fedavg"
optimizer = "sgd"

[data]
path = {path}
min_words = 10

[model]
name = "cifg-small"
hidden = 12
embedding = 8

[server]
rounds = {rounds}
cohort = 7
checkpoint_every = 2

[evaluation]
every = 3
trigram = false
central = false

[canaries]
users = [1, 2]
repeats = [1, 5]
sentences = 8
held_out = 4

[engine]
name = "pool"
workers = 2
chunk = 2
"""


def write_federation(folder: Path, rounds: int) -> Path:
    """A chat and a preset on it in `folder`; returns the preset's file."""
    chat = folder / "chat.csv"
    _write_chat(chat)
    preset = folder / "tiny.toml"
    text = PRESET.lstrip().format(path=json.dumps(str(chat.resolve())), rounds=rounds)
    preset.write_text(text, encoding="utf-8")
    return preset


def _write_chat(path: Path) -> None:
    """Messages in which a word makes the next one likelier, from people of different size."""
    rng = stream(5, "chat")
    successors = rng.integers(WORDS, size=(WORDS, 3))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "text"])
        for person in range(PEOPLE):
            for _ in range(int(rng.integers(6, 18))):
                word, text = int(rng.integers(WORDS)), []
                for _ in range(int(rng.integers(3, 9))):
                    text.append(f"w{word}")
                    word = int(successors[word, rng.integers(3)])
                writer.writerow([f"p{person:02d}", " ".join(text)])
