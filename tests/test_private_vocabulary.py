"""A private vocabulary: its threshold, its people's bound, its corpus, and its share of epsilon."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import dp_accounting as dp
import numpy as np
import pytest
from data_helpers import write_jsonl
from dp_accounting.pld import PLDAccountant
from scipy import stats

from fedsim.config import Config, from_dict, load
from fedsim.data.options import DataOptions
from fedsim.data.private_vocabulary import STEPS, Release, person_counts, released
from fedsim.data.shards import write_shards
from fedsim.data.store import Corpus, open_corpus
from fedsim.data.vocabulary import SPECIALS
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.privacy.accountants import compose
from fedsim.privacy.events import Event
from fedsim.privacy.statement import as_text
from server.privacy import resolved, stated

NOISE = "data.vocabulary_noise=1"
SMALL = ("data.vocabulary_words=5", "data.vocabulary_delta=1e-6", "data.vocabulary_seed=3")


def rows(people: int = 300) -> list[tuple[str, str]]:
    """Everybody says the same words often, and has a word of their own."""
    rng = np.random.default_rng(1)
    return [(f"p{person:03d}", f"{' '.join(f'w{w}' for w in rng.integers(16, size=8))} own{person}")
            for person in range(people) for _ in range(4)]  # fmt: skip


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The messages of 300 people."""
    return write_jsonl(tmp_path_factory.mktemp("words") / "chat.jsonl", rows())


# -- the release ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "chance", "noise"), [(1, 0.05, 1.0), (4, 0.05, 2.0),
                                                        (30, 0.2, 0.5)])  # fmt: skip
def test_words_of_one_person_alone_get_in_with_the_chance_that_is_stated(
    words: int, chance: float, noise: float
) -> None:
    """Simulated 20,000 times; also the formula of Gopi et al. 2020's baseline."""
    release, people = Release(noise, words, chance, seed=None), 20_000
    noisy = release.noisy(np.ones(people * words, np.int64), bytes(range(32)))
    leaked = (noisy > release.threshold(100)).reshape(people, words).any(axis=1).sum()
    low, high = stats.binom.interval(0.9999, people, chance)
    assert low <= leaked <= high
    quantile = stats.norm.ppf((1 - chance) ** (1 / words))
    assert release.threshold(100) / STEPS == pytest.approx(
        1 + noise * math.sqrt(words) * quantile, rel=1e-5
    )


def test_the_noise_has_the_deviation_that_is_accounted() -> None:
    release = Release(1.5, 9, 1e-3, seed=None)
    noisy = release.noisy(np.full(40_000, 7), b"k" * 32) / STEPS
    assert noisy.std() == pytest.approx(1.5 * 3, rel=0.02)
    assert noisy.mean() == pytest.approx(7, abs=0.1)


def test_words_above_the_threshold_come_with_the_most_counted_first() -> None:
    words = [f"w{i}" for i in range(50)]
    counts = np.arange(50) * 40
    release = Release(0.1, 4, 1e-3, seed=1)
    chosen, about = released(words, counts, 1000, release)
    assert chosen == [f"w{i}" for i in range(49, 0, -1)]
    assert about["people"] == 1000
    assert released(words, counts, 1000, release)[1]["id"] == about["id"]
    counts[3] += 1
    assert released(words, counts, 1000, release)[1]["id"] != about["id"], "other text, other noise"
    fresh = [released(words, counts, 1000, Release(0.1, 4, 1e-3, None))[1]["id"] for _ in range(2)]
    assert fresh[0] != fresh[1]


@pytest.mark.parametrize("block", [3, 10**6])
def test_a_person_counts_for_the_words_that_they_say_most(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against counters; and whoever else is there changes nothing of a person's choice."""
    monkeypatch.setattr("fedsim.data.private_vocabulary._AT_ONCE", block)
    rng = np.random.default_rng(2)
    words = [f"{chr(97 + i * 7 % 26)}{i}" for i in range(12)]
    lengths = rng.integers(1, 6, size=60)
    owners = np.sort(rng.integers(9, size=60))
    tokens = rng.integers(12, size=lengths.sum()).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    def plainly(people: set[int]) -> list[int]:
        out = Counter[str]()
        for person in people:
            said = Counter[str]()
            for sentence in np.flatnonzero(owners == person):
                span = slice(starts[sentence], starts[sentence] + lengths[sentence])
                said.update(words[w] for w in tokens[span])
            out.update(sorted(said, key=lambda w: (-said[w], w))[:3])
        return [out[word] for word in words]

    everybody = set(owners.tolist())
    found = person_counts(tokens, starts, lengths, owners, words, 3)
    assert found.tolist() == plainly(everybody)
    for gone in everybody:
        stay = owners != gone
        less = person_counts(tokens, starts[stay], lengths[stay], owners[stay], words, 3)
        assert less.tolist() == plainly(everybody - {gone})
        assert np.abs(found - less).sum() <= 3


# -- the corpus -----------------------------------------------------------------------------------


def test_a_word_of_one_person_is_in_no_private_vocabulary(messages: Path) -> None:
    keys = [f"data.path={messages}", "data.min_words=1"]
    exact = open_corpus(load("default", keys).data)
    private = open_corpus(load("default", [*keys, NOISE, *SMALL]).data)
    assert any(word.startswith("own") for word in exact.vocabulary.words)
    assert set(private.vocabulary.words[len(SPECIALS) :]) == {f"w{i}" for i in range(16)}
    assert private.digest != exact.digest
    release = private.vocabulary_release
    assert release is not None
    assert release["people"] == len(private.split("train"))
    assert exact.vocabulary_release is None


def test_the_corpus_keeps_its_release_and_another_cache_draws_another(
    messages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids(name: str, *keys: str) -> str:
        monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / name))
        config = load("default", [f"data.path={messages}", "data.min_words=1", NOISE, *keys])
        release = open_corpus(config.data).vocabulary_release
        assert release is not None
        return str(release["id"])

    assert ids("a") == ids("a") != ids("b")
    assert ids("a", *SMALL) == ids("b", *SMALL)


def test_a_shard_has_the_release_of_its_corpus(messages: Path, tmp_path: Path) -> None:
    config = load("default", [f"data.path={messages}", "data.min_words=1", NOISE, *SMALL])
    corpus = open_corpus(config.data)
    write_shards(corpus, tmp_path / "shards", 2)
    for name in ("node-0", "server"):
        assert Corpus(tmp_path / "shards" / name).vocabulary_release == corpus.vocabulary_release


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["data.vocabulary_words=5"], "no effect without data.vocabulary_noise"),
        (["data.vocabulary_seed=5"], "no effect without data.vocabulary_noise"),
        ([NOISE, "data.word_users=2"], "leave out one of the two"),
        ([NOISE, "data=synthetic"], "no effect with the generated data set"),
        (["data.vocabulary_noise=900"], "lower data.vocabulary_noise"),
    ],
)
def test_mistakes_are_one_sentence(keys: list[str], said: str, messages: Path) -> None:
    path = [] if "data=synthetic" in keys else [f"data.path={messages}", "data.min_words=1"]
    with pytest.raises(FedsimError, match=said.replace(".", r"\.")):
        open_corpus(load("default", [*path, *keys]).data)


def test_without_it_a_run_is_the_run_that_it_was(config: Config) -> None:
    tree = config.as_dict()
    later = {k for k in DataOptions.model_fields if k.startswith("vocabulary_")}
    assert len(later) == 4
    tree["data"] = {k: v for k, v in tree["data"].items() if k not in later}
    assert from_dict(tree).identity() == config.identity()
    assert not later & set(config._what_counts()["data"])


# -- epsilon --------------------------------------------------------------------------------------

RUN = ["privacy.noise_multiplier=2", "privacy.delta=1e-4", "server.rounds=5", "server.cohort=20",
       "canaries.per_cell=0"]  # fmt: skip


def guarantee_of(messages: Path, *keys: str) -> dict:
    """That of the planned run's statement."""
    config = load("default", [f"data.path={messages}", "data.min_words=1", *RUN, *keys])
    federation = open_federation(config)
    said = stated(resolved(config, federation), federation)
    assert said is not None
    assert json.loads(json.dumps(said)) == said
    return said


def test_a_cyclic_run_and_its_vocabulary_are_one_gaussian(messages: Path) -> None:
    keys = ("privacy=dp-fedavg", "server.sampler=cyclic")
    alone = guarantee_of(messages, *keys)["guarantee"]
    whole = guarantee_of(messages, *keys, NOISE, *SMALL)["guarantee"]
    (event,) = alone["events"]
    noise = (event["noise_multiplier"] ** -2 / event["count"] ** -1 + 1) ** -0.5
    expected = dp.get_epsilon_gaussian(noise, 1e-4 - 1e-6) - math.log1p(-1e-6)
    assert whole["epsilon"] == pytest.approx(expected, rel=1e-9)
    assert whole["epsilon"] > alone["epsilon"]
    assert {e["kind"] for e in whole["events"]} == {"gaussian", "threshold"}
    assert whole["delta"] == alone["delta"] == 1e-4


def test_a_sampled_run_and_its_vocabulary_compose_by_pld(messages: Path) -> None:
    keys = ("privacy=dp-fedavg", "server.sampler=poisson", NOISE, *SMALL)
    whole = guarantee_of(messages, *keys)["guarantee"]
    (sampled,) = [e for e in whole["events"] if e["kind"] == "poisson"]
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    accountant.compose(dp.GaussianDpEvent(1.0))
    accountant.compose(
        dp.PoissonSampledDpEvent(sampled["rate"], dp.GaussianDpEvent(2.0)), sampled["count"]
    )
    assert whole["epsilon"] == pytest.approx(accountant.get_epsilon(1e-4 - 1e-6), rel=2e-3)


def test_who_replaces_another_moves_counts_by_more() -> None:
    """sqrt(2 k) of different words, where k is what zeroing one out moves."""
    from fedsim.privacy.accounting import guarantee
    from fedsim.privacy.plan import Plan

    before = (Event("threshold", 3.0, chance=1e-7),)
    plan = Plan("gaussian", 2.0, 1e-5, 1000, 20, 5, "fixed", before=before)
    found = {e.kind: e.noise_multiplier for e in guarantee(plan).events}
    assert found["threshold"] == pytest.approx(3 / math.sqrt(2))


def test_a_budget_counts_the_vocabulary(messages: Path) -> None:
    keys = ("privacy=blt", "server.sampler=cyclic", "privacy.noise_multiplier=0",
            "privacy.epsilon=8")  # fmt: skip
    alone = guarantee_of(messages, *keys)["guarantee"]
    whole = guarantee_of(messages, *keys, NOISE, *SMALL)["guarantee"]
    assert whole["epsilon"] <= 8
    assert whole["noise_multiplier"] > alone["noise_multiplier"]


def test_a_chance_that_uses_up_delta_is_refused(messages: Path) -> None:
    keys = ("privacy=dp-fedavg", "server.sampler=poisson", NOISE, "data.vocabulary_delta=1e-3")
    with pytest.raises(FedsimError, match=r"used up by the vocabulary.*data\.vocabulary_delta"):
        guarantee_of(messages, *keys)
    with pytest.raises(FedsimError, match="used up"):
        compose([Event("threshold", 1.0, chance=1e-5)], 1e-5)


def test_the_statement_says_whether_the_vocabulary_is_counted(messages: Path) -> None:
    said = guarantee_of(messages, "privacy=dp-fedavg", "server.sampler=poisson", NOISE, *SMALL)
    assert said["vocabulary"]["private"] is said["vocabulary"]["composed"] is True
    text = " ".join(as_text(said).split())
    assert "vocabulary counted in it: noisy counts of 234 people, of 5 different words" in text
    assert "seeded, a SIMULATION" in text
    assert "exact counts of the same people's words" not in text
    apart = guarantee_of(messages, "privacy=local", NOISE, *SMALL)
    assert apart["vocabulary"]["composed"] is False
    assert "release of its own" in apart["not_covered"]["the words"]
    exact = guarantee_of(messages, "privacy=local")
    assert exact["vocabulary"] == {"private": False, "word_users": 1}
