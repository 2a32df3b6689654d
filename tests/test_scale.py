"""Many users: what is read is not kept, few are scored of many, donors' text is one piece."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedsim.config import Config, load
from fedsim.data.recipes import Federation as Plan
from fedsim.data.store import Corpus
from fedsim.data.synthetic import synthesise
from fedsim.federation import open_federation
from fedsim.simulation import simulate


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic federation of 20,000 users."""
    folder = tmp_path_factory.mktemp("many") / "corpus"
    synthesise(folder, Plan(users=20_000, median_sentences=3), vocabulary=200, max_words=10)
    return folder


def mapped(file: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    maps = psutil.Process().memory_maps()
    return sum(part.rss for part in maps if part.path == str(file))


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say what is in memory")
def test_text_that_was_read_is_not_kept(many: Path) -> None:
    corpus = Corpus(many)
    before = [corpus.sequences(user).tokens.tolist() for user in range(0, corpus.users, 7)]
    assert mapped(corpus.folder / "tokens.npy") > 1e6
    corpus.forget_pages()
    for name in ("tokens", "sentence_offsets", "user_offsets"):
        assert mapped(corpus.folder / f"{name}.npy") == 0
    assert before == [corpus.sequences(user).tokens.tolist() for user in range(0, corpus.users, 7)]


def test_the_text_of_a_split_is_that_of_its_users(many: Path) -> None:
    corpus = Corpus(many)
    for split in ("donors", "test"):
        whole = corpus.split_sequences(split)
        users = [corpus.sequences(user, "all") for user in corpus.split(split)]
        assert len(users) > 300
        assert whole.tokens.tolist() == np.concatenate([u.tokens for u in users]).tolist()
        assert whole.lengths.tolist() == np.concatenate([u.lengths for u in users]).tolist()


def test_of_many_held_out_users_some_are_scored_always_the_same(many: Path) -> None:
    config = load("default", [f"data.path={many}", "data.vocabulary=200"])
    federation = open_federation(config)
    everybody = federation.corpus.split("test")
    drawn = federation.scored("test", 500, seed=1)
    assert len(set(drawn.tolist())) == 500
    assert drawn.tolist() == sorted(drawn.tolist())
    assert set(drawn.tolist()) <= set(everybody)
    assert drawn.tolist() == federation.scored("test", 500, seed=1).tolist()
    assert drawn.tolist() != federation.scored("test", 500, seed=2).tolist()
    # Uniform: the mean place of 500 draws without replacement from so many.
    places = (drawn - everybody.start) / len(everybody)
    assert abs(places.mean() - 0.5) < 5 * (1 / 12 / 500) ** 0.5
    assert federation.scored("test", len(everybody), seed=1).tolist() == list(everybody)


def test_a_run_and_its_baselines_score_the_same_users(tiny: str, tmp_path: Path) -> None:
    all_of_them = simulate(load(tiny, ["evaluation.trigram=true"]), tmp_path / "all", quiet=True)
    config: Config = load(tiny, ["evaluation.trigram=true", "evaluation.users=2"])
    run = simulate(config, tmp_path / "some", quiet=True)
    assert run.digest == all_of_them.digest  # scoring changes no model
    assert run.evaluations.users.max() <= 2
    chosen = open_federation(config).scored("test", 2, config.seed).tolist()
    users = run.table("users")
    models = ("fedavg", "trigram", "unigram", "word list")
    scored = users.groupby("model").user.apply(list).to_dict()
    assert scored == dict.fromkeys(models, chosen)
    # The counts are those of the full scoring, not another's from the cache.
    columns = ["model", "user"]
    whole = all_of_them.table("users").set_index(columns)
    assert whole.loc[users.set_index(columns).index].equals(users.set_index(columns))
    assert len(whole) > len(users)
