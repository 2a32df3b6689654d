"""Membership scores and blind attackers by hand; the measures on a tiny federation."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from federations import write_chat, write_preset

from fedsim.config import Config, load
from fedsim.data.sequences import Sequences
from fedsim.errors import FedsimError
from fedsim.federation import Federation, open_federation
from fedsim.leakage import attacks, blind, clusters, references, roc
from fedsim.leakage.base import Findings, Subject
from fedsim.leakage.checks import CHECKS
from fedsim.leakage.groups import Sentences, sentences_of, typed_by_one
from fedsim.leakage.measures.membership import Membership
from fedsim.leakage.measures.user_membership import UserMembership, bins
from fedsim.leakage.scoring import Scores, score
from fedsim.models import N_SPECIALS, KneserNey, build, training_loss
from fedsim.models.batch import Batch
from fedsim.seeding import stream, torch_stream

# -- scores ---------------------------------------------------------------------------------------


def scores_of(sentences: list[list[float]], mean: float = 0.0, deviation: float = 1.0) -> Scores:
    """Scores whose words have these ln p."""
    words = np.array([v for s in sentences for v in s])
    offsets = np.cumsum([0, *map(len, sentences)])
    return Scores(words, np.full(len(words), mean), np.full(len(words), deviation), offsets)


SENTENCES = [[-1.0], [-3.0, -1.0], [-1.0, -2.0, -3.0, -4.0], [-2.0] * 5, [-5.0, *[-1.0] * 5]]


def test_scores_by_hand() -> None:
    scores = scores_of(SENTENCES)
    assert attacks.loss(scores).tolist() == [-1.0, -2.0, -2.5, -2.0, -10 / 6]
    # ceil(0.2 T) is 1 up to five words, 2 of six.
    assert attacks.min_k(scores).tolist() == [-1.0, -3.0, -4.0, -2.0, -3.0]
    assert attacks.min_k(scores, 1.0) == pytest.approx(attacks.loss(scores))
    other = scores_of([[-2.0] * len(s) for s in SENTENCES])
    assert attacks.reference(scores, other) == pytest.approx([1.0, 0.0, -0.5, 0.0, 2 - 10 / 6])
    shifted = scores_of(SENTENCES, mean=-2.0, deviation=0.5)
    assert attacks.min_k_plus(shifted)[1] == (-3.0 + 2.0) / 0.5


def test_zlib_does_not_count_its_header() -> None:
    texts = ["ok", "see you at the station", "no no no no no no no no no no no no no no no no"]
    expected = [len(zlib.compress(t.encode())) - 8 for t in texts]
    assert attacks.compressed_bytes(texts).tolist() == expected
    assert attacks.compressed_bytes([""]).tolist() == [1.0]
    assert attacks.zlib(scores_of([[-1.0, -3.0]]), ["ok"]).tolist() == [-4.0 / 2]


def test_the_mean_of_ln_p_and_its_deviation_are_those_of_the_definition() -> None:
    text = Sequences(np.array([5, 9, 4, 7], np.int32), np.array([0, 3, 4]))
    model = KneserNey.fit([text], 12)
    found = score(model, text, moments=True)
    rows = model.log_probs(Batch.of(np.array([5, 9, 4], np.int32), np.array([0, 3]))).double()
    for place, row in enumerate(rows[:3].numpy()):
        p = np.exp(row)
        mean = sum(a * b for a, b in zip(p, row, strict=True) if a > 0)
        square = sum(a * b * b for a, b in zip(p, row, strict=True) if a > 0)
        assert found.mean[place] == pytest.approx(mean, rel=1e-5)
        assert found.deviation[place] == pytest.approx(math.sqrt(square - mean**2), rel=1e-4)


def test_neighbours_are_drawn_from_the_bigram() -> None:
    rng = np.random.default_rng(0)
    known = Sequences(rng.integers(4, 10, 300).astype(np.int32), np.arange(0, 301, 3))
    bigram = KneserNey.fit([known], 10)
    text = Sequences(np.array([6, 7, 4], np.int32), np.array([0, 2, 3]))
    near = attacks.neighbours_of(text, bigram, 20_000, rng)
    rows = near.tokens[: 2 * 20_000].reshape(-1, 2)
    assert (rows != [6, 7]).sum(1).tolist() == [1] * 20_000
    assert near.tokens.min() >= N_SPECIALS
    second = rows[rows[:, 1] != 7, 1]
    assert len(second) == pytest.approx(10_000, abs=300)
    # p(w | 6), without 7 and the specials. Nothing follows PAD, so the trigram is silent there.
    batch = Batch(*(torch.tensor([i]) for i in (6, 0, 0, 0)), [1], 1)
    chances = bigram.log_probs(batch).double().exp().numpy()[0]
    chances[[*range(N_SPECIALS), 7]] = 0
    found = np.bincount(second, minlength=10) / len(second)
    assert found == pytest.approx(chances / chances.sum(), abs=0.02)
    first = rows[rows[:, 0] != 6, 0]
    assert set(first) <= {4, 5, 7, 8, 9}
    assert (near.tokens[2 * 20_000 :] != 4).all()  # a sentence of one word: another word
    own = scores_of([[-1.0, -1.0], [-4.0]])
    others = scores_of([[-2.0, -2.0], [-4.0, -2.0], [-1.0], [-2.0]])
    assert attacks.neighbour(own, others).tolist() == [2.5 - 1.0, 1.5 - 4.0]


# -- blind attackers ------------------------------------------------------------------------------


def test_logistic_regression_is_the_minimum() -> None:
    """Against Newton's method, written out on dense matrices."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 12, size=(60, 5)).astype(np.int32)
    text = Sequences(tokens.ravel(), np.arange(61) * 5)
    features = blind.bag_of_words(text, 12, np.arange(60))
    dense = features.toarray()
    assert (dense**2).sum(1) == pytest.approx(np.ones(60))
    counts = np.stack([np.bincount(row, minlength=12) for row in tokens])
    assert dense == pytest.approx(counts / np.linalg.norm(counts, axis=1)[:, None])
    positive = rng.random(60) < 0.3
    x = np.hstack([dense, np.ones((60, 1))])
    weights = np.where(positive, 30 / positive.sum(), 30 / (~positive).sum())
    shrink = np.diag([1.0] * 12 + [0.0])
    at = np.zeros(13)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ at))
        gradient = x.T @ (weights * (p - positive)) + shrink @ at
        at = at - np.linalg.solve((x.T * (weights * p * (1 - p))) @ x + shrink, gradient)
    coefficients, intercept = blind.logistic(features, positive)
    assert coefficients == pytest.approx(at[:-1], abs=1e-3)
    assert intercept == pytest.approx(at[-1], abs=1e-3)


def test_a_users_rows_are_in_one_fold_and_groups_are_dealt_alike() -> None:
    users = np.repeat(np.arange(53), 3)
    member = users < 31
    fold = blind.folds_by_user(member, users, np.random.default_rng(0))
    of_user = fold.reshape(-1, 3)
    assert (of_user == of_user[:, :1]).all()
    for group in (of_user[:31, 0], of_user[31:, 0]):
        sizes = np.bincount(group, minlength=blind.FOLDS)
        assert sizes.max() - sizes.min() <= 1


# -- self-checks, and what they are there to catch ------------------------------------------------


@pytest.mark.parametrize("name", [n for n in CHECKS if n.startswith("membership")])
def test_the_laboratory_finds_what_is_known(name: str) -> None:
    checks = CHECKS[name]()
    assert [check for check in checks if not check.passed] == []
    assert CHECKS[name]() == checks  # of its own streams


def _ties_as_wins(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(others), scores, side="right") / len(others)


def _best_for_the_attacker(nonmembers: np.ndarray, fpr: float) -> float:
    return float(np.median(nonmembers))  # chosen by what comes out, not by the FPR


def _one_of_a_tie(nonmembers: np.ndarray, fpr: float) -> float:
    return float(np.nextafter(np.sort(nonmembers)[::-1][int(fpr * len(nonmembers))], -np.inf))


def _variance_of_members_only(members: np.ndarray, nonmembers: np.ndarray) -> float:
    return float(np.var(roc.placements(members, nonmembers)[0], ddof=1) / len(members))


def _sentences_as_people(people: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    return 1 + 0.2 * rng.standard_normal((resamples, people))  # as if each had 25 times the text


def _rounded_down(lengths: np.ndarray, share: float) -> np.ndarray:
    return (share * lengths).astype(np.int64)


def _with_header(texts: list[str]) -> np.ndarray:
    return np.array([len(zlib.compress(t.encode())) for t in texts], float)


def _folds_of_rows(member: np.ndarray, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(blind.FOLDS, size=len(users))


def _no_fold_is_held_out(
    features: np.ndarray, member: np.ndarray, users: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    return features @ blind.logistic(features, member)[0]


def _any_word(
    text: Sequences, proposals: object, count: int, rng: np.random.Generator
) -> Sequences:
    out = text.take(np.repeat(np.arange(len(text)), count))
    out.tokens[out.offsets[:-1]] = rng.integers(0, 200, len(out))
    return out


def _peeking(scores: Scores, *_: object) -> np.ndarray:
    """Knows the split: it is drawn as the check draws it."""
    n = len(scores.offsets) - 1
    member = stream(0, "selfcheck membership split").permutation(n) < n // 2
    return member + scores.mean_nats


SABOTAGE = [
    ("membership rates", roc, "_share_below", _ties_as_wins),
    ("membership rates", roc, "threshold", _best_for_the_attacker),
    ("membership rates", roc, "threshold", _one_of_a_tie),
    ("membership intervals", roc, "delong_variance", _variance_of_members_only),
    ("membership intervals", clusters, "_times", _sentences_as_people),
    ("membership scores", attacks, "how_many", _rounded_down),
    ("membership scores", attacks, "compressed_bytes", _with_header),
    ("membership scores", attacks, "neighbours_of", _any_word),
    ("membership scores", attacks, "reference", _peeking),
    ("membership blind", blind, "folds_by_user", _folds_of_rows),
    ("membership blind", blind, "out_of_fold", _no_fold_is_held_out),
]


@pytest.mark.parametrize(("check", "module", "name", "broken"), SABOTAGE)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_a_broken_attack_fails_its_check(
    check: str, module: object, name: str, broken: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, broken)
    assert [found for found in CHECKS[check]() if not found.passed]


# -- on a federation ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """90 people; of those who could train, 30 never take part."""
    folder = tmp_path_factory.mktemp("crowd")
    preset = write_preset(folder / "crowd.toml", write_chat(folder / "chat.csv", people=90))
    return load(str(preset), ["audit.set_apart=30"])


@pytest.fixture(scope="module")
def federation(crowd: Config) -> Federation:
    """Of the crowd."""
    return open_federation(crowd)


def subject_of(config: Config, federation: Federation, epochs: int = 0) -> Subject:
    """A model that was trained for so many epochs on all users that are not set apart."""
    participations = np.zeros(federation.users, np.int64)
    participations[federation.population] = 1 + federation.population % 3
    model = build(config.model.options, len(federation.corpus.vocabulary))
    model.initialise(torch_stream(3, "init"))
    text = Sequences.concatenate([federation.sequences(int(u)) for u in federation.population])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for epoch in range(epochs):
        order = stream(7, "order", epoch).permutation(len(text))
        for start in range(0, len(order), 64):
            optimizer.zero_grad()
            chosen = order[start : start + 64]
            training_loss(model, Batch.of(text.tokens, text.offsets, chosen))[0].backward()
            optimizer.step()
    return Subject(model.eval(), config, federation, participations, 5)


def row(found: Findings, quantity: str, group: str):
    """The one row of a quantity and group."""
    (chosen,) = [r for r in found.rows if (r.quantity, r.group) == (quantity, group)]
    return chosen


@pytest.fixture(scope="module")
def trained(crowd: Config, federation: Federation) -> Subject:
    """A model that overfits its members."""
    return subject_of(crowd, federation, epochs=30)


def test_a_model_that_overfits_is_told_from_one_that_does_not(
    crowd: Config, federation: Federation, trained: Subject
) -> None:
    options = {"neighbours": 5, "neighbour_sentences": 300}
    found = Membership(**options).measure(trained)
    fresh = Membership(**options).measure(subject_of(crowd, federation))
    for name in ("loss", "zlib", "min-k", "min-k++", "reference", "neighbour"):
        area = row(found, "auc", f"score={name}")
        assert area.low > 0.5, name
        assert area.estimate > area.control
        assert area.interval == "bootstrap over users"
        assert math.isnan(row(found, "tpr_at_fpr_0.001", f"score={name}").estimate)
        null = row(fresh, "auc", f"score={name}")
        assert 0.42 < null.estimate < 0.58
        assert null.n <= len(trained.members) + len(trained.nonmembers)
    assert row(found, "auc", "score=loss").estimate > 0.7
    words = row(found, "auc", "blind=words")
    assert words.low < 0.5 < words.high
    curves = found.details["roc"]
    assert set(curves.columns) == {"score", "fpr", "tpr"}
    again = Membership(**options).measure(trained)
    assert repr(again.rows) == repr(found.rows)


def test_users_are_told_from_what_trained_the_model_only(trained: Subject) -> None:
    found = UserMembership().measure(trained)
    group = "text={} score=reference statistic={}"
    for statistic in ("mean", "trimmed", "sum"):
        assert row(found, "auc", group.format("train", statistic)).low > 0.75
    other = row(found, "auc", group.format("heldout", "mean"))
    assert other.estimate < row(found, "auc", group.format("train", "mean")).estimate - 0.1
    assert other.interval == "DeLong"
    members = trained.members[trained.participations[trained.members] == 3]
    by_times = row(found, "auc", group.format("train", "mean") + " participations=3-4")
    assert by_times.n == len(members) + len(trained.nonmembers)
    table = found.details["users"]
    train = table[table["text"] == "train"].set_index("user")
    member = train.participations > 0
    assert row(found, "auc", group.format("train", "mean")).estimate == pytest.approx(
        roc.auc(train[member].reference_mean.to_numpy(), train[~member].reference_mean.to_numpy())
    )
    user = int(trained.nonmembers[0])
    text = trained.federation.sequences(user)
    other_nats = score(references.trigram(trained.federation), text).mean_nats
    by_hand = other_nats - score(trained.model, text).mean_nats
    assert train.reference_mean[user] == pytest.approx(by_hand.mean())
    assert train.reference_sum[user] == pytest.approx(by_hand.sum())


@pytest.mark.slow
def test_a_reference_of_the_same_architecture(trained: Subject) -> None:
    found = UserMembership(reference="model").measure(trained)
    assert row(found, "auc", "text=train score=reference statistic=mean").low > 0.75


def test_too_few_nonmembers_are_refused(config: Config) -> None:
    federation = open_federation(config)
    subject = subject_of(config, federation)
    for measure in (Membership(), UserMembership()):
        with pytest.raises(FedsimError, match=r"there are 0; set audit.set_apart=200 before train"):
            measure.measure(subject)
    nobody = replace(subject, participations=np.zeros(federation.users, int))
    with pytest.raises(FedsimError, match="at least 20 users that took part, and there are 0"):
        Membership().measure(nobody)


def test_sentences_of_several_people_are_left_out_of_both_groups(federation: Federation) -> None:
    users = np.array(federation.corpus.split("train"))
    every = sentences_of(federation, users, "train", 10**6, 1)
    assert len(every.text) == sum(len(federation.sequences(int(u))) for u in users)
    alone = typed_by_one(federation, every)
    people: dict[tuple[int, ...], set[int]] = {}
    for user in users:
        for sentence in federation.sequences(int(user), "all"):
            people.setdefault(tuple(sentence), set()).add(int(user))
    assert alone.tolist() == [len(people[tuple(s)]) == 1 for s in every.text]
    few = sentences_of(federation, users, "train", 3, 1)
    assert np.bincount(few.users).max() == 3
    for sentence, user in zip(few.text, few.users, strict=True):
        assert user in people[tuple(sentence)]
    kept = Sentences(few.text, few.users).where(few.users == users[0])
    assert set(kept.users) == {users[0]}


def test_bins_of_participations() -> None:
    assert bins(6) == [(1, 1), (2, 2), (3, 4), (5, 8)]
    assert bins(0) == []


def test_the_trigram_knows_neither_group(federation: Federation) -> None:
    corpus = federation.corpus
    text = references.reference_text(federation)
    outside = [corpus.split_counts(split)["sentences"] for split in ("validation", "test")]
    assert len(text) == sum(outside)
