"""A first corpus: encoded, trained on once, measured at every evaluation, resumed to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import assert_same_record, write_chat
from test_runs import interrupted_run

import server.pretraining
from clients import app as client_app
from fedsim.cli.train import pretrain_key
from fedsim.config import Config, from_dict, load
from fedsim.data.options import DataOptions, PretrainOptions
from fedsim.data.sequences import Sequences
from fedsim.data.vocabulary import UNK, Vocabulary
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage.decoding import greedy_completions
from fedsim.leakage.first_corpus import encoded
from fedsim.leakage.forgetting import PREFIXES, SUFFIX, drawn, read
from fedsim.leakage.intervals import wilson
from fedsim.models import CifgOptions, build
from fedsim.models.batch import BOS, N_SPECIALS, Batch
from fedsim.models.flat import FlatModel
from fedsim.runs import Run
from fedsim.seeding import stream, torch_stream
from fedsim.simulation import resume, simulate
from fedsim.tables import FIRST_CORPUS
from server.pretraining import first_corpus


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a run that is pretrained on another chat in the same language."""
    chat = write_chat(tmp_path_factory.mktemp("first") / "first.csv", people=14, seed=8)
    return [f"pretrain.path={chat}", "pretrain.min_words=10", "pretrain.epochs=12",
            "pretrain.batch_size=8", "pretrain.lr=0.02", "pretrain.canaries=3",
            "pretrain.repeats=20"]  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(tiny: str, keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nobody disturbed."""
    return simulate(load(tiny, keys), tmp_path_factory.mktemp("pretrained") / "run", quiet=True)


# -- the text -------------------------------------------------------------------------------------


def test_words_are_carried_over_by_spelling() -> None:
    own, other = Vocabulary(["tea", "milk", "now"]), Vocabulary(["now", "no", "tea"])
    text = Sequences(own.encode(["tea", "milk", "now", "zzz"]), np.array([0, 1, 4]))
    said = [other.decode(sentence) for sentence in encoded(text, own, other)]
    assert said == ["tea", "<unk> now <unk>"]


def test_trained_and_held_out_sentences_are_of_different_people(tiny: str, keys: list[str]) -> None:
    config = load(tiny, keys)
    first = first_corpus(config, open_federation(config))
    assert first is not None
    other = open_federation(load(tiny, [keys[0].replace("pretrain", "data")])).corpus
    people = [other.split(part) for part in ("train", "validation", "donors", "test")]
    trained = sum(other.sentence_count(u) for u in people[0])
    others = sum(other.sentence_count(u, "all") for part in people[1:] for u in part)
    assert (len(first.text), len(first.held_out)) == (trained, others)
    assert len(first.training_text) == trained + 3 * 20
    assert first.unknown == np.mean(first.text.tokens == UNK) < 0.1


def test_another_language_is_refused(tiny: str, tmp_path: Path) -> None:
    text = (write_chat(tmp_path / "a.csv", people=14)).read_text().replace("w", "q")
    (tmp_path / "b.csv").write_text(text)
    config = load(tiny, [f"pretrain.path={tmp_path / 'b.csv'}", "pretrain.min_words=10"])
    with pytest.raises(FedsimError, match="100% of the words of the first corpus 'own'"):
        simulate(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


# -- what is measured -----------------------------------------------------------------------------


def test_the_first_corpus_is_cut_as_the_runs_own() -> None:
    own = DataOptions(case="keep", numbers="keep", segment="spaces", max_words=7)
    first = PretrainOptions(path="first.csv", min_words=3).like(own)
    assert (first.text, first.segment) == (own.text, "spaces")
    assert (first.path, first.min_words, first.max_words) == ("first.csv", 3, 30)


def test_sentences_are_drawn_once_and_hold_no_unknown_word() -> None:
    rng = stream(0, "sentences")
    lengths = rng.integers(1, 9, size=300)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    text = Sequences(rng.integers(UNK, 20, size=offsets[-1], dtype=np.int32), offsets)
    eligible = {tuple(s) for s in text if len(s) >= PREFIXES[0] + SUFFIX and min(s) >= N_SPECIALS}
    chosen = [tuple(s) for s in drawn(text, 20, stream(1, "x"))]
    assert len(chosen) == 20
    assert set(chosen) <= eligible
    assert {tuple(s) for s in drawn(text, 1000, stream(1, "x"))} == eligible


def test_one_pass_finds_what_greedy_decoding_finds() -> None:
    """Half of the sentences are learnt by heart."""
    model = build(CifgOptions(hidden=24, embedding=16), 40)
    flat = FlatModel(model, torch.device("cpu"))
    model.initialise(torch_stream(0, "by heart"))
    tokens = stream(0, "sentences").integers(N_SPECIALS, 40, size=60, dtype=np.int32)
    sentences = Sequences(tokens, np.arange(11) * 6)
    for _ in range(150):
        half = Batch.of(sentences.tokens, sentences.offsets, range(5))
        flat.sgd_step(half, 1.0, 1.0, 0.0, flat.values)
    needed, nats = read(model, sentences)
    assert 0 < np.mean(needed <= 2) < 1
    for sentence, least, total in zip(sentences, needed, nats, strict=True):
        for prefix in range(1, len(sentence)):
            rest = greedy_completions(model, sentence[None, :prefix], len(sentence) - prefix)
            assert (rest[0].tolist() == sentence[prefix:].tolist()) == (least <= prefix)
        state, ours = None, 0.0
        for before, word in zip([BOS, *sentence[:-1]], sentence, strict=True):
            logits, state = model.step(torch.tensor([int(before)]), state)
            ours -= float(torch.log_softmax(logits.double(), 1)[0, int(word)])
        assert total == pytest.approx(ours, rel=1e-4)


def test_the_table_says_what_pretraining_left_at_every_evaluation(pretrained: Run) -> None:
    table = pretrained.table("first_corpus")
    assert list(table.columns) == list(FIRST_CORPUS)
    assert sorted(set(table["round"])) == [0, 2, 4]
    rates = table[table.quantity == "extractable"]
    for row in rates.itertuples():
        assert (row.low, row.high) == pytest.approx(wilson(round(row.estimate * row.n), row.n))
    start = table[table["round"] == 0].set_index(["text", "quantity"]).estimate
    assert start["trained", "exposure_bits"] > 8, "20 copies of 12 epochs"
    assert start["held_out", "exposure_bits"] < 2.2
    assert start["trained", "nats_per_word"] < start["held_out", "nats_per_word"]


def test_the_control_is_the_run_without_pretraining(
    tiny: str, keys: list[str], finished: Run, tmp_path: Path
) -> None:
    control = simulate(load(tiny, [*keys, "pretrain.epochs=0"]), tmp_path / "run", quiet=True)
    assert_same_record(control, finished, skip=["first_corpus"])
    start = control.table("first_corpus")
    start = start[start["round"] == 0].set_index(["text", "quantity"]).estimate
    assert start["trained", "exposure_bits"] < 5, "three canaries that nobody trained on"
    assert finished.table("first_corpus").empty


# -- the run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_run_cut_off_after_pretraining_resumes_without_it(
    at: int, pretrained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted_run(
        monkeypatch, pretrained.config, tmp_path / "run", client_app, "train_chunk", at
    )
    monkeypatch.setattr(server.pretraining, "train_centrally", None)
    assert_same_record(resume(run.path, quiet=True), pretrained)


def test_a_run_cut_off_while_it_pretrains_begins_again(
    pretrained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    run = interrupted_run(
        monkeypatch, pretrained.config, tmp_path / "run", server.pretraining, "save_arrays", 1
    )
    assert not run.begun
    assert_same_record(resume(run.path, quiet=True), pretrained)


def test_runs_that_differ_in_federated_training_pretrain_once(
    tiny: str, keys: list[str], pretrained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.pretraining, "train_centrally", None)  # it would not be called
    other = simulate(load(tiny, [*keys, "server.rounds=1"]), tmp_path / "run", quiet=True)
    tables = [run.table("first_corpus") for run in (pretrained, other)]
    a, b = (table[table["round"] == 0].reset_index(drop=True) for table in tables)
    assert a.equals(b)


def test_a_changed_first_corpus_is_not_resumed_with(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = write_chat(tmp_path / "first.csv", people=14, seed=8)
    config = load(tiny, [f"pretrain.path={chat}", "pretrain.min_words=10", "pretrain.epochs=1"])
    run = interrupted_run(monkeypatch, config, tmp_path / "run", client_app, "train_chunk", 5)
    write_chat(chat, people=14, seed=9)
    with pytest.raises(FedsimError, match="first corpus was changed"):
        resume(run.path, quiet=True)


# -- the keys -------------------------------------------------------------------------------------


def test_the_first_corpus_is_part_of_the_identity_only_where_there_is_one(config: Config) -> None:
    tree = config.as_dict()
    before_there_was_one = {k: v for k, v in tree.items() if k != "pretrain"}
    assert from_dict(before_there_was_one).identity() == config.identity()
    more = [from_dict({**tree, "pretrain": {"name": "synthetic", "epochs": e}}) for e in (1, 2)]
    assert len({c.identity() for c in (config, *more)}) == 3
    assert "pretrain" not in config.for_clients().as_dict()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["pretrain.epochs=2"], "pretrain.epochs has no effect with pretrain.name = ''"),
        (["pretrain=nus-sms", "pretrain.repeats=2"], "pretrain.repeats has no effect"),
        (["pretrain.speed=2"], "Unknown key 'pretrain.speed'"),
    ],
)
def test_mistakes_are_one_sentence(keys: list[str], said: str, tiny: str) -> None:
    with pytest.raises(FedsimError, match=said.replace(".", r"\.")):
        load(tiny, keys)


def test_an_unknown_first_corpus_is_named(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(FedsimError, match=r"no data set 'nus-sm'.*pretrain\.path"):
        simulate(load(tiny, ["pretrain=nus-sm"]), tmp_path / "run", quiet=True)


def test_pretrain_takes_a_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chat.csv").touch()
    (tmp_path / "nus-sms").mkdir()
    monkeypatch.chdir(tmp_path)
    assert pretrain_key("nus-sms") == 'pretrain.name="nus-sms"'
    assert pretrain_key("chat.csv") == 'pretrain.path="chat.csv"'
    assert pretrain_key("my/recipe.toml") == 'pretrain.name="my/recipe.toml"'
    assert pretrain_key("nothing") == 'pretrain.name="nothing"'
