"""The native kernel: its arithmetic against autograd, and what happens where it cannot be had."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsim.config import Config, load
from fedsim.data.sequences import offsets_of
from fedsim.errors import FedsimError
from fedsim.models import MODELS, Batch, LanguageModel, build
from fedsim.models.flat import FlatModel, NativeModel, flat_model, resolve_kernel
from fedsim.models.loss import padded_sequence_losses
from fedsim.models.native import build as native_build
from fedsim.models.native import library as native_library
from fedsim.noise import PrivateStep, normal_deviates
from fedsim.seeding import torch_stream
from fedsim.simulation import simulate
from fedsim.updates import RESOLUTION, multiples

CPU = torch.device("cpu")
KINDS = ("cifg", "lstm")


@pytest.fixture
def native() -> None:
    found, reason = resolve_kernel("auto", MODELS["cifg"](), CPU)
    if found != "native":
        pytest.skip(reason)


def make(name: str, words: int, hidden: int, width: int, dropout: float = 0.0) -> LanguageModel:
    model = build(MODELS[name](hidden=hidden, embedding=width, dropout=dropout), words)
    model.initialise(torch.Generator().manual_seed(3))
    return model


def flat_copy(model: LanguageModel, kernel: str) -> FlatModel:
    copy = build(model_options(model), model.vocabulary_size)
    flat = flat_model(copy, CPU, kernel)
    for part, parameter in zip(flat.layout.slices, model.parameters(), strict=True):
        flat.values[part] = parameter.detach().flatten()
    return flat


def model_options(model: LanguageModel) -> object:
    shape = model.native_shape()
    assert shape is not None
    family, _, width, units = shape
    name = KINDS[::-1][family]
    return MODELS[name](hidden=units, embedding=width, dropout=model.dropout.p)


def batch_of(lengths: list[int], words: int) -> Batch:
    tokens = np.random.default_rng(1).integers(3, words, sum(lengths)).astype(np.int32)
    return Batch.of(tokens, offsets_of(np.array(lengths)))


# -- arithmetic -----------------------------------------------------------------------------------


# Around every border inside: 16 columns, 12 rows, 256 words and rows deep, 384 tokens, 512 columns.
@pytest.mark.parametrize(
    ("words", "hidden", "width", "lengths"),
    [
        (7, 1, 1, [0]),
        (17, 3, 5, [2, 0, 4]),
        (256, 16, 16, [3] * 16),
        (257, 31, 33, [19, 18, 18, 7, 1, 0, 0]),
        (600, 129, 24, [11] * 8),
        (300, 270, 100, [4, 3, 9]),
        (70, 20, 12, [1] * 40 + [21] * 20),
    ],
)
@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_is_autograd_s_of_the_definition(
    name: str, words: int, hidden: int, width: int, lengths: list[int], native: None
) -> None:
    model, batch = make(name, words, hidden, width), batch_of(lengths, words)
    flat = flat_copy(model, "native")
    flat.gradients.fill_(2.0**-10)  # it adds
    nats = flat.add_gradient(batch, 0.25)
    logits = model.double()(batch.pad(batch.inputs))
    losses = padded_sequence_losses(logits, batch.pad(batch.targets))
    (0.25 * losses.mean()).backward()
    assert nats == pytest.approx(10 * losses.sum().item(), rel=1e-5)
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    got = flat.gradients.double() - 2.0**-10
    scale = float(expected.abs().max())
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("lengths", [[5, 2, 0, 7], [20] * 30], ids=["few rows", "many rows"])
@pytest.mark.parametrize(
    ("bound", "pull"), [(0.0, 0.0), (0.01, 0.0), (1e9, 0.0), (0.0, 0.7), (0.01, 0.7)]
)
@pytest.mark.parametrize("name", KINDS)
def test_steps_are_those_of_the_torch_kernel_with_its_dropout_masks(
    name: str, bound: float, pull: float, lengths: list[int], native: None
) -> None:
    model = make(name, 90, 20, 12, dropout=0.4)
    changes = []
    for kernel in ("torch", "native"):
        flat = flat_copy(model, kernel)
        flat.model.train()
        flat.model.dropout_generator = torch_stream(1, "dropout", 2, 3)
        start = flat.values.clone()
        for _ in range(3):
            flat.sgd_step(batch_of(lengths, 90), 0.8, bound, pull, start)
        changes.append(flat.values - start)
    assert float(changes[0].norm()) > 1e-3
    torch.testing.assert_close(*changes, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", KINDS)
def test_a_diverged_model_does_not_come_back_as_numbers(
    name: str, bad: float, native: None
) -> None:
    flat = flat_copy(make(name, 90, 20, 12), "native")
    flat.values[3 * 12] = bad  # of the embedding of a word that occurs
    start = flat.values.clone()
    flat.sgd_step(Batch.of(np.array([3, 4], np.int32), np.array([0, 2])), 0.1, 1.0, 0.0, start)
    assert not flat.norm(flat.values - start) < 1e6


@pytest.mark.parametrize("word", [-1, 90])
def test_a_word_that_the_model_does_not_have_is_an_error(word: int, native: None) -> None:
    flat = flat_copy(make("lstm", 90, 20, 12), "native")
    batch = Batch.of(np.array([3, word], np.int32), np.array([0, 2]))
    with pytest.raises(IndexError, match="the model has 90 words"):
        flat.sgd_step(batch, 0.1, 1.0, 0.0, flat.values.clone())


def test_a_damaged_library_is_compiled_again(native: None, afresh: Path) -> None:
    resolve_kernel("auto", MODELS["lstm"](), CPU)
    (built,) = afresh.rglob("kernel.so")
    built.unlink()
    built.write_bytes(b"")
    _forget()
    assert resolve_kernel("auto", MODELS["lstm"](), CPU) == ("native", "")


def test_a_library_without_a_note_of_its_compiler_is_compiled_again(
    native: None, afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_kernel("auto", MODELS["lstm"](), CPU)
    said = native_build.built_with()
    (note,) = afresh.rglob(native_build.BUILT_WITH)
    assert said == note.read_text()
    note.unlink()
    _forget()
    assert resolve_kernel("auto", MODELS["lstm"](), CPU) == ("native", "")
    assert native_build.built_with() == said

    note.unlink()
    _forget()
    monkeypatch.setattr(native_build, "compilers", list)  # it serves where there is none any more
    assert resolve_kernel("auto", MODELS["lstm"](), CPU) == ("native", "")
    assert "an earlier version of fedsim" in native_build.built_with()


def test_a_weighted_update_is_added_exactly_as_defined(native: None) -> None:
    flat = flat_copy(make("lstm", 30, 5, 4), "native")
    update = torch.randn(flat.layout.size, generator=torch.Generator().manual_seed(1))
    update[:3] = torch.tensor([0.0, -1e-11, 2.0**-28])
    total = torch.arange(flat.layout.size, dtype=torch.int64)
    expected = total + multiples(update, 37 / RESOLUTION)
    flat.add_multiples(total, update, 37 / RESOLUTION)
    assert torch.equal(total, expected)
    assert total[1] == 1, "less than one unit is rounded towards zero"
    assert flat.norm(update) == pytest.approx(float(update.double().norm()), rel=1e-12)
    assert 37 / RESOLUTION == 37 * 2**28


@pytest.mark.parametrize("words", [7, 300])  # less than a block of deviates, and several
def test_deviates_are_those_of_numpys_philox(words: int, native: None) -> None:
    flat = flat_copy(make("lstm", words, 3, 4), "native")
    flat.values.zero_()
    key, step = (2**64 - 1, 12345), 2**40 + 3
    none = Batch.of(np.empty(0, np.int32), np.zeros(1, np.int64))
    flat.private_step(none, PrivateStep(1.0, -1.0, 1.0, key, step))
    expected = normal_deviates(flat.layout.size, key, step)
    np.testing.assert_allclose(flat.values.numpy(), expected, rtol=1e-5, atol=2e-5)


# -- compiling ------------------------------------------------------------------------------------


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Nothing is compiled yet, here or in the processes that are started."""
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    quick = ["-O0" if flag == "-O3" else flag for flag in native_build.FLAGS]
    monkeypatch.setattr(native_build, "FLAGS", tuple(quick))  # a tenth of the time
    _forget()
    yield tmp_path / "cache"
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    native_build._found.cache_clear()
    native_library.functions.cache_clear()


def test_without_a_compiler_pytorch_trains_and_the_run_says_so(
    afresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(native_build, "compilers", list)
    run = simulate(load(tiny, ["server.rounds=1"]), tmp_path / "run")
    assert run.config.engine.kernel == "torch"
    assert "PyTorch (no C compiler was found" in run.provenance["kernel"]
    assert "PyTorch (no C compiler was found" in capsys.readouterr().err


def test_what_is_asked_for_is_had_or_refused(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: str
) -> None:
    run = simulate(load(tiny, ["server.rounds=1", "engine.kernel=torch"]), tmp_path / "a", True)
    assert run.provenance["kernel"] == "PyTorch (engine.kernel = 'torch')"
    monkeypatch.setattr(native_build, "compilers", list)
    with pytest.raises(FedsimError, match=r"no C compiler.*begin a run with engine\.kernel=torch"):
        simulate(load(tiny, ["engine.kernel=native"]), tmp_path / "b", True)
    assert not (tmp_path / "b").exists()
    options = MODELS["transformer-small"]()
    assert resolve_kernel("auto", options, CPU) == ("torch", "it has no such model")
    with pytest.raises(FedsimError, match="no such model"):
        resolve_kernel("native", options, CPU)
    with pytest.raises(FedsimError, match="does not run on meta"):
        resolve_kernel("native", MODELS["lstm"](), torch.device("meta"))


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo error: no such option >&2; exit 1",
        'for last; do :; done; while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"',
    ],
    ids=["fails", "says why", "writes nonsense"],
)
def test_a_compiler_that_does_not_work_is_no_compiler(
    script: str, afresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(native_build, "compilers", lambda: [[str(compiler)]])
    kernel, reason = resolve_kernel("auto", MODELS["lstm"](), CPU)
    assert kernel == "torch"
    assert "failed" in reason
    assert not list(afresh.rglob("*.so")), "nothing half-made is left"


def test_a_library_that_crashes_is_never_loaded(
    native: None, afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one for another processor would: it is tried out in a process of its own."""
    crash = native_build.SOURCE.replace("int self_test(void) {", "int self_test(void) { abort();")
    monkeypatch.setattr(native_build, "SOURCE", crash)
    first, *_ = native_build.compilers()
    monkeypatch.setattr(native_build, "compilers", lambda: [first])
    monkeypatch.setattr(native_build, "FOR_THIS_PROCESSOR", ("",))
    kernel, reason = resolve_kernel("auto", MODELS["lstm"](), CPU)
    assert (kernel, "failed" in reason) == ("torch", True)


def test_the_library_is_compiled_once(
    native: None, afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_kernel("auto", MODELS["lstm"](), CPU) == ("native", "")
    (built,) = afresh.rglob("kernel.so")
    assert ctypes.CDLL(str(built)).self_test() == 0
    _forget()
    monkeypatch.setattr(native_build, "_compile", lambda path: pytest.fail("compiled again"))
    assert resolve_kernel("auto", MODELS["lstm"](), CPU) == ("native", "")


def test_a_cache_that_cannot_be_written_is_a_reason(
    afresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "file"))
    kernel, reason = resolve_kernel("auto", MODELS["lstm"](), CPU)
    assert (kernel, bool(reason)) == ("torch", True)


# -- runs -----------------------------------------------------------------------------------------


def test_the_kernel_is_part_of_what_a_run_is(native: None, config: Config, tiny: str) -> None:
    torch_run = load(tiny, ["engine.kernel=torch"])
    assert torch_run.identity() != config.identity()
    assert load(tiny, ["engine.kernel=native"]).identity() == config.identity()


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["native", "torch"])
def test_bits_do_not_depend_on_the_workers(
    kernel: str, native: None, tiny: str, tmp_path: Path
) -> None:
    digests = set()
    for engine in (["engine=local"], ["engine=pool", "engine.workers=1"],
                   ["engine=pool", "engine.workers=3", "engine.chunk=1"]):  # fmt: skip
        chosen = load(tiny, ["server.rounds=2", f"engine.kernel={kernel}", *engine])
        digests.add(simulate(chosen, tmp_path / str(len(digests)) / engine[-1], True).digest)
    assert len(digests) == 1


def test_nobody_shares_a_trainer(native: None) -> None:
    """Two models with one kernel keep to themselves what they remember between steps."""
    models = [make("lstm", 90, 20, 12) for _ in range(2)]
    flats = [flat_copy(m, "native") for m in models]
    assert all(isinstance(f, NativeModel) for f in flats)
    batch, other = batch_of([4, 4], 90), batch_of([9, 1, 3], 90)
    starts = [f.values.clone() for f in flats]
    flats[1].sgd_step(other, 0.3, 0.1, 0.0, starts[1])
    flats[0].sgd_step(batch, 0.3, 0.1, 0.0, starts[0])
    flats[1].values.copy_(starts[1])
    flats[1].sgd_step(batch, 0.3, 0.1, 0.0, starts[1])
    assert torch.equal(flats[0].values, flats[1].values)
