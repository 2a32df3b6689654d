"""Wrong inputs of every sort, through the command line: one sentence each, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from forked_commands import Commands
from test_config import ABSURD

from fedsim.runs import Run

MENDABLE = 2


@dataclass(frozen=True)
class Wrong:
    """A command, with what is wrong about it; `said` is part of its sentence.

    {tiny}, {chat}, {run} and {here} stand for a preset, a corpus, a copy of a finished run and the
    command's own folder. `damage` is done to the copy before.
    """

    arguments: str
    said: str
    damage: Callable[[Path], object] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)


LONG = "x" * 300
TRAIN = "train --preset {tiny}"

CONFIG = [Wrong(f"{TRAIN} --dry-run {key}", ABSURD[key]) for key in ABSURD if "audit" not in key]
CONFIG += [
    Wrong(f"{TRAIN} --dry-run {key}", said)
    for key, said in {
        "client.lr=fast": "client.lr", "client.lr=nan": "client.lr", "clinet.lr=1": "clinet",
        "client.lrr=1": "did you mean", "server.rounds=2.5": "server.rounds", "rounds=3": "server",
        "model=gpt": "There is no model", "strategy=best": "There is no strategy",
        "privacy=none.": "privacy", "optimizer=lion": "optimizer", "server.sampler=luck": "sampler",
        "engine=steam": "engine.name", "engine.device=x": "engine.device", "seed=one": "seed",
        "data=nothing": "data", "data=x.toml": "x.toml", "data.path=/nonexistent": "/nonexistent",
        "data.path=/": "data.path", "data.path=/dev/zero": "device", "data.path=": "data",
        "data.vocabulary=3": "data.vocabulary", "canaries=some": "canaries.name",
        "canaries.users=[0]": "canaries.users", "canaries.repeats=[5000]": "canaries.repeats",
        "audit.measures=[\"x\"]": "x", "audit.set_apart=5000": "audit.set_apart",
        "server.cohort=10000": "server.cohort", "federation.partition=mine": "partition",
        "tracking.to=[\"x\"]": "tracker", "evaluation.every=0": "evaluation.every",
        "client": "not an override", "=1": "not an override", "a.b.c=1": "a.b.c",
        "server.average=1": "server.average", "server.on_failure=hope": "on_failure",
        "client.batch_size=0": "client.batch_size", "client.epochs=-1": "client.epochs",
        "engine.workers=2": "no effect", "server.groups=2": "no effect",
    }.items()
]  # fmt: skip

WORDS = {
    f"{TRAIN} privacy=dp-fedavg privacy.epsilon=0": "infinite noise",
    "server.rounds=3": "run come behind `train`", "--preset gboard": "run come behind `train`",
    "trian": "No such command", "train --presett x": "No such option", "show": "Missing argument",
    "train --preset": "requires an argument", "train --workers x": "not a valid integer",
    "-x": "No such option", "study": "Missing command", "study x": "No such command",
    "data x": "No such command", "deploy": "Missing command", "privacy": "Missing command",
    "presets x": "one word too many", "selfcheck --measures x": "No such option",
    "train --preset nothing": "There is no preset", "train --preset n.toml": "no preset file",
    f"train --preset {LONG}.toml": "no preset file", f"{TRAIN} --out {LONG}": "File name too long",
    f"{TRAIN} --out /dev/null/x": "cannot be made", f"{TRAIN} --out {{run}}": "exists",
    f"{TRAIN} --track x": "There is no tracker", "train --track ,": "names nobody",
    "train --pretrain nothing": "There is no data set", "train --engine steam": "engine.name",
    "train --workers -1": "engine.workers", "show /nonexistent": "is not a run folder",
    "show {here}": "is not a run folder", f"show {LONG}": "is not a run folder",
    "show {chat}": "is not a run folder", "report {here}": "is not a run folder",
    "audit {here}": "is not a run folder", "audit": "Name the folder",
    "audit {run} --measures x": "There is no leakage measure", "audit {run} --jobs -1": "--jobs",
    "audit {run} --set x": "", "suggest {here}": "is not a run folder",
    "suggest {run} w1 --count 0": "", "resume {run}": "is finished",
    "resume {here}": "is not a run folder", "resume {run} --engine x": "engine.name",
    "resume {run} --workers -3": "engine.workers", "resume {run} client.lr=1": "no place",
    "privacy statement {run}": "without a privacy mechanism", "privacy epsilon": "Missing option",
    "privacy epsilon --users 10 --cohort 100 --rounds 1 --noise-multiplier 1": "cohort",
    "privacy epsilon --users 100 --cohort 1 --rounds 1 --noise-multiplier -1": "noise_multiplier",
    "privacy epsilon --users 100 --cohort 1 --rounds 1 --noise-multiplier nan": "noise_multiplier",
    "privacy epsilon --users 100 --cohort 1 --rounds 1 --noise-multiplier 1e300": "noise_mult",
    "privacy epsilon --users 0 --cohort 0 --rounds 0 --noise-multiplier 1": "users",
    "privacy epsilon --users 100 --cohort 1 --rounds 1 --noise-multiplier 1 --delta 2": "delta",
    "privacy calibrate --users 100 --cohort 1 --rounds 1 --epsilon 0": "epsilon",
    "privacy calibrate --users 100 --cohort 1 --rounds 1 --epsilon 1e300": "epsilon",
    "data show nothing": "There is no data set", "data show own": "--path",
    "data show own --path /nonexistent": "/nonexistent", "data synth --out {run}": "exists",
    "data synth --users -1 --out z": "users", f"data synth --out {LONG}": "too long",
    "data shard --out {run} --nodes 2": "exists", "data shard --out s --nodes 0": "--nodes",
    "keys model=x": "There is no model", "keys x": "not an override",
    "deploy status": "no deployment", "deploy down": "no deployment", "deploy run": "no deployment",
    "deploy up --nodes 0": "--nodes", "deploy up --preset {tiny} --nodes 9999": "30 users",
    "deploy up --preset {tiny} --port 99999": "--port",
    "deploy node {here} --superlink x": "host:port",
    "deploy node {here} --superlink localhost:1": "is not the folder of a node",
    "compare --strategies x": "There is no strategy", "compare --strategies ,": "names none",
    "compare --strategies fedavg,fedavg": "twice", "compare --seeds 0": "--seeds",
    "compare --seeds 1000000000": "--seeds", "compare --jobs -1": "--jobs",
    "compare --strategies fedavg --axis x": "has no values", "reproduce x": "There is no finding",
    "privacy study --epsilons x": "no budget", "privacy study --mechanisms x": "mechanism",
    "study memorization --seeds 0": "--seeds",
}  # fmt: skip
TYPED = [Wrong(arguments, said) for arguments, said in WORDS.items()]


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def _gone(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).unlink()


def _digit(name: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        at = max(i for i, char in enumerate(text) if char in "12345678")
        (run / name).write_text(text[:at] + str(int(text[at]) + 1) + text[at + 1 :])

    return change


RECORD = ["rounds.csv", "clients.csv", "evaluations.csv", "results.csv", "users.csv",
          "exposure.csv", "provenance.json", "vocabulary.txt"]  # fmt: skip
DAMAGE = [
    *((name, how) for name in RECORD for how in (_text(name, ""), _gone(name), _digit(name))),
    *((f"{n}.json", _text(f"{n}.json", t)) for n in ("config", "status", "checksums")
      for t in ("[]", "", "[" * 100_000, '{"seed": "')),
]  # fmt: skip
FOLDERS = [
    Wrong(f"{command} {{run}}", name, damage)
    for number, (name, damage) in enumerate(DAMAGE)
    for command in ("show", ("report", "audit", "suggest", "resume")[number % 4])
]

SURROUNDINGS = [
    Wrong(TRAIN, "cache", environment={"FEDSIM_CACHE": "/dev/null/x"}),
    Wrong(TRAIN, "cache", environment={"FEDSIM_CACHE": "/proc/x"}),
    Wrong(f"{TRAIN} --engine pool", "Too many open files", limits={"RLIMIT_NOFILE": 20}),
    Wrong(TRAIN, "File too large", limits={"RLIMIT_FSIZE": 2_000}),
    Wrong("train data=shakespeare --dry-run", "", environment={"FEDSIM_DATA": "/nonexistent"}),
]

CASES = [*CONFIG, *TYPED, *FOLDERS, *SURROUNDINGS]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """One process that has loaded the libraries."""
    folder = tmp_path_factory.mktemp("commands")
    process = Commands(folder, folder / "cache")
    yield process
    process.close()


def test_there_are_two_hundred() -> None:
    assert len(CASES) >= 200


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: CASES[n].arguments[:60])
def test_a_wrong_input_is_one_sentence_and_loses_nothing(
    number: int, commands: Commands, tiny: str, chat: Path, finished: Run, tmp_path: Path
) -> None:
    case = CASES[number]
    run, here = tmp_path / "a-run", tmp_path / "here"
    here.mkdir()
    if "{run}" in case.arguments:
        shutil.copytree(finished.path, run)
    if case.damage is not None:
        case.damage(run)
    places = {"tiny": tiny, "chat": str(chat), "run": str(run), "here": str(here)}
    words = [word.format(**places) if "{" in word else word for word in case.arguments.split()]
    before = contents(run)
    ended = commands.run(words, here, case.environment, case.limits)
    assert "Traceback" not in ended.err, ended.err
    assert ended.code == MENDABLE, ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, ended.err
    assert lines[0] == ended.err.splitlines()[-1]
    assert case.said in lines[0], lines[0]
    assert not ended.out
    assert contents(run) == before


def contents(folder: Path) -> str:
    """What is in a folder, but for its lock."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != ".lock")
    return json.dumps({str(f): f.read_bytes().hex() for f in files})
