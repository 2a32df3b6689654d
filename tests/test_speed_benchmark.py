"""The speed comparison's pure parts: work orders, networks, operations, medians, processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fedsim.data.vocabulary import BOS, EOS, PAD
from fedsim.models import MODELS, Batch, build, training_loss
from fedsim.parameters import Parameters

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from speed import models, table, work_order  # the path first
from speed.comparison import rotated
from speed.flops import flops_per_token
from speed.install_peers import PEERS, for_older_python
from speed.job import Job, events
from speed.processes import run_process

V = 40
SIZES = {
    "lstm": {"hidden": 6, "embedding": 4},
    "cifg": {"hidden": 6, "embedding": 4},
    "transformer": {
        "embedding": 8,
        "layers": 2,
        "heads": 2,
        "feedforward": 12,
        "max_length": 9,
    },
}


def small_work(family: str) -> work_order.WorkOrder:
    """Three users with 2, 1 and 3 sentences, two rounds of two users."""
    model = build(MODELS[family](**SIZES[family]), V)
    model.initialise(torch.Generator().manual_seed(3))
    about = work_order.About(family, family, SIZES[family], V, 2, 0.5, 10.0, 1, "/corpus")
    return work_order.WorkOrder(
        about,
        tokens=np.arange(4, 18, dtype=np.int32),
        sentences=np.array([0, 3, 4, 6, 8, 9, 14]),
        users=np.array([0, 2, 3, 6]),
        cohorts=np.array([[0, 2], [1, 2]]),
        orders=np.array([1, 0, 2, 0, 1, 0, 0, 1, 2]),
        order_offsets=np.array([0, 2, 5, 6, 9]),
        parameters={name: array.copy() for name, array in Parameters.from_model(model).items()},
    )


def test_a_work_order_reads_as_it_was_written(tmp_path: Path) -> None:
    work = small_work("cifg")
    work.save(tmp_path / "work.npz")
    again = work_order.WorkOrder.load(tmp_path / "work.npz")
    assert again.about == work.about
    assert {n: a.tolist() for n, a in again.parameters.items()} == {
        n: a.tolist() for n, a in work.parameters.items()
    }
    assert again.cohort(2) == [1, 2]
    assert again.order(1, 2).tolist() == [2, 0, 1]
    assert again.order(2, 2).tolist() == [0, 1, 2]
    assert again.n_tokens(1) == (4 + 2) + (3 + 2 + 6)


def test_padded_sentences_begin_with_bos_and_end_with_eos() -> None:
    assert (work_order.PAD, work_order.BOS, work_order.EOS) == (PAD, BOS, EOS)
    inputs, targets = small_work("cifg").padded(0)
    assert inputs.tolist() == [[BOS, 4, 5, 6], [BOS, 7, PAD, PAD]]
    assert targets.tolist() == [[4, 5, 6, EOS], [7, EOS, PAD, PAD]]


@pytest.mark.parametrize("family", SIZES)
def test_a_hand_written_network_has_the_loss_and_the_gradient_of_fedsim(family: str) -> None:
    work = small_work(family)
    bare, ours = models.build(work), build(MODELS[family](**SIZES[family]), V)
    Parameters.from_arrays(work.parameters).load_into(ours)
    inputs, targets = (torch.from_numpy(array) for array in work.padded(2))
    loss = models.sentence_loss(bare(inputs), targets, 10.0)
    expected, _ = training_loss(ours, Batch.of(work.tokens[6:14], np.array([0, 2, 3, 8])))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)

    loss.backward()
    expected.backward()
    with torch.no_grad():
        for parameter in bare.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.grad)
    gradients = models.named_arrays(bare)
    assert gradients.keys() == work.parameters.keys()
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("family", SIZES)
def test_operations_are_those_that_torch_counts(family: str) -> None:
    work = small_work(family)
    n, length = 3, 5
    tokens = torch.randint(4, V, (n, length))
    # nn.LSTM is one operation, which torch does not count: fedsim's definition is a loop.
    model = models.build(work)
    if family == "lstm":
        model = build(MODELS[family](**SIZES[family]), V)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        models.sentence_loss(model(tokens), tokens, 10.0).backward()
    counted = counter.get_total_flops()
    # The state before the first word is a constant, so that nobody asks for its gradient.
    gates = {"lstm": 4 * 6 * 6, "cifg": 3 * 6 * 4, "transformer": 0}[family]
    lengths = np.full(n, length)
    formula = flops_per_token(family, SIZES[family], V, lengths) * n * length
    assert counted == formula - n * 2 * gates


def test_operations_of_the_large_lstm() -> None:
    sizes = {"hidden": 670, "embedding": 96}
    per_token = flops_per_token("lstm", sizes, 10_004, np.array([5]))
    assert per_token == 6 * (4 * 670 * (96 + 670) + 670 * 96 + 96 * 10_004)


def test_the_difference_of_updates_is_relative_to_the_update() -> None:
    start = {"a": np.zeros(2, np.float32), "b": np.full(1, 100.0, np.float32)}
    reference = {"a": np.array([3.0, 0.0], np.float32), "b": np.array([104.0], np.float32)}
    model = {"a": np.array([3.0, 0.5], np.float32), "b": reference["b"]}
    assert work_order.relative_difference(model, reference, start) == pytest.approx(0.1)
    assert work_order.relative_difference(reference, reference, start) == 0.0
    with pytest.raises(ValueError, match="other parameters"):
        work_order.relative_difference({"a": start["a"]}, reference, start)


def rows(seconds: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Of contender -> repetition -> round; 100 tokens in each."""
    told = [
        ("lstm", name, repeat, round, value, 100)
        for name, repeats in seconds.items()
        for repeat, values in enumerate(repeats)
        for round, value in enumerate(values, 1)
    ]
    return pd.DataFrame(told, columns=list(table.ROUNDS))


def test_ratios_are_within_a_repetition_and_the_first_round_is_warm_up() -> None:
    # The machine is ten times slower in the second repetition, in which fluke did not run.
    rounds = rows(
        {
            "fedsim": [[9.0, 1.0, 1.0], [90.0, 10.0, 10.0]],
            "bare": [[1.0, 2.0, 2.0], [10.0, 20.0, 20.0]],
            "fluke": [[7.0, 4.0, 4.0]],
        }
    )
    starts = pd.DataFrame(
        [("lstm", "fedsim", 0, 1.0, 2.0, 5_000_000), ("lstm", "fedsim", 1, 3.0, 4.0, 7_000_000)],
        columns=list(table.STARTS),
    )
    names = ["fedsim", "bare", "fluke"]
    differences = {("lstm", name): 0.0 for name in names} | {("lstm", "pfl"): float("nan")}
    problems = {("lstm", "pfl"): "not installed: run it"}
    out = table.summary(rounds, starts, {"lstm": 5.0}, {"lstm": 100.0}, differences, problems)
    out = out.set_index("contender")
    assert out.speed_of_bare[names].tolist() == [2.0, 1.0, 0.5]
    assert out.fedsim_is_faster[names].tolist() == [1.0, 2.0, 4.0]
    assert out.rounds.to_dict() == {"fedsim": 4, "bare": 4, "fluke": 2, "pfl": 0}
    assert out.tokens_per_second.fluke == 25.0
    assert out.gemm_share.fluke == pytest.approx(1.25)
    assert out.loc["fedsim", ["ready_s", "first_round_s", "memory_bytes"]].tolist() == [2, 3, 7e6]

    text = table.markdown(out.reset_index())
    lines = text.splitlines()
    assert lines[0] == "**lstm**"
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert lines[-1] == "- pfl, 2 threads: not installed: run it"
    assert "nan" not in text


def test_everybody_begins_a_repetition_in_turn() -> None:
    assert [rotated(["a", "b", "c"], by)[0] for by in range(4)] == ["a", "b", "c", "a"]


def test_half_a_line_of_a_report_is_not_read(tmp_path: Path) -> None:
    job = Job(tmp_path, tmp_path / "report", tmp_path, rounds=1)
    assert events(job.report) == []
    job.say("round", 3.0, round=1)
    with job.report.open("a") as file:
        file.write('{"event": "rou')
    assert events(job.report) == [{"event": "round", "at": 3.0, "round": 1}]


@pytest.fixture
def no_new_children() -> Iterator[None]:
    """Whatever the test starts has ended."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.usefixtures("no_new_children")
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_a_process_that_takes_too_long_ends_with_the_orphans_it_made(tmp_path: Path) -> None:
    # A grandchild in a session of its own, whose parent is gone.
    orphan = "setsid sleep 60 & echo $!"
    log = tmp_path / "log"
    done = run_process(["sh", "-c", f"sh -c '{orphan}'; sleep 60"], {}, log, 0.3)
    assert done.code is None
    pid = int(log.read_text())
    assert not psutil.pid_exists(pid)
    assert time.time() - done.started < 10


def test_a_process_gets_nothing_of_the_callers_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import os; print(os.environ.get('OMP_NUM_THREADS'))"]
    done = run_process(command, {"PATH": os.environ["PATH"]}, log, 30)
    assert (done.code, log.read_text()) == (0, "None\n")


def help_of(script: str, cache: Path) -> str:
    """What `--help` of a benchmark prints, in one line."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / script
    environment = {**os.environ, "FEDSIM_CACHE": str(cache), "COLUMNS": "1000"}
    done = subprocess.run(
        [sys.executable, str(path), "--help"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return " ".join(done.stdout.split())


def test_the_help_of_the_comparison_has_its_models_and_defaults(tmp_path: Path) -> None:
    said = help_of("speed", tmp_path)
    options = re.split(r" --(?=[\w-]+ [A-Z_]+ )", said.partition(" options: ")[2])
    assert len(options) == 1 + 8  # --help, and those that take a value
    assert all("(default: " in option for option in options[1:])
    assert "lstm, cifg, lstm-small, transformer-small (default: all)" in said
    assert f"(default: {tmp_path / 'peers'})" in said
    assert "How long it takes: " in said


def test_the_help_of_the_installation_says_what_goes_where_and_how_to_undo_it(
    tmp_path: Path,
) -> None:
    said = help_of("speed/install_peers.py", tmp_path)
    assert f"(default: {tmp_path / 'peers'})" in said
    assert "To remove a peer, delete its folder." in said
    for name, peer in PEERS.items():
        assert f"{name}: {peer.release}, {peer.gigabytes:.1f} GB" in said


def test_type_parameters_are_taken_from_a_source() -> None:
    rewritten = for_older_python("class A[T](B[T]):\n    def f[S](self, x: S) -> S:\n        ...\n")
    assert rewritten.splitlines()[1:3] == ["class A(B[T]):", "    def f(self, x: S) -> S:"]
