"""What an update gives away: words, counts and sentences, on small models; sabotage is noticed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedsim.config import Config, from_dict, load
from fedsim.data.sequences import Sequences, offsets_of
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import row_space, update_attack, update_defences, update_sentences, update_words
from fedsim.leakage.base import Findings, Subject, tidy
from fedsim.leakage.checks import updates as checks
from fedsim.leakage.measures import updates as measure
from fedsim.leakage.row_space import RowSpace
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.leakage.update_attack import Sent
from fedsim.models import BOS, EOS, build
from fedsim.parameters import Layout, Parameters
from fedsim.runs import Run
from fedsim.seeding import torch_stream
from fedsim.studies.workbench import Bench

Checked = Callable[[], list[Check]]
FAMILIES = list(checks.SHAPES)


def text_of(*sentences: tuple[int, ...]) -> Sequences:
    """These sentences."""
    lengths = np.array([len(s) for s in sentences])
    return Sequences(np.concatenate(sentences).astype(np.int32), offsets_of(lengths))


def config_of(config: Config, model: str, strategy: str, **client: float) -> Config:
    """A config for the bench with one of the small models of the checks."""
    tree = config.as_dict()
    tree["model"] = {"name": model, **checks.SHAPES[model]}
    return from_dict({**tree, "strategy": strategy, "client": {**tree["client"], **client}})


# -- row spaces -----------------------------------------------------------------------------------


def test_the_row_space_of_a_product_by_hand() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((5, 12))
    gradient = (rng.standard_normal((30, 5)) @ inputs).astype(np.float32)
    space = RowSpace.of(gradient)
    assert (space.rank, space.dimension, space.full) == (5, 12, False)
    assert space.holds(7.0 * inputs).all()
    assert not space.holds(rng.standard_normal((200, 12))).any()
    assert not space.holds(inputs + 0.1 * rng.standard_normal((5, 12))).any()


def test_rank_is_not_fooled_by_the_rounding_of_a_difference() -> None:
    rng = np.random.default_rng(2)
    start = rng.uniform(-0.5, 0.5, (60, 20)).astype(np.float32)
    inputs = rng.standard_normal((6, 20))
    step = 1e-3 * rng.standard_normal((60, 6)) @ inputs
    change = (start + step).astype(np.float32) - start
    error = row_space.rounding_of(start)
    assert RowSpace.of(change, error).rank == 6 < RowSpace.of(change).rank
    assert RowSpace.of(change, error).holds(inputs).all()
    assert np.std(change - step) == pytest.approx(error, rel=0.1)


def test_zeros_and_what_is_not_finite_have_no_row_space() -> None:
    for gradient in (np.zeros((4, 3)), np.full((4, 3), np.nan)):
        assert RowSpace.of(gradient).rank == 0


# -- sentences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_repeats_and_beginnings_of_other_sentences_come_back(name: str) -> None:
    model = checks.model_of(name)
    true = [(7, 8, 9), (7, 8), (7,), (7,), (20, 8, 9, 9), (7, 8, 9), (30, 31)]
    text = text_of(*true)
    found = checks.read(model, text, checks.update_of(model, text)).sentences
    assert found is not None
    assert sorted(found.sentences) == sorted(true)
    assert found.explained


@pytest.mark.parametrize("name", FAMILIES)
def test_full_rank_is_said_and_not_searched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_sentences, "allowed", None)  # would raise
    model = checks.model_of(name)
    text = checks.text_of(64, "many")
    found = checks.read(model, text, checks.update_of(model, text)).sentences
    assert found is not None
    assert found.failure == "not recoverable: as many states as dimensions"
    assert found.sentences == []


@pytest.mark.parametrize("name", FAMILIES)
def test_of_several_local_steps_the_first_gives_its_sentences(name: str, config: Config) -> None:
    """The later steps begin at a model that the server does not have."""
    model = checks.model_of(name)
    parameters, bench = Parameters.from_model(model), Bench()
    text = checks.text_of(4, "steps", longest=3)
    true = update_attack.sentences_of(text)
    for steps, hits in ((1, 4), (2, 2)):
        how = config_of(config, name, "fedavg", batch_size=4 // steps, lr=1.0)
        (update,) = bench.updates(parameters, [text], how)
        sent = Sent(update, False, False, 4, len(update_attack.typed(text)))
        found = update_attack.read(model, sent, 10).sentences
        assert found is not None
        assert found.explained == (steps == 1)
        assert update_attack.same(found.sentences, true) >= hits


def test_the_search_ends_where_everything_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_space, "TOLERANCES", (1e9, 1e9))
    model = checks.model_of("lstm")
    text = checks.text_of(4, "open")
    found = checks.read(model, text, checks.update_of(model, text)).sentences
    assert found is not None
    assert "the search stopped" in found.failure


# -- words ----------------------------------------------------------------------------------------


def test_counts_are_exact_although_the_scale_is_unknown() -> None:
    model = checks.model_of("lstm")
    text = text_of((5, 5, 5, 6), (5, 7), (8,))
    update = Parameters(Layout.of(model), 0.37 * checks.update_of(model, text))
    counts = update_words.counts(model, update, 3, exact=False)
    assert counts[[5, 6, 7, 8, EOS, BOS]].tolist() == [4, 1, 1, 1, 3, 0]


def test_bench_gives_what_clients_send(config: Config) -> None:
    model = checks.model_of("lstm")
    texts = [checks.text_of(3, "one"), checks.text_of(5, "two")]
    start = Parameters.from_model(model)
    before = start.flat.copy()
    bench = Bench()
    exact = bench.updates(start, texts, config_of(config, "lstm", "fedsgd"))
    step = bench.updates(
        start, texts, config_of(config, "lstm", "fedavg", lr=0.5, batch_size=64, max_grad_norm=0.0)
    )
    for text, gradient, change in zip(texts, exact, step, strict=True):
        np.testing.assert_allclose(gradient, checks.update_of(model, text), atol=1e-7)
        np.testing.assert_allclose(change, 0.5 * gradient, atol=1e-7)
    assert np.array_equal(before, start.flat)


# -- defences -------------------------------------------------------------------------------------


def test_defences_by_hand() -> None:
    update = np.array([3.0, -4.0, 0.0, 0.1], np.float32)
    layout = Layout(("a", "b"), ((2,), (2,)))
    assert update_defences.clipped(update, 10.0).tolist() == update.tolist()
    assert np.linalg.norm(update_defences.clipped(update, 0.1)) == pytest.approx(0.1)
    assert update_defences.sparsified(update, 0.5).tolist() == [3.0, -4.0, 0.0, 0.0]
    whole = update_defences.quantised(update, layout)
    assert whole == pytest.approx([95 * 4 / 127, -4.0, 0.0, 0.1])
    assert update_defences.summed([update, update]).tolist() == (2 * update).tolist()
    noise = update_defences.noised(np.zeros(10_000, np.float32), 0.3, np.random.default_rng(1))
    assert noise.std() == pytest.approx(0.3, rel=0.03)


# -- the measure ----------------------------------------------------------------------------------


def subject_of(run: Run, bench: Bench | None) -> Subject:
    """The tiny run as a subject."""
    federation = open_federation(run.config)
    rounds = np.bincount(run.clients.user, minlength=federation.users)
    return Subject(run.model(), run.config, federation, rounds, 1, bench)


SMALL = measure.Updates(
    clients=3, sequences=(1, 500), few=2, words=5, steps=(1,), cohorts=(1,), sums=(3, 500)
)


@pytest.fixture(scope="module")
def found(finished: Run) -> Findings:
    """The measure on the tiny run."""
    return SMALL.measure(subject_of(finished, Bench()))


def test_every_row_of_the_measure(found: Findings) -> None:
    table = tidy("updates", SMALL, found, 4).set_index(["group", "quantity"])
    assert table.index.is_unique

    def figure(group: str, quantity: str) -> float:
        return float(table.loc[(f"attack={group}", quantity), "estimate"])

    for model in ("run", "fresh"):
        one = f"model={model} strategy=fedsgd sequences=1 words=any defence=none"
        assert figure(f"span {one}", "sentences_exact") == 1.0
        assert figure(f"span {one}", "rougeL") == 1.0
        assert figure(f"span {one}", "sentences_false") == 0.0
        averaged = f"span model={model} strategy=fedavg steps=1 sequences=2 defence=none"
        assert figure(averaged, "sentences_exact") == 1.0
    defended = "model=run strategy=fedsgd sequences=2 defence="
    assert figure(f"span {defended}clip", "sentences_exact") == 1.0
    assert figure(f"span {defended}noise z=1 cohort=1", "sentences_exact") == 0.0
    many = table.loc["attack=embedding-rows model=run strategy=fedsgd sequences=500 words=any "
                     "defence=none"]  # fmt: skip
    assert many.estimate.isna().all()
    assert "too few members" in many.note.iloc[0]
    assert table.control.between(0, 1).sum() > 50


def test_the_table_has_every_sentence_in_words(found: Findings, finished: Run) -> None:
    sentences = found.details["sentences"]
    one = sentences[sentences.group.str.contains("model=run strategy=fedsgd sequences=1 ")]
    assert len(one) == 3
    assert one.exact.all()
    federation = open_federation(finished.config)
    words = federation.corpus.vocabulary.words
    for row in one.itertuples():
        texts = [" ".join(words[w] for w in s) for s in federation.sequences(int(row.user))]
        assert row.text in texts


def test_the_measure_gives_the_same_again(found: Findings, finished: Run) -> None:
    again = SMALL.measure(subject_of(finished, Bench()))
    assert tidy("updates", SMALL, again, 4).equals(tidy("updates", SMALL, found, 4))


def test_a_subject_without_bench_is_refused(finished: Run) -> None:
    with pytest.raises(FedsimError, match="bench"):
        SMALL.measure(subject_of(finished, None))


# -- self-checks, and that they notice ------------------------------------------------------------

NAMES = ("words of an update", "sentences of an update", "updates under noise")


@pytest.mark.parametrize("name", NAMES)
def test_self_checks_pass(name: str) -> None:
    failed = [c for c in CHECKS[name]() if not c.passed]
    assert not failed


def failing(name: str) -> list[str]:
    """The truths that a check says are broken."""
    return [c.truth for c in CHECKS[name]() if not c.passed]


def test_an_attack_that_reads_the_text_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequences] = []
    original = checks.text_of

    def remembered(*args: object, **more: object) -> Sequences:
        seen.append(original(*args, **more))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(checks, "text_of", remembered)
    monkeypatch.setattr(update_words, "typed_words", lambda *_: update_attack.typed(seen[-1]))
    assert failing("updates under noise") == ["words under noise: chance"]


def test_noise_that_is_not_added_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_defences, "noised", lambda update, deviation, rng: update)
    assert failing("updates under noise") == ["words under noise: chance"]


def test_a_tolerance_wide_open_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_space, "TOLERANCES", (0.7, 0.7))
    monkeypatch.setattr(update_sentences, "STRICTNESS", (1.0,))
    assert failing("sentences of an update")


def test_tied_taken_for_untied_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        update_words, "largest_rows", lambda norms, size: update_words.changed_rows(norms)
    )
    broken = failing("words of an update")
    assert len(broken) == 3
    assert all("words, tied" in truth for truth in broken)


def test_prefixes_instead_of_sentences_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_prefixes(evidence: update_sentences.Evidence, prefixes: list, ends: list, count: int):  # type: ignore[no-untyped-def]
        return update_sentences.Recovered(prefixes, evidence.rank, evidence.dimension)

    monkeypatch.setattr(update_sentences, "_chosen", all_prefixes)
    assert any("no false sentence" in truth for truth in failing("sentences of an update"))


# -- real text ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm-small", "cifg-small", "transformer-small"])
def test_eight_real_sentences_come_back_until_noise_or_a_sum_hides_them(name: str) -> None:
    """Eight messages of one person of chitchat, up to seven words each, in order, word by word."""
    config = load("default", [f"model={name}"])
    federation = open_federation(config)
    model = build(config.model.options, len(federation.corpus.vocabulary))
    model.initialise(torch_stream(config.seed, "init"))
    rounds = np.ones(federation.users, np.int64)
    subject = Subject(model.eval(), config, federation, rounds, 1, Bench())
    small = measure.Updates(
        clients=3, sequences=(8,), steps=(1,), cohorts=(1, 100), sums=(10,), fresh=False
    )
    table = tidy("updates", small, small.measure(subject), 1)
    exact = table[table.quantity == "sentences_exact"].set_index("group").estimate
    short = "attack=span model=run strategy=fedsgd sequences=8 words=up-to-7 defence=none"
    defended = "attack=span model=run strategy=fedsgd sequences=8 defence="
    assert exact[short] == exact[f"{defended}clip"] == 1.0
    assert exact["attack=span model=run strategy=fedavg steps=1 sequences=8 defence=none"] == 1.0
    for hidden in ("noise z=1 cohort=1", "noise z=1 cohort=100", "secure-sum users=10"):
        assert exact[defended + hidden] == 0.0
