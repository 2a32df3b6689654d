"""The IID partition: the same sentences in the same sizes, dealt out from the seed alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import assert_same_record, fresh_strategy

from fedsim.config import Config, client_config, load
from fedsim.data.sequences import Sequences
from fedsim.data.shards import write_shards
from fedsim.engines.local import LocalGrid
from fedsim.engines.wire import to_record
from fedsim.errors import FedsimError
from fedsim.federation import Federation, open_federation
from fedsim.runs import Run
from fedsim.sections import FederationOptions
from fedsim.simulation import simulate


@pytest.fixture(scope="module")
def iid(config: Config) -> Config:
    """The tiny federation, dealt out."""
    return replace(config, federation=FederationOptions(partition="iid"))


def sentences(federation: Federation, user: int) -> list[bytes]:
    """A user's training text, one item a sentence."""
    return [s.tobytes() for s in federation.sequences(user)]


def everything(federation: Federation) -> Counter[bytes]:
    """The multiset of all training sentences."""
    return Counter(s for user in federation.population for s in sentences(federation, int(user)))


def assert_same(text: Sequences, other: Sequences) -> None:
    """The same sentences in the same order."""
    assert [s.tobytes() for s in text] == [s.tobytes() for s in other]


def test_the_same_sentences_in_the_same_sizes(config: Config, iid: Config) -> None:
    own, dealt = open_federation(config), open_federation(iid)
    assert everything(dealt) == everything(own), "canary holders' text included, held-out text not"
    assert np.array_equal(dealt.population, own.population)
    assert np.array_equal(dealt.sizes(own.population)[:, 0], own.sizes(own.population)[:, 0])
    kept = sum(sentences(dealt, int(u)) == sentences(own, int(u)) for u in own.population)
    assert kept == 0, "nobody has their own text back"


def test_sizes_are_those_of_the_text_that_was_dealt(iid: Config) -> None:
    dealt = open_federation(iid)
    counted = dealt.sizes(dealt.population)
    for user, (count, targets) in zip(dealt.population, counted, strict=True):
        text = dealt.sequences(int(user))
        assert (len(text), len(text.tokens) + len(text)) == (count, targets)


def test_a_round_looks_up_the_sizes_of_its_users_once(
    iid: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dealt user it takes as long as the text is."""
    strategy, _, federation = fresh_strategy(iid)
    asked: list[int] = []

    def sizes(users: np.ndarray, part: str = "train") -> np.ndarray:
        asked.extend(int(user) for user in users if part == "train")
        return type(federation).sizes(federation, users, part)

    monkeypatch.setattr(federation, "sizes", sizes)
    grid = LocalGrid("clients.app:app")
    strategy.start(grid, to_record(strategy.state.parameters), 2)
    assert sorted(asked) == sorted(int(u) for round in (1, 2) for u in strategy.cohort(round))


def test_every_process_deals_the_same_and_every_seed_another(iid: Config) -> None:
    here, there = open_federation(iid), open_federation(client_config(iid.for_clients().as_json()))
    other = open_federation(replace(iid, seed=2))
    user = int(here.population[3])
    assert sentences(here, user) == sentences(there, user)
    assert sentences(here, user) != sentences(other, user)


def test_who_is_scored_has_their_own_text(config: Config, iid: Config) -> None:
    own, dealt = open_federation(config), open_federation(iid)
    for user in (*own.corpus.split("validation"), *own.corpus.split("test")):
        assert np.array_equal(
            dealt.sequences(user, "all").tokens, own.sequences(user, "all").tokens
        )
    assert np.array_equal(dealt.sequences(0, "heldout").tokens, own.sequences(0, "heldout").tokens)


@pytest.mark.parametrize("partition", ["user", "iid"])
def test_the_owners_of_a_canary_are_those_whose_text_has_it(config: Config, partition: str) -> None:
    federation = open_federation(
        replace(config, federation=FederationOptions.model_validate({"partition": partition}))
    )
    for canary in federation.planted.canaries:
        copy = np.array(canary.words, np.int32).tobytes()
        found = Counter(
            {int(u): sentences(federation, int(u)).count(copy) for u in federation.population}
        )
        assert Counter(federation.owners(canary).tolist()) == +found
        assert found.total() == canary.users * canary.repeats


@pytest.mark.slow
def test_engines_train_the_same_model_on_it(iid: Config, tmp_path: Path) -> None:
    local = simulate(iid, tmp_path / "local", quiet=True)
    engine = iid.engine.model_copy(update={"name": "pool", "workers": 2})
    pool = simulate(replace(iid, engine=engine), tmp_path / "pool", quiet=True)
    assert_same_record(local, pool)


def test_holders_in_the_record_are_the_new_owners(
    iid: Config, finished: Run, tmp_path: Path
) -> None:
    run = simulate(iid, tmp_path / "run", quiet=True)
    assert run.digest != finished.digest
    assert not run.clients.canary_user.any(), "all text is mixed, so nobody's is a canary's"
    federation = open_federation(iid)
    rounds = np.bincount(run.clients.user, minlength=federation.users)
    last = run.exposure[run.exposure["round"] == run.exposure["round"].max()]
    for canary, told in zip(federation.planted.canaries, last.holder_participations, strict=True):
        assert told == sum(rounds[u] for u in set(federation.owners(canary).tolist()))


@pytest.mark.parametrize("mechanism", ["dp-fedavg", "blt", "local"])
def test_a_guarantee_for_users_who_are_no_people_is_refused(tiny: str, mechanism: str) -> None:
    with pytest.raises(FedsimError, match=r"spread over all users; set federation\.partition=user"):
        load(tiny, ["federation.partition=iid", f"privacy={mechanism}"])
    assert load(tiny, ["federation.partition=iid", "privacy=dp-sgd"]).privacy.name == "dp-sgd"


def test_shards_and_deployments_cannot_deal_out(iid: Config, tiny: str, tmp_path: Path) -> None:
    node, _ = write_shards(open_federation(iid).corpus, tmp_path / "shards", 2)
    with pytest.raises(FedsimError, match=r"is a shard.*set federation\.partition=user"):
        open_federation(iid, str(node))
    with pytest.raises(FedsimError, match="under engine 'deploy'"):
        load(tiny, ["federation.partition=iid", "engine=deploy"])
