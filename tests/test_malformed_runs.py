"""Malformed configs, run folders, checkpoints and models: one sentence each, nothing accepted."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save

from clients import app as client_app
from fedsim.checkpoints import load_arrays, save_arrays
from fedsim.cli.main import main
from fedsim.cli.show import summary
from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.files import write_atomically
from fedsim.report.page import render
from fedsim.runs import Run
from fedsim.simulation import resume, simulate


def refused(act: Callable[[], object], *said: str) -> None:
    """`act` raises FedsimError: one sentence that holds every part of `said`."""
    with pytest.raises(FedsimError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    for part in said:
        assert part in text
    assert len(text) < 600


# -- presets and overrides ------------------------------------------------------------------------

PRESETS: dict[str, tuple[str | bytes, str]] = {
    "no TOML": ("[client\nlr = 1", "is not valid TOML"),
    "no value": ("seed =", "is not valid TOML"),
    "a key twice": ("seed = 1\nseed = 2", "is not valid TOML"),
    "a section twice": ("[client]\nlr = 1.0\n[client]\nlr = 2.0", "is not valid TOML"),
    "JSON": ('{"seed": 1}', "is not valid TOML"),
    "Latin-1": ("# Größe\nseed = 1".encode("latin-1"), "is not valid TOML"),
    "UTF-16": ("seed = 1".encode("utf-16"), "is not valid TOML"),
    "NUL bytes": (b"seed = 1\x00", "is not valid TOML"),
    "brackets without end": ("seed = " + "[" * 20_000, "is not valid TOML"),
    "tables without end": ("client.lr" + ".a" * 2_000 + " = 1", "client"),
    "digits without end": ("seed = " + "9" * 5_000, "is not valid TOML"),
    "an unknown section": ("[clinet]\nlr = 1.0", "Unknown config section 'clinet'"),
    "an unknown key": ("[client]\nlearning = 1.0", "Unknown key 'client.learning'"),
    "a section that is a number": ("client = 3", "client = 3"),
    "a section that is a list": ("[[client]]\nlr = 1.0", "client = "),
    "a name that is a number": ("model = 3", "model = 3"),
    "a name that is a table": ("[model]\nname = {x = 1}", "model = "),
    "a seed that is text": ('seed = "one"', "seed = 'one'"),
    "a seed that is true": ("seed = true", "seed = True"),
    "a rate that is text": ('[client]\nlr = "1.0"', "client.lr = '1.0'"),
    "a rate that is infinite": ("[client]\nlr = inf", "client.lr = inf"),
    "a rate that is no number": ("[client]\nlr = nan", "client.lr = nan"),
    "a rate below zero": ("[client]\nlr = -1.0", "client.lr = -1.0"),
    "a count that is true": ("[server]\nrounds = true", "server.rounds = True"),
    "a count with a fraction": ("[server]\nrounds = 2.5", "server.rounds = 2.5"),
    "no rounds": ("[server]\nrounds = 0", "server.rounds = 0"),
    "nobody a round": ("[server]\ncohort = 0", "server.cohort = 0"),
    "fewer than no retries": ("[server]\nretries = -1", "server.retries = -1"),
    "no time": ("[server]\ntimeout_s = 0.0", "server.timeout_s = 0.0"),
    "a policy of its own": ('[server]\non_failure = "hope"', "server.on_failure = 'hope'"),
    "a sampler of its own": ('[server]\nsampler = "luck"', "There is no sampler 'luck'"),
    "a date for a name": ("[model]\nname = 2026-11-22", "model = "),
    "canaries of nobody": ("[canaries]\nusers = [0]", "canaries.users"),
    "a list for a number": ("[canaries]\nper_cell = [1]", "canaries.per_cell = [1]"),
    "an engine of its own": ('engine = "steam"', "engine.name = 'steam'"),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_malformed_preset_is_one_sentence(name: str, tmp_path: Path) -> None:
    text, said = PRESETS[name]
    file = tmp_path / "mine.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lambda: load(str(file)), said)


OVERRIDES = {
    "": "is not an override",
    "=": "is not an override",
    "=1": "is not an override",
    "client": "is not an override",
    "fedadam": "without a space after its commas",  # the rest of --strategies fedavg, fedadam
    "client.lr.x=1": "Unknown key 'client.lr.x'",
    "client..lr=1": "Unknown key 'client..lr'",
    "client.=1": "Unknown key 'client.'",
    ".lr=1": "Unknown config section ''",
    "client.lr=": "client.lr = ''",
    "client.lr=1\nserver.rounds=2": "client.lr = ",
    "client.lr=" + "[" * 20_000: "client.lr = ",
    "server.rounds=" + "9" * 5_000: "server.rounds",
    "data.path=a\0b": "data.path = 'a\\x00b'",
    "seed=1e3": "seed = 1000.0",
}


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: repr(text)[:30])
def test_a_malformed_override_is_one_sentence(override: str, tiny: str) -> None:
    refused(lambda: load(tiny, [override]), OVERRIDES[override])


# -- run folders ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rounds that stopped after its third, with checkpoints of rounds 2 and 3."""
    folder = tmp_path_factory.mktemp("malformed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        real = client_app.train_chunk
        calls = iter(range(13))

        def stop(*arguments: Any) -> Any:
            if next(calls) == 12:  # four chunks a round: the first of the fourth
                raise KeyboardInterrupt
            return real(*arguments)

        patch.setattr(client_app, "train_chunk", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(config, folder, quiet=True)
    assert [f.stem[-1] for f in sorted((folder / "checkpoints").iterdir())] == ["2", "3"]
    return folder


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Run:
    """A copy of it to damage."""
    return Run(shutil.copytree(interrupted, tmp_path / "run"))


def edit(name: str, **changes: Any) -> Callable[[Run], None]:
    """Put values into a JSON file of the run; None takes the key away."""

    def act(run: Run) -> None:
        tree = json.loads((run.path / name).read_text()) | changes
        tree = {key: value for key, value in tree.items() if value is not None}
        (run.path / name).write_text(json.dumps(tree))

    return act


def write(name: str, data: str | bytes) -> Callable[[Run], None]:
    """Put something else in the place of a file of the run."""

    def act(run: Run) -> None:
        (run.path / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return act


def remove(name: str) -> Callable[[Run], None]:
    """Take a file of the run away."""
    return lambda run: (run.path / name).unlink()


def make_folder(name: str) -> Callable[[Run], None]:
    """A folder where a file should be."""

    def act(run: Run) -> None:
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).mkdir()

    return act


def cut(name: str, size: int) -> Callable[[Run], None]:
    """Keep the first bytes of a file."""
    return lambda run: write(name, (run.path / name).read_bytes()[:size])(run)


DEEP = '{"a":' * 20_000 + "1" + "}" * 20_000

FOLDERS: dict[str, tuple[Callable[[Run], None], str]] = {
    "no config": (remove("config.json"), "it has no config.json"),
    "no status": (remove("status.json"), "it has no status.json"),
    "no provenance": (remove("provenance.json"), "it has no provenance.json"),
    "an empty config": (write("config.json", ""), "config.json is not valid JSON"),
    "half a config": (cut("config.json", 300), "config.json is not valid JSON"),
    "a config in Latin-1": (write("config.json", b'{"seed": "\xfc"}'), "config.json is not valid"),
    "a config that is a list": (write("config.json", "[1]"), "config.json should hold a JSON obj"),
    "a config without end": (write("config.json", DEEP), "config.json is not valid JSON"),
    "a seed without end": (write("config.json", '{"seed": ' + "9" * 5000 + "}"), "config.json is"),
    "a config that is a pickle": (write("config.json", pickle.dumps({"seed": 1})), "config.json"),
    "a config that is a folder": (make_folder("config.json"), "it has no config.json"),
    "another section": (edit("config.json", clients={}), "Unknown config section 'clients'"),
    "another model": (edit("config.json", model="gpt"), "There is no model 'gpt'"),
    "a text for a section": (edit("config.json", client="fast"), "client = 'fast'"),
    "a null for a section": (edit("config.json", client=[None]), "client = [None]"),
    "another seed": (edit("config.json", seed=2), "config.json was changed"),
    "another rate": (edit("config.json", client={"lr": 0.5}), "config.json was changed"),
    "a text for the seed": (edit("config.json", seed="1"), "seed = '1'"),
    "an empty status": (write("status.json", ""), "status.json is not valid JSON"),
    "a status that is a number": (write("status.json", "3"), "status.json should hold"),
    "no state": (edit("status.json", state=None), "status.json does not say how far"),
    "an unknown state": (edit("status.json", state="asleep"), "status.json does not say how far"),
    "no round": (edit("status.json", round=None), "status.json does not say how far"),
    "a round that is text": (edit("status.json", round="3"), "status.json does not say how far"),
    "a round that is true": (edit("status.json", round=True), "status.json does not say how far"),
    "a round below zero": (edit("status.json", round=-1), "status.json does not say how far"),
    "a finished one": (edit("status.json", state="finished"), "is finished"),
    "half a provenance": (cut("provenance.json", 100), "provenance.json is not valid JSON"),
    "no corpus": (edit("provenance.json", corpus=None), "provenance.json does not say of which"),
    "a corpus by name": (edit("provenance.json", corpus="x"), "provenance.json does not say of w"),
    "another corpus": (edit("provenance.json", corpus={"digest": "0"}), "was changed after"),
    "no table": (remove("rounds.csv"), "rounds.csv is missing or shorter"),
    "half a table": (cut("clients.csv", 200), "clients.csv is missing or shorter"),
    "a table that is a folder": (make_folder("rounds.csv"), "rounds.csv is missing or shorter"),
    "a lock that is a folder": (make_folder(".lock"), ".lock: Is a directory"),
    "no checkpoints": (lambda run: shutil.rmtree(run.path / "checkpoints"), "no checkpoint"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_malformed_run_folder_is_not_resumed(name: str, run: Run) -> None:
    """A folder of an earlier version, which has no checksums."""
    damage, said = FOLDERS[name]
    (run.path / "checksums.json").unlink()
    damage(run)
    checkpoints = sorted((run.path / "checkpoints").glob("*"))
    refused(lambda: resume(run.path, quiet=True), said)
    assert sorted((run.path / "checkpoints").glob("*")) == checkpoints


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run the command line: its exit code and what it said."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fedsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def assert_every_command_refuses(command: Callable, run: Run, *said: str) -> None:
    """`run` is opened by none of them: one sentence, exit code 2, nothing printed or written."""
    before = sorted(run.path.rglob("*"))
    for arguments in (
        ("show", run.path),
        ("show", run.path, "--json"),
        ("report", run.path),
        ("audit", run.path),
        ("suggest", run.path, "w1"),
        ("privacy", "statement", run.path),
        ("resume", run.path),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert str(run.path) in err
        assert any(part in err for part in said), err
    assert sorted(run.path.rglob("*")) == before


# What only a resumed run looks at.
OF_A_RESUME = ("a finished one", "no checkpoints", "a lock that is a folder")


@pytest.mark.parametrize("name", [name for name in FOLDERS if name not in OF_A_RESUME])
def test_no_command_opens_a_malformed_run_folder(name: str, run: Run, command: Callable) -> None:
    damage, said = FOLDERS[name]
    damage(run)
    assert_every_command_refuses(command, run, said, "was changed after the run wrote it")


def change(name: str) -> Callable[[Run], None]:
    """Another digit at the end of a file: nothing about its form is wrong."""

    def act(run: Run) -> None:
        text = (run.path / name).read_text()
        at = max(place for place, char in enumerate(text) if char in "12345678")
        write(name, text[:at] + str(int(text[at]) + 1) + text[at + 1 :])(run)

    return act


def add_a_row(name: str) -> Callable[[Run], None]:
    """The last row once more."""

    def act(run: Run) -> None:
        text = (run.path / name).read_text()
        write(name, text + text.splitlines()[-1] + "\n")(run)

    return act


RECORD = [*(f"{name}.csv" for name in ("rounds", "clients", "evaluations", "results", "users",
          "exposure")), "provenance.json", "vocabulary.txt"]  # fmt: skip
ALTERED: dict[str, Callable[[Run], None]] = {
    **{f"{name} emptied": write(name, "") for name in RECORD},
    **{f"{name} removed": remove(name) for name in RECORD},
    **{f"{name} cut": cut(name, 100) for name in RECORD},
    **{f"{name} changed": change(name) for name in RECORD},
    **{f"{name} longer": add_a_row(name) for name in RECORD if name.endswith(".csv")},
    "model.safetensors removed": remove("model.safetensors"),
    "model.safetensors cut": cut("model.safetensors", 100),
    "config.json = []": write("config.json", "[]"),
    "config.json of brackets": write("config.json", "[" * 100_000),
    "config.json changed": edit("config.json", seed=7),
    "status.json = []": write("status.json", "[]"),
    "checksums.json = []": write("checksums.json", "[]"),
    "checksums.json cut": cut("checksums.json", 100),
}


@pytest.mark.parametrize("name", ALTERED)
def test_no_command_opens_a_run_that_was_altered(
    name: str, finished: Run, tmp_path: Path, command: Callable
) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    ALTERED[name](run)
    assert_every_command_refuses(command, run, name.split(" ")[0])


@pytest.mark.parametrize("table", ["results", "rounds"])
def test_an_emptied_table_of_an_earlier_versions_folder_is_noticed(
    table: str, finished: Run, tmp_path: Path, command: Callable
) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    remove("checksums.json")(run)
    Run.open(run.path)
    write(f"{table}.csv", (run.path / f"{table}.csv").read_text().splitlines()[0] + "\n")(run)
    said = {"results": "results.csv is damaged", "rounds": "rounds.csv is damaged"}[table]
    assert_every_command_refuses(command, run, said)


def test_a_config_may_be_told_where_the_text_lies_now(finished: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    tree = json.loads((run.path / "config.json").read_text())
    tree["data"]["path"], tree["engine"]["workers"] = str(tmp_path / "moved.csv"), 7
    write("config.json", json.dumps(tree))(run)
    assert Run.open(run.path).config.engine.workers == 7


def test_an_audit_that_was_kept_is_checked_too(
    finished: Run, tmp_path: Path, command: Callable
) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    row = {"round": 4, "measure": "canaries", "threat": "x", "quantity": "q", "group": "",
           "estimate": 1.5, "n": 1, "low": 1.0, "high": 2.0, "interval": "", "control": 0.5,
           "note": ""}  # fmt: skip
    for estimate in (1.5, 2.5):
        rows = pd.DataFrame([{**row, "estimate": estimate}])
        Run.open(run.path).replace("leakage", rows, ["round", "measure"])
        Run.open(run.path).save_detail("canaries", "exact", rows)
        assert Run.open(run.path).table("leakage").estimate.tolist() == [estimate]
    kept = run.path / "leakage.csv"
    kept.write_text(kept.read_text().replace("2.5", "0.5"))
    assert_every_command_refuses(command, run, "leakage.csv was changed after")
    Run(run.path).replace("leakage", rows, ["round", "measure"])
    Run.open(run.path)
    write("audit/canaries.exact.parquet", b"PAR1")(run)
    again = f"audit {run.path} --measures canaries`."
    refused(lambda: Run.open(run.path).detail("canaries", "exact"), "was changed after", again)
    remove("checksums.json")(run)
    refused(lambda: Run.open(run.path).detail("canaries", "exact"), "is damaged", again)
    remove("audit/canaries.exact.parquet")(run)
    assert Run.open(run.path).detail("canaries", "exact") is None


def test_a_run_may_be_killed_between_a_file_and_its_checksum(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in range(1, 4):  # the checksums of both, the file, the checksum of the new one
        run = Run(shutil.copytree(finished.path, tmp_path / f"run-{moment}"))
        with monkeypatch.context() as patch:
            writes = iter(range(moment))

            def killed(path: Path, data: bytes, writes: Iterator[int] = writes) -> None:
                if next(writes, None) is None:
                    raise KeyboardInterrupt
                write_atomically(path, data)

            patch.setattr("fedsim.checksums.write_atomically", killed)
            patch.setattr("fedsim.runs.write_atomically", killed)
            with suppress(KeyboardInterrupt):
                run.save_statement({"epsilon": 1.0}, "text")
        Run.open(run.path)


TABLES: dict[str, bytes] = {
    "other columns": b"round,loss\n1,2.0\n",
    "a column less": b"round,user\n1,2\n",
    "a cell more": b"round,user,reason\n1,2,x\n1,2,x,y\n",
    "a word for a number": b"round,user,reason\none,2,x\n",
    "a fraction for a number": b"round,user,reason\n1.5,2,x\n",
    "an empty cell": b"round,user,reason\n,2,x\n",
    "a number too large": b"round,user,reason\n99999999999999999999,2,x\n",
    "Latin-1": b"round,user,reason\n1,2,\xfc\n",
    "NUL bytes": b"round,user\x00,reason\n1,2,x\n",
    "a safetensors file": save({"w": np.zeros(3, np.float32)}) + b"\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_malformed_table_is_neither_shown_nor_reported(name: str, run: Run) -> None:
    (run.path / "failures.csv").write_bytes(TABLES[name])
    refused(lambda: run.table("failures"), "failures.csv is damaged")
    refused(lambda: render(run), "failures.csv is damaged")


# -- checkpoints ----------------------------------------------------------------------------------


class Exploit:
    """Unpickling it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def resigned(**changes: Any) -> Callable[[Path], None]:
    """The checkpoint with other arrays or words of itself, and a checksum that fits them."""

    def act(file: Path) -> None:
        arrays, meta = load_arrays(file)
        for name, value in changes.items():
            target = arrays if name in arrays or isinstance(value, np.ndarray) else meta
            if value is None:
                del target[name]
            else:
                target[name] = value
        save_arrays(file, arrays, meta)

    return act


def bytes_of(data: bytes) -> Callable[[Path], None]:
    """Other bytes in the place of the checkpoint."""
    return lambda file: file.write_bytes(data) and None


def header(tree: Any) -> bytes:
    """A safetensors file of a header only."""
    text = json.dumps(tree).encode()
    return struct.pack("<Q", len(text)) + text


W = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

# What a damaged or foreign checkpoint is: noticed, and the one before it is used instead.
CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "empty": bytes_of(b""),
    "seven bytes": bytes_of(b"1234567"),
    "zeros": bytes_of(bytes(4096)),
    "text": bytes_of(b"Lorem ipsum dolor sit amet"),
    "a header of 2^63 bytes": bytes_of(struct.pack("<Q", 2**63) + b"{}"),
    "a header of 2^40 bytes": bytes_of(struct.pack("<Q", 2**40) + b"{}"),
    "a header that is no JSON": bytes_of(struct.pack("<Q", 4) + b"{{{{"),
    "a header that is a list": bytes_of(header([1, 2])),
    "a header without end": bytes_of(struct.pack("<Q", len(DEEP)) + DEEP.encode()),
    "a tensor of 2^60 numbers": bytes_of(header({"w": {**W, "shape": [2**60]}}) + b"1234"),
    "a tensor beyond the end": bytes_of(header({"w": {**W, "data_offsets": [0, 400]}})),
    "a type that is none": bytes_of(header({"w": {**W, "dtype": "F31"}}) + b"1234"),
    "a foreign file": bytes_of(save({"w": np.zeros(3, np.float32)})),
    "a foreign file in bfloat16": bytes_of(
        header({"w": {**W, "dtype": "BF16", "data_offsets": [0, 2]}}) + b"12"
    ),
    "a foreign file in 8 bits": bytes_of(
        header({"w": {**W, "dtype": "F8_E4M3", "data_offsets": [0, 1]}}) + b"1"
    ),
    "a wrong checksum": bytes_of(
        save({"w": np.zeros(3, np.float32)}, {"meta": "{}", "sha256": "0" * 64})
    ),
    "a NumPy file": lambda file: np.save(file.open("wb"), np.zeros(3)),
    "no round": resigned(round=None),
    "another round than its name": resigned(round=7),
    "a round that is text": resigned(round="3"),
    "no identity": resigned(identity=None),
    "an identity that is a number": resigned(identity=3),
    "no tables": resigned(tables=None),
    "tables that are a list": resigned(tables=[1]),
    "a length that is text": resigned(tables={"rounds": "12"}),
    "a length below zero": resigned(tables={"rounds": -5}),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_malformed_checkpoint_gives_way_to_the_one_before(
    name: str, run: Run, finished: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    _, newest = sorted((run.path / "checkpoints").iterdir())
    CHECKPOINTS[name](newest)
    round, _, problems = run.rewind()
    assert round == 2
    (problem,) = problems
    assert f"{newest} is damaged" in problem
    assert "\n" not in problem


# Whole ones that do not fit the run: nothing may be trained on them.
UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "another run": (resigned(identity="0" * 64), "config.json was changed"),
    "more rows than there are": (resigned(tables={"rounds": 10**12}), "missing or shorter"),
    "no participations": (resigned(participations=None), "'participations' is missing"),
    "too few users": (resigned(participations=np.zeros(2, np.int32)), "'participations' should be"),
    "fractions of rounds": (resigned(participations=np.zeros(29)), "'participations' should be"),
    "an average that is none": (resigned(average=np.zeros(3, np.float32)), "'average' belongs to"),
    "velocity without momentum": (
        resigned(**{"optimizer/velocity": np.zeros(3, np.float32)}),
        "'optimizer/velocity' belongs to another run",
    ),
    "a parameter more": (
        resigned(**{"parameters/w": np.zeros(3, np.float32)}),
        "'parameters/w' belongs to another run",
    ),
    "a parameter less": (resigned(**{"parameters/input.bias": None}), "is missing"),
    "a parameter of another shape": (
        resigned(**{"parameters/input.bias": np.zeros((2, 2), np.float32)}),
        "'parameters/input.bias' should be float32[",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_checkpoint_of_something_else_is_refused(name: str, run: Run) -> None:
    damage, said = UNFIT[name]
    _, newest = sorted((run.path / "checkpoints").iterdir())
    damage(newest)
    refused(lambda: resume(run.path, quiet=True), said)
    assert run.status["state"] == "failed"


@pytest.mark.parametrize("dump", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_nothing_is_ever_unpickled(dump: Callable[..., None], run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    for file in (*(run.path / "checkpoints").iterdir(), run.path / "model.safetensors"):
        with file.open("wb") as out:
            dump(Exploit(trace), out)
    edit("status.json", digest="0")(run)
    write("vocabulary.txt", "a\nb")(run)
    refused(lambda: resume(run.path, quiet=True), "is damaged")
    edit("status.json", digest="0")(run)
    refused(run.model, "model.safetensors is damaged")
    assert not trace.exists()


# -- models ---------------------------------------------------------------------------------------

MODELS: dict[str, tuple[Callable[[Run], None], str]] = {
    "no model": (remove("model.safetensors"), "model.safetensors is missing; restore it"),
    "half a model": (cut("model.safetensors", 3000), "model.safetensors is damaged"),
    "a foreign model": (
        write("model.safetensors", save({"w": np.zeros(3, np.float32)})),
        "model.safetensors is damaged",
    ),
    "no words": (remove("vocabulary.txt"), "vocabulary.txt: No such file"),
    "words in Latin-1": (write("vocabulary.txt", b"\xfc"), "vocabulary.txt: it is no UTF-8"),
    "words of another run": (write("vocabulary.txt", "a\nb"), "is not the vocabulary of"),
    "another digest": (edit("status.json", digest="0" * 64), "is not the model"),
    "another width": (
        edit("config.json", model={"name": "cifg-small", "hidden": 13, "embedding": 8}),
        "is not the model",
    ),
    "another layer": (edit("config.json", model={"name": "transformer"}), "is not the model"),
    "other numbers": (
        lambda run: resigned(**{"input.bias": np.zeros(36, np.float32)})(
            run.path / "model.safetensors"
        ),
        "is not the model",
    ),
    "a tensor less": (
        lambda run: resigned(**{"input.bias": None})(run.path / "model.safetensors"),
        "is not the model",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_malformed_model_is_not_loaded(name: str, finished: Run, tmp_path: Path) -> None:
    damage, said = MODELS[name]
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    run.model()
    damage(run)
    refused(Run(run.path).model, said)


def test_a_malformed_table_of_results_is_not_shown(finished: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished.path, tmp_path / "run"))
    write("results.csv", "model,users\nfedavg,4\n")(run)
    refused(lambda: summary(run), "results.csv is damaged")
